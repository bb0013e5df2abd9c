#!/usr/bin/env python3
"""Is a warm answer the cold one? Random histories of turns against fresh prefills, on the real model.

    .venv/bin/python scripts/exactness.py [--histories 200] [--mode deterministic|default|both] [--seed 1]

A history is a session on which prefixes are edited at random (insert, delete, replace; at the head, in the middle, at
the tail; unicode; empty), suffixes are added and replaced, and answers are decoded. After every EnsurePrefix the counts
must add up, and `reused` must be exactly the longest beginning that was ever computed in that workspace. After the last
turn the logits are compared with those of one fresh prefill of the same tokens: bit for bit in deterministic mode. In the
default mode the difference must not be larger than the largest that cold runs of other layouts show in the same run: the
last tokens one by one, odd chunks, and another branch's cells in between.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sessiond.adapters.base import ContextSettings, Sampling
from sessiond.daemon.catalog import ModelCatalog
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.content import common
from sessiond.daemon.sessions.registry import OpenRequest, SessionRegistry
from sessiond.daemon.sessions.session import DecodeRequest, Session
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import PrefixStatus, Timings
from sessiond.daemon.sessions.suffix import SuffixRequest
from sessiond.daemon.workspace.segment import Segment

WINDOW = 1024
"""Tokens. Long enough for several micro-batches, short enough for many histories."""
SINGLES = 6
"""Tokens that one cold run computes one by one at the end."""
ODD = (101, 7, 64, 300)
"""Chunks of another one."""

WORDS = (
    "def class return import self None value = == ( ) : , . [ ] { } # TODO name path open read write for in if else "
    "while try except raise with as lambda yield <|im_end|> <|im_start|>system 東京 naïve 🙂🙃 ß Ωmega \t \n \r\n    "
    "0 1 42 3.14 foo bar baz"
).split(" ")


@dataclass
class Findings:
    """What was seen, over all histories of a mode."""

    histories: int = 0
    turns: int = 0
    wrong_counts: list[str] = field(default_factory=list[str])
    differing: int = 0
    """Histories whose logits are not those of the fresh prefill, bit for bit."""
    greedy_differing: int = 0
    """Histories whose likeliest token is another one."""
    greedy_differing_cold: int = 0
    """Of the cold runs of other layouts, three for each history, those whose likeliest token is another one."""
    largest: float = 0.0
    largest_cold: float = 0.0

    def faults(self, mode: str) -> list[str]:
        """What must not be."""
        told = list(self.wrong_counts)
        if mode == "deterministic" and self.differing:
            told.append(f"{self.differing} histories differ from their fresh prefill")
        if mode == "default" and self.largest > self.largest_cold:
            told.append(
                f"a logit differs by {self.largest:.3f}, and between cold runs by {self.largest_cold:.3f}"
            )
        return told


def some_text(rng: random.Random, most: int) -> str:
    """Words that look like code, with what tokenizers trip over."""
    return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(most + 1)))


def edited(rng: random.Random, text: str) -> str:
    """The text with one edit at the head, in the middle or at the tail; now and then it is emptied."""
    if rng.random() < 0.05:
        return ""
    at = rng.choice([0, len(text) // 2, len(text), rng.randrange(len(text) + 1)])
    cut = rng.choice([0, 0, 1, 5, 40])
    return text[:at] + rng.choice(["", some_text(rng, 6), some_text(rng, 30)]) + text[at + cut :]


class History:
    """One session and its random turns."""

    def __init__(self, session: Session, rng: random.Random, findings: Findings) -> None:
        self._session = session
        self._rng = rng
        self._findings = findings
        self._texts = [some_text(rng, 40) for _ in range(rng.randrange(1, 5))]
        self._ever: list[list[int]] = [[]]
        """All that was computed, as far as it went."""

    async def run(self) -> None:
        """Several turns; the session is left with something in it."""
        await self._prefix()
        for _ in range(self._rng.randrange(2, 6)):
            await self._rng.choice([self._prefix, self._suffix, self._suffix, self._answer])()
        if not self._session.tokens:
            self._texts = ["x = 1\n"]
            await self._prefix()

    async def _prefix(self) -> None:
        which = self._rng.randrange(len(self._texts))
        self._texts[which] = edited(self._rng, self._texts[which])
        segments = tuple(Segment(str(i), "text", text) for i, text in enumerate(self._texts))
        status = await self._session.ensure_prefix(PrefixRequest(segments), Timings())
        self._check(status)
        self._ever.append(self._session.tokens)

    def _check(self, status: PrefixStatus) -> None:
        self._findings.turns += 1
        told = self._findings.wrong_counts
        if status.reused_tokens + status.restored_tokens + status.prefilled_tokens != status.prefix_tokens:
            told.append(f"the counts do not add up: {status}")
        now = self._session.tokens
        stood = max(common(before, now) for before in self._ever)
        if status.reused_tokens + status.restored_tokens != stood:
            told.append(f"{status.reused_tokens} tokens were reused, and {stood} stood")
        if status.prefix_tokens != len(now) or status.resident_tokens != len(now):
            told.append(f"the sizes are wrong: {status}")

    async def _suffix(self) -> None:
        request = SuffixRequest(some_text(self._rng, 25), replace=self._rng.random() < 0.5)
        await self._session.prefill_suffix(request, Timings())
        self._ever.append(self._session.tokens)
        self._findings.turns += 1

    async def _answer(self) -> None:
        if not self._session.tokens:
            return
        request = DecodeRequest(Sampling(), self._rng.randrange(1, 12))
        async for _chunk in self._session.decode(request, Timings()):
            pass
        self._ever.append(self._session.tokens)
        self._findings.turns += 1


async def fresh_logits(
    session: Session, tokens: list[int], stops: Sequence[int] = (), *, beside: bool = False
) -> array[float]:
    """The logits after a prefill of these tokens in a new context, computed up to each of `stops` in turn; `beside`
    another branch that is computed in between.
    """
    name, engine = f"fresh-{secrets.token_hex(4)}", session.engine
    branches = [name, f"{name}-other"]
    for branch in branches:
        await engine.open(branch, name, session.config.context)
    try:
        for end in sorted({stop for stop in stops if 0 < stop < len(tokens)}):
            await engine.logits(name, tokens[:end])
            if beside:
                await engine.logits(branches[1], tokens[::-1][:end])
        return array("f", await engine.logits(name, tokens))
    finally:
        for branch in branches:
            await engine.close(branch)


async def other_layouts(session: Session, tokens: list[int]) -> list[array[float]]:
    """Cold runs that differ from one prefill in their layout alone."""
    size = len(tokens)
    odd = [sum(ODD[: index + 1]) for index in range(len(ODD))]
    return [
        await fresh_logits(session, tokens, range(size - SINGLES, size)),
        await fresh_logits(session, tokens, odd),
        await fresh_logits(session, tokens, [size // 3, 2 * size // 3], beside=True),
    ]


async def examine(mode: str, histories: int, seed: int) -> Findings:
    """Run the histories of one mode."""
    registry = SessionRegistry(ModelCatalog("", []).resolve, max_sessions=histories + 1)
    findings = Findings()
    try:
        for number in range(histories):
            rng = random.Random(f"{seed}-{number}")
            config = SessionConfig(
                context=ContextSettings(
                    num_ctx=WINDOW, num_ubatch=128, deterministic=mode == "deterministic"
                ),
                prompt_format=rng.choice(["", "raw"]),
            )
            # A workspace of its own, so that what other histories computed is not there.
            session, _ = await registry.open(OpenRequest(Path(f"/history {number}"), "", "", config))
            await History(session, rng, findings).run()
            await _compare(session, findings, cold_too=mode == "default")
            await registry.close(session.name)
    finally:
        await registry.stop()
    return findings


async def _compare(session: Session, findings: Findings, *, cold_too: bool) -> None:
    tokens = session.tokens
    warm = array("f", await session.engine.logits(session.id, tokens))
    cold = await fresh_logits(session, tokens)
    findings.histories += 1
    findings.differing += warm.tobytes() != cold.tobytes()
    findings.greedy_differing += _likeliest(warm) != _likeliest(cold)
    findings.largest = max(findings.largest, _apart(warm, cold))
    if cold_too:
        for other in await other_layouts(session, tokens):
            findings.greedy_differing_cold += _likeliest(other) != _likeliest(cold)
            findings.largest_cold = max(findings.largest_cold, _apart(other, cold))


def _likeliest(logits: array[float]) -> int:
    return max(range(len(logits)), key=logits.__getitem__)


def _apart(a: array[float], b: array[float]) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def main() -> int:
    """Run and print one JSON object for each mode; status 1 if a rule was broken."""
    parser = argparse.ArgumentParser(description="Compare warm answers with cold ones.")
    parser.add_argument("--histories", type=int, default=200)
    parser.add_argument("--mode", choices=["deterministic", "default", "both"], default="both")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    faults: list[str] = []
    for mode in ["deterministic", "default"] if asked.mode == "both" else [asked.mode]:
        findings = asyncio.run(examine(mode, asked.histories, asked.seed))
        faults += findings.faults(mode)
        sys.stdout.write(json.dumps({"mode": mode, **vars(findings)}) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
