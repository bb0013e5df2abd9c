"""What the daemon keeps of an engine's answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from tests.daemon.engine.scripted import load

from sessiond.adapters.base import ModelSettings
from sessiond.daemon.engine import engine as engine_module
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.engine.process import EngineProcess

_MODEL = load("scripted-kv:")


@pytest_asyncio.fixture
async def engine() -> AsyncGenerator[Engine, None]:
    process = await EngineProcess.start()
    yield await Engine.load(process, "scripted-kv", "scripted-kv:", ModelSettings(), lambda _: None)
    await process.stop(patience=0.5)


@pytest.fixture
def asked(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that went to the process."""
    texts: list[str] = []
    real = engine.process.ask

    async def ask(command: wire.AnyCommand) -> wire.Answer:
        if isinstance(command, wire.Tokenize):
            texts.extend(command.texts)
        return await real(command)

    monkeypatch.setattr(engine.process, "ask", ask)
    return texts


async def test_a_text_is_tokenized_once(engine: Engine, asked: list[str]) -> None:
    for texts in (["the one", "the other"], ["the other", "the third", "the third"]):
        found = await engine.tokenize(texts)
        assert found == [_MODEL.tokenize(text, parse_special=False) for text in texts]
    assert asked == ["the one", "the other", "the third"]


async def test_special_tokens_are_read_only_where_asked_for(engine: Engine) -> None:
    text = "<|im_end|>"
    [plain], [special] = [await engine.tokenize([text], parse_special=each) for each in (False, True)]
    assert len(plain) > 1 == len(special)


async def test_the_cache_is_bounded(
    engine: Engine, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "CACHED_TOKENS", 8)
    for text in ("abcd", "efgh", "ijkl", "abcd"):
        await engine.tokenize([text])
    assert asked == ["abcd", "efgh", "ijkl", "abcd"]
    assert engine._cached == sum(len(packed) // 4 for packed in engine._cache.values()) <= 8


async def test_what_one_caller_counts_on_another_may_push_out(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "CACHED_TOKENS", 8)
    await engine.tokenize(["abcd"])
    big = asyncio.create_task(engine.tokenize(["efghijkl", "mnop"]))
    await asyncio.sleep(0)
    [known, new] = await engine.tokenize(["abcd", "qrst"])
    await big
    assert (len(known), len(new)) == (4, 4)


async def test_frames_are_tokens(engine: Engine, asked: list[str]) -> None:
    framing = await engine.framing("chatml", ["system", "user"])
    assert len(framing.runs) == len(framing.pieces) == 3
    assert list(framing.runs[0]) == _MODEL.tokenize(framing.pieces[0], parse_special=True)
    assert await engine.framing("chatml", ["system", "user"]) is framing
