"""Random histories of turns, forks, saves and restores on two daemons: a session is always what a naive model says, and so are
its next logits.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.daemon.engine.scripted import fresh_logits
from tests.daemon.sessions.snapshot.desk import Desk, answer, folder_at, logits

from sessiond.daemon.sessions.session import Session
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import Timings
from sessiond.daemon.sessions.suffix import SuffixRequest
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1.errors import ContextOverflow

STEPS = 60
WINDOW = 256
WORDS = ("AAAA", "BB", "the ", "é", "CCCCCCCC")


class _History:
    def __init__(self, desks: list[Desk], seed: int) -> None:
        self.rng = random.Random(seed)
        self.desks = desks
        self.live: list[tuple[Desk, Session, list[int]]] = []
        self.files: list[tuple[Path, list[int]]] = []
        self.apart = 0

    async def step(self) -> None:
        """Something happens to one session; then it is what it should be."""
        for desk in self.desks:
            if sum(there is desk for there, _, _ in self.live) < 2:
                self.live.append((desk, await desk.open(num_ctx=WINDOW), []))
        at = self.rng.randrange(len(self.live))
        desk, session, tokens = self.live[at]
        act = self.rng.choice(
            [self._prefix, self._suffix, self._answer, self._save, self._restore, self._restore]
        )
        try:
            tokens = await act(desk, session, tokens)
        except ContextOverflow:
            assert act in (self._prefix, self._suffix, self._answer)
        self.live[at] = desk, session, tokens
        assert session.tokens == tokens
        if tokens:
            assert await logits(desk, session) == fresh_logits(tokens)
        if self.rng.random() < 0.1:
            await self._fork(desk, session, tokens)
        if self.rng.random() < 0.1:
            await desk.registry.memory.give_way()
        while len(self.live) > 6:
            desk, gone, _ = self.live.pop(self.rng.randrange(len(self.live)))
            await desk.registry.close(gone.name)

    async def _prefix(self, desk: Desk, session: Session, _tokens: list[int]) -> list[int]:
        texts = [
            "".join(self.rng.choices(WORDS, k=self.rng.randrange(1, 20)))
            for _ in range(self.rng.randrange(4))
        ]
        segments = tuple(Segment(f"s{i}", "file", text) for i, text in enumerate(texts))
        await session.ensure_prefix(PrefixRequest(segments), Timings())
        return [token for run in await session.engine.tokenize(texts) for token in run]

    async def _suffix(self, desk: Desk, session: Session, tokens: list[int]) -> list[int]:
        text = "".join(self.rng.choices(WORDS, k=3))
        await session.prefill_suffix(SuffixRequest(text), Timings())
        return tokens + (await session.engine.tokenize([text]))[0]

    async def _answer(self, desk: Desk, session: Session, tokens: list[int]) -> list[int]:
        return tokens + await answer(session, 4) if tokens else tokens

    async def _save(self, desk: Desk, session: Session, tokens: list[int]) -> list[int]:
        if not tokens:  # or the empty ones would be most of them
            return await self._prefix(desk, session, tokens)
        self.files.append((await desk.save(session, f"s{len(self.files)}"), tokens))
        return tokens

    async def _restore(self, desk: Desk, session: Session, tokens: list[int]) -> list[int]:
        if not self.files:
            return tokens
        path, wanted = self.rng.choice(self.files)
        restored = await desk.snapshots.restore(session, path)
        # Of a piece that stands in part already, the rest is computed.
        assert restored.computed < len(wanted) or not restored.computed
        self.apart += restored.apart
        return wanted

    async def _fork(self, desk: Desk, session: Session, tokens: list[int]) -> None:
        fork = await desk.registry.fork(session.name, "")
        self.live.append((desk, fork, tokens))


@pytest.mark.parametrize("seed", range(4))
async def test_any_history(tmp_path: Path, seed: int) -> None:
    desks = [Desk(folder_at(tmp_path / name)) for name in ("one", "two")]
    try:
        history = _History(desks, seed)
        for _ in range(STEPS):
            await history.step()
        assert history.apart > 0 and len(history.files) > 3
        for desk, session, _ in history.live:
            await session.engine.check()
            await desk.registry.close(session.name)
        assert all(desk.registry.memory.records() == [] for desk in desks)
    finally:
        for desk in desks:
            await desk.registry.stop()
