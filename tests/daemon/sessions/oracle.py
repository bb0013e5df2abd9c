"""What a context says that has seen nothing else."""

from __future__ import annotations

import contextlib
import secrets
from array import array
from collections.abc import AsyncGenerator
from typing import Protocol

from tests.daemon.engine.scripted import fresh_answer, fresh_logits, load

from sessiond.daemon.sessions.session import Session


class Oracle(Protocol):
    """What sessions are compared with."""

    async def tokenize(self, session: Session, text: str) -> list[int]:
        """The tokens of a text."""
        ...

    async def logits(self, session: Session, tokens: list[int]) -> bytes:
        """The logits after these tokens."""
        ...

    async def answer(self, session: Session, tokens: list[int], most: int) -> list[int]:
        """The greedy answer to these tokens, without its end token."""
        ...


class ScriptedOracle:
    """The scripted model is at hand here too."""

    _model = load("scripted-kv:")

    async def tokenize(self, session: Session, text: str) -> list[int]:
        return self._model.tokenize(text, parse_special=False)

    async def logits(self, session: Session, tokens: list[int]) -> bytes:
        return fresh_logits(tokens)

    async def answer(self, session: Session, tokens: list[int], most: int) -> list[int]:
        return fresh_answer(tokens, most)


class EngineOracle:
    """Asks the session's own engine, in a context that has seen nothing else."""

    def __init__(self) -> None:
        self._logits: dict[tuple[int, ...], bytes] = {}
        self._answers: dict[tuple[int, ...], list[int]] = {}
        """The longest that was asked for."""

    async def tokenize(self, session: Session, text: str) -> list[int]:
        [tokens] = await session.engine.tokenize([text])
        return tokens

    async def logits(self, session: Session, tokens: list[int]) -> bytes:
        if tuple(tokens) not in self._logits:
            async with _fresh(session) as branch:
                self._logits[tuple(tokens)] = await session.engine.logits(branch, tokens)
        return self._logits[tuple(tokens)]

    async def answer(self, session: Session, tokens: list[int], most: int) -> list[int]:
        known = self._answers.get(tuple(tokens), [])
        if len(known) < most:
            async with _fresh(session) as branch:
                known = self._answers[tuple(tokens)] = await self._generate(session, branch, tokens, most)
        return known[:most]

    @staticmethod
    async def _generate(session: Session, branch: str, tokens: list[int], most: int) -> list[int]:
        found: list[int] = []
        while len(found) < most:
            logits = array("f", await session.engine.logits(branch, [*tokens, *found]))
            token = max(range(len(logits)), key=logits.__getitem__)
            if token in session.engine.facts.vocab.end_tokens:
                break
            found.append(token)
        return found


@contextlib.asynccontextmanager
async def _fresh(session: Session) -> AsyncGenerator[str, None]:
    """A branch in an arena of its own."""
    branch = f"fresh-{secrets.token_hex(4)}"
    await session.engine.open(branch, branch, session.config.context)
    try:
        yield branch
    finally:
        await session.engine.close(branch)
