#!/usr/bin/env python3
"""Is a warm answer the cold one? Random histories of turns against fresh prefills, on the real model.

    .venv/bin/python scripts/exactness.py [--histories 200] [--mode deterministic|default|both] [--seed 1]

A history is a session on which prefixes are edited at random (insert, delete, replace; at the head, in the middle, at
the tail; unicode; empty), suffixes are added and replaced, and answers are decoded. After every turn the counts must
add up and `reused` must be the true longest common prefix of the tokens; after the last one the logits are compared
with those of one fresh prefill of the same tokens: bit for bit in deterministic mode. In the default mode the
difference must stay within TOLERANCE, and is put beside that of two cold runs of different layout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import sys
from array import array
from dataclasses import dataclass, field

from sessiond.adapters.base import ContextSettings, Sampling
from sessiond.daemon.catalog import ModelCatalog
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.registry import OpenRequest, SessionRegistry
from sessiond.daemon.sessions.session import DecodeRequest, Session
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import PrefixStatus, Timings
from sessiond.daemon.sessions.suffix import SuffixRequest
from sessiond.daemon.workspace.segment import Segment

TOLERANCE = 2.0
"""The largest difference of one logit in the default mode. SmolLM2's logits span some 40. Wider than it should be: with
flash attention off, two cold runs of different layout were seen 0.71 apart, and warm and cold 0.80. It is to be
narrowed to what cold runs show once 200 histories have been counted."""
WINDOW = 1024
"""Tokens. Long enough for several micro-batches, short enough for many histories."""
SINGLES = 6
"""Tokens that the second cold run computes one by one at the end."""

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
    largest: float = 0.0
    largest_cold: float = 0.0

    def faults(self, mode: str) -> list[str]:
        """What must not be."""
        told = list(self.wrong_counts)
        if mode == "deterministic" and self.differing:
            told.append(f"{self.differing} histories differ from their fresh prefill")
        if mode == "default" and self.largest > TOLERANCE:
            told.append(f"a logit differs by {self.largest:.3f}, and {TOLERANCE} is the tolerance")
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
        self._seen: list[int] = []
        """The session's tokens before the turn."""

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
        before = self._session.tokens
        status = await self._session.ensure_prefix(PrefixRequest(segments), Timings())
        self._check(status, before)

    def _check(self, status: PrefixStatus, before: list[int]) -> None:
        self._findings.turns += 1
        told = self._findings.wrong_counts
        if status.reused_tokens + status.restored_tokens + status.prefilled_tokens != status.prefix_tokens:
            told.append(f"the counts do not add up: {status}")
        now = self._session.tokens
        common = next((i for i, (a, b) in enumerate(zip(before, now, strict=False)) if a != b), None)
        least = min(len(before), len(now)) if common is None else common
        # What an earlier turn left behind may be reused beyond what stood last; less never.
        if status.reused_tokens < least:
            told.append(f"{status.reused_tokens} tokens were reused, and {least} stood")
        if status.prefix_tokens != len(now) or status.resident_tokens != len(now):
            told.append(f"the sizes are wrong: {status}")

    async def _suffix(self) -> None:
        request = SuffixRequest(some_text(self._rng, 25), replace=self._rng.random() < 0.5)
        await self._session.prefill_suffix(request, Timings())
        self._findings.turns += 1

    async def _answer(self) -> None:
        if not self._session.tokens:
            return
        request = DecodeRequest(Sampling(), self._rng.randrange(1, 12))
        async for _chunk in self._session.decode(request, Timings()):
            pass
        self._findings.turns += 1


async def fresh_logits(session: Session, tokens: list[int], *, singles: int = 0) -> array[float]:
    """The logits after one prefill of these tokens in a new context, the last `singles` one by one."""
    branch = f"fresh-{secrets.token_hex(4)}"
    await session.engine.open(branch, branch, session.config.context)
    try:
        for end in range(max(1, len(tokens) - singles), len(tokens)):
            await session.engine.logits(branch, tokens[:end])
        return array("f", await session.engine.logits(branch, tokens))
    finally:
        await session.engine.close(branch)


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
            session, _ = await registry.open(OpenRequest(None, "", str(number), config))
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
        other = await fresh_logits(session, tokens, singles=SINGLES)
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
        sys.stdout.write(json.dumps({"mode": mode, "tolerance": TOLERANCE, **vars(findings)}) + "\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
