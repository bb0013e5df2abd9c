"""Fill in the middle: what stands in the context, and that typing computes little of it again."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from tests.daemon.engine.scripted import load
from tests.daemon.sessions.conftest import Opener

from sessiond.adapters.base import ContextSettings, Sampling
from sessiond.daemon.sessions.content import common
from sessiond.daemon.sessions.fim import AFTER_TOKENS, ANSWER_TOKENS, LEAST_TEXT, FimRequest
from sessiond.daemon.sessions.session import DecodeRequest, Session
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import Chunk, SuffixStatus, Timings
from sessiond.daemon.sessions.suffix import MessageInput, SuffixRequest, build_suffix
from sessiond.daemon.sessions.window import chunk_characters
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1.errors import ContextOverflow, InvalidInput, UnsupportedFeature

FIM = "scripted-kv:fim"
LARGE = ContextSettings(num_ctx=2048)
_MODEL = load(FIM)
_CODE = "".join(f"    value = name[{index}]  # of the {index}th line\n" for index in range(400))


def _special(text: str) -> list[int]:
    return _MODEL.tokenize(text, parse_special=True)


def _plain(text: str) -> list[int]:
    return _MODEL.tokenize(text, parse_special=False)


def _fill(before: str, after: str = "", *, path: str = "", suffix_first: bool = False) -> SuffixRequest:
    return SuffixRequest(fim=FimRequest(before, after, path, suffix_first=suffix_first), replace=True)


async def _ensure(session: Session, text: str) -> None:
    await session.ensure_prefix(PrefixRequest((Segment("text", "text", text),)), Timings())


async def _put(session: Session, request: SuffixRequest) -> SuffixStatus:
    return await session.prefill_suffix(request, Timings())


async def _answer(session: Session, suffix: SuffixRequest, most: int) -> list[int]:
    parts = [
        part async for part in session.complete(None, suffix, DecodeRequest(Sampling(), most), Timings())
    ]
    return [token for part in parts if isinstance(part, Chunk) for token in part.token_ids]


@pytest.mark.parametrize("prompt_format", ["", "raw"])
async def test_the_texts_stand_between_their_marks_behind_the_prefix(
    opened: Opener, prompt_format: str
) -> None:
    session = await opened(FIM, prompt_format=prompt_format)
    await _ensure(session, "be brief")
    prefix = session.tokens
    await _put(session, _fill("x = <|fim_middle|>", "\ny = 2"))
    assert session.tokens == [
        *prefix,
        *_special("<|fim_prefix|>"),
        *_plain("x = <|fim_middle|>"),
        *_special("<|fim_suffix|>"),
        *_plain("\ny = 2"),
        *_special("<|fim_middle|>"),
    ]
    await _put(session, _fill("x", "y", path="src/a.py", suffix_first=True))
    assert session.tokens == [
        *prefix,
        *_special("<|file_sep|>"),
        *_plain("src/a.py\n"),
        *_special("<|fim_suffix|>"),
        *_plain("y"),
        *_special("<|fim_prefix|>"),
        *_plain("x"),
        *_special("<|fim_middle|>"),
    ]


async def test_without_a_prefix_the_opening_token_stands_first(opened: Opener) -> None:
    session = await opened("scripted-kv:fim,bos")
    await _put(session, _fill("x"))
    opening, *rest = session.tokens
    assert opening == _MODEL.facts.vocab.bos
    assert rest == _special("<|fim_prefix|>x<|fim_suffix|><|fim_middle|>")


async def test_a_model_without_the_tokens(opened: Opener) -> None:
    session = await opened()
    assert not session.engine.facts.capabilities.fim
    with pytest.raises(UnsupportedFeature) as caught:
        await _put(session, _fill("x"))
    assert caught.value.feature == "fim"


async def test_what_is_filled_in_is_no_message(opened: Opener) -> None:
    session = await opened(FIM)
    await _ensure(session, "be brief")
    assert len(await _answer(session, _fill("x"), 3)) <= 3
    standing = session.tokens
    for request in (SuffixRequest("and?"), SuffixRequest(messages=(MessageInput("user", "and?"),))):
        with pytest.raises(InvalidInput) as caught:
            await _put(session, request)
        assert [violation.field for violation in caught.value.violations] == ["suffix.mode"]
    assert session.tokens == standing
    await _put(session, SuffixRequest(fim=FimRequest("y", "")))
    assert session.tokens == [*standing, *_special("<|fim_prefix|>y<|fim_suffix|><|fim_middle|>")]
    await _put(session, SuffixRequest("a question", replace=True))
    assert session.tokens[-3:] == _special("<|im_end|>\n<|im_start|>assistant\n")[-3:]


async def test_a_window_leaves_room_for_the_answer(opened: Opener) -> None:
    session = await opened(FIM, key="usual", context=LARGE)
    status = await _put(session, _fill(_CODE, _CODE))
    assert status.available_tokens >= ANSWER_TOKENS
    before = _plain(_CODE[-status.fim_before_bytes :])
    assert 600 < len(before) < 2048 - ANSWER_TOKENS - AFTER_TOKENS
    after = _plain(_CODE[: status.fim_after_bytes])
    assert AFTER_TOKENS // 3 <= len(after) <= AFTER_TOKENS
    assert session.tokens[-1 - len(after) : -1] == after
    said = await opened(FIM, key="said", context=LARGE)
    await _answer(said, _fill(_CODE, _CODE), 1000)
    assert len(said.tokens) <= 2048


@pytest.mark.parametrize("most", [2048, 2048 - LEAST_TEXT - 2])
async def test_no_room_for_a_window(opened: Opener, most: int) -> None:
    session = await opened(FIM, context=LARGE)
    with pytest.raises(ContextOverflow) as caught:
        await _answer(session, _fill("x", "y"), most)
    assert caught.value.stage == "suffix"
    assert caught.value.additional_tokens > 2048
    assert session.tokens == []


def _typed(rng: random.Random, turns: int) -> list[tuple[str, str]]:
    """The texts around a cursor, as somebody types, deletes, and goes elsewhere now and then."""
    at = rng.randrange(len(_CODE))
    before, after = _CODE[:at], _CODE[at:]
    found: list[tuple[str, str]] = []
    for _ in range(turns):
        if rng.random() < 0.02:
            at = rng.randrange(len(before + after))
            before, after = (before + after)[:at], (before + after)[at:]
        elif rng.random() < 0.25:
            before = before[: -rng.choice([1, 1, 1, 20])]
        else:
            before += rng.choice(["x", " ", "\n", "name", "()", "é", "😒", "    return "])
        found.append((before, after))
    return found


@pytest.mark.parametrize("suffix_first", [False, True])
async def test_typing_leaves_what_a_fresh_session_has_and_computes_little(
    opened: Opener, suffix_first: bool
) -> None:
    """Random typing and deleting: the tokens are those of a session that was never asked before, what is computed is what
    no earlier turn had, and that is little unless the window moves.
    """
    session = await opened(FIM, context=LARGE)
    await _ensure(session, "def f(): pass\n" * 10)
    prefix = len(session.tokens)
    room = 2048 - prefix - ANSWER_TOKENS
    other = await opened(FIM, key="other", context=LARGE, disable_bos=True)
    turns: list[Sequence[int]] = []
    dear: list[int] = []
    last_after = ""
    most = 2 * chunk_characters(2048) + (0 if suffix_first else AFTER_TOKENS) + 3
    for number, (before, after) in enumerate(_typed(random.Random(11), 300)):
        status = await _put(session, _fill(before, after, suffix_first=suffix_first))
        shared = max((common(session.tokens, old) for old in turns), default=prefix)
        assert status.prefilled_tokens <= max(1, len(session.tokens) - shared)
        assert status.prefilled_tokens + status.reused_tokens == status.suffix_tokens
        if status.prefilled_tokens > most and after == last_after:
            dear.append(number)
        last_after = after
        turns = [session.tokens]
        anew = await build_suffix(
            other.engine, "raw", _fill(before, after, suffix_first=suffix_first), (), room
        )
        assert session.tokens[prefix:] == anew.tokens, "what was typed before makes a difference"
        if number % 30 == 0:
            fresh = await opened(FIM, key=f"fresh {number}", context=LARGE)
            await _ensure(fresh, "def f(): pass\n" * 10)
            await _put(fresh, _fill(before, after, suffix_first=suffix_first))
            assert fresh.tokens == session.tokens
            await fresh.close()
    assert len(dear) <= 6, f"the window moved at {dear}"


async def test_which_layout_computes_what_at_a_key(opened: Opener) -> None:
    """The figures of ADR 17: a hundred keys in the middle of a long file."""
    text, at = "    result = combine(name, value)\n" * 3, len(_CODE) // 2
    computed: dict[bool, int] = {}
    for suffix_first in (False, True):
        session = await opened(FIM, key=str(suffix_first), context=LARGE)
        await _put(session, _fill(_CODE[:at], _CODE[at:], suffix_first=suffix_first))
        computed[suffix_first] = 0
        for count in range(1, len(text)):
            before = _CODE[:at] + text[:count]
            status = await _put(session, _fill(before, _CODE[at:], suffix_first=suffix_first))
            computed[suffix_first] += status.prefilled_tokens
        await session.close()
    keys = len(text) - 1
    assert computed[True] / keys < 6
    assert 100 < computed[False] / keys < AFTER_TOKENS + 6
