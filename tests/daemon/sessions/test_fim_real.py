"""Fill in the middle with real vocabularies, on small random weights: tokens are what counts here, not sense."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.adapters.real_vocabularies import FIM, write

from sessiond.adapters.base import ContextSettings, Sampling
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.fim import AFTER_TOKENS, FimRequest, tokenize_inside
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.session import DecodeRequest, Session
from sessiond.daemon.sessions.statuses import Chunk, Timings
from sessiond.daemon.sessions.suffix import SuffixRequest

pytestmark = pytest.mark.model

_FILE = Path(__file__).with_name("world.py").read_text()
_TYPED = "        for name, session in sorted(self.sessions.items()):\n            session.close()\n"


@pytest.fixture(scope="module")
def coder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """As Qwen2.5-Coder tokenizes."""
    return str(write(tmp_path_factory.mktemp("models") / "coder.gguf", "qwen2", added=FIM))


@pytest_asyncio.fixture
async def registry() -> AsyncGenerator[SessionRegistry, None]:
    async def same(model: str) -> str:
        return model

    made = SessionRegistry(same, 16, default_num_ctx=2048)
    yield made
    await made.stop()


async def _opened(registry: SessionRegistry, model: str, key: str = "") -> Session:
    config = SessionConfig(context=ContextSettings(num_ctx=2048, num_threads=1, num_threads_batch=1))
    session, _ = await registry.open(OpenRequest(None, model, key, config))
    return session


def _fill(before: str, after: str, *, suffix_first: bool = False) -> SuffixRequest:
    return SuffixRequest(fim=FimRequest(before, after, "src/a.py", suffix_first=suffix_first), replace=True)


async def test_the_marks_are_those_of_the_vocabulary(registry: SessionRegistry, coder: str) -> None:
    session = await _opened(registry, coder)
    vocab = session.engine.facts.vocab
    marks = vocab.fim
    assert marks is not None and session.engine.facts.capabilities.fim
    found = await session.engine.tokenize(["".join((FIM[0], FIM[2], FIM[1], FIM[5]))], parse_special=True)
    assert found == [[marks.prefix, marks.suffix, marks.middle, marks.file]]
    ends = await session.engine.tokenize(["".join(FIM[3:]), "<|endoftext|>"], parse_special=True)
    assert {token for run in ends for token in run} <= vocab.end_tokens
    await session.prefill_suffix(_fill(f"x = {FIM[1]}", "\n"), Timings())
    assert session.tokens.count(marks.middle) == 1, "a mark in a file is plain text"


@pytest.mark.parametrize(
    ("name", "marks"),
    [
        ("starcoder", ("<fim_prefix>", "<fim_suffix>", "<fim_middle>")),
        ("deepseek-coder", ("<\uff5cfim▁begin\uff5c>", "<\uff5cfim▁hole\uff5c>", "<\uff5cfim▁end\uff5c>")),
    ],
)
async def test_other_families(
    registry: SessionRegistry, tmp_path: Path, name: str, marks: tuple[str, ...]
) -> None:
    session = await _opened(registry, str(write(tmp_path / "m.gguf", name)))
    fim = session.engine.facts.vocab.fim
    assert fim is not None
    found = await session.engine.tokenize(["".join(marks)], parse_special=True)
    assert found == [[fim.prefix, fim.suffix, fim.middle]]
    assert fim.file is None
    await session.prefill_suffix(_fill("x", "y"), Timings())
    assert session.tokens[-1] == fim.middle


async def test_no_space_comes_in_where_a_tokenizer_puts_one(
    registry: SessionRegistry, tmp_path: Path
) -> None:
    session = await _opened(registry, str(write(tmp_path / "m.gguf", "llama-spm", added=FIM)))
    assert session.engine.facts.vocab.opens_with_space
    texts = ["x = 1", "    y", "\n\n", "é", " "]
    for text, run in zip(texts, await tokenize_inside(session.engine, texts), strict=True):
        assert b"".join(await session.engine.pieces(run)).decode() == text


@pytest.mark.parametrize("suffix_first", [False, True])
async def test_typing_into_a_file(registry: SessionRegistry, coder: str, suffix_first: bool) -> None:
    """The figures of ADR 17, by Qwen2's vocabulary: what each key computes, and that the answer is a fresh session's."""
    session = await _opened(registry, coder, str(suffix_first))
    at = _FILE.index("\n    ", len(_FILE) * 2 // 3) + 1
    first = await session.prefill_suffix(_fill(_FILE[:at], _FILE[at:], suffix_first=suffix_first), Timings())
    assert first.fim_before_bytes < at, "the file fits whole"
    computed: list[int] = []
    for count in range(1, len(_TYPED) + 1):
        request = _fill(_FILE[:at] + _TYPED[:count], _FILE[at:], suffix_first=suffix_first)
        computed.append((await session.prefill_suffix(request, Timings())).prefilled_tokens)
    print(f"{suffix_first=}: {sum(computed) / len(computed):.1f} tokens a key, at most {max(computed)}")
    after = len((await session.engine.tokenize([_FILE[at:][: first.fim_after_bytes]]))[0])
    most = 16 + (0 if suffix_first else after + 1)
    assert max(computed) <= most <= AFTER_TOKENS + 17, f"{computed} for {after} tokens after the cursor"
    assert sum(computed) / len(computed) <= most - 10

    fresh = await _opened(registry, coder, "fresh")
    request = _fill(_FILE[:at] + _TYPED, _FILE[at:], suffix_first=suffix_first)
    answers = [await _answer(each, request) for each in (session, fresh)]
    assert answers[0] == answers[1]
    assert session.tokens == fresh.tokens


async def _answer(session: Session, request: SuffixRequest) -> list[int]:
    parts = session.complete(None, request, DecodeRequest(Sampling(), 8), Timings())
    return [token async for part in parts if isinstance(part, Chunk) for token in part.token_ids]
