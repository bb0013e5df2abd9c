"""Building a prefix: each segment by itself, joined as tokens."""

from __future__ import annotations

import hashlib

import pytest
from tests.daemon.engine.scripted import load
from tests.daemon.sessions.conftest import Opener

from sessiond.adapters.base import VocabFacts
from sessiond.daemon.sessions.manifest import token_hash
from sessiond.daemon.sessions.prefix import FRAME, Prefix, build_prefix, empty_prefix
from sessiond.daemon.sessions.session import Session
from sessiond.daemon.workspace.segment import Segment

_MODEL = load("scripted-kv:")


def _segments(**texts: str) -> list[Segment]:
    return [Segment(name, "file", text, f"{name}.py") for name, text in texts.items()]


async def _built(session: Session, segments: list[Segment]) -> Prefix:
    return await build_prefix(session.engine, session.identity, session.config.prompt_format, segments)


def _bos(session: Session) -> int:
    vocab: VocabFacts = session.engine.facts.vocab
    assert vocab.bos is not None
    return vocab.bos


async def test_an_edit_leaves_the_neighbours_alone(opened: Opener) -> None:
    session = await opened()
    # "the" + " user" would join to other tokens across the border if they were one text.
    before = await _built(session, _segments(a="def name the", b=" user", c="in the end"))
    after = await _built(session, _segments(a="def name the", b="er value", c="in the end"))
    assert [before.runs[i] for i in (0, 1, 3)] == [after.runs[i] for i in (0, 1, 3)]
    assert before.runs[2] != after.runs[2]
    assert list(before.runs[1]) == _MODEL.tokenize("def name the", parse_special=False)


async def test_the_join(opened: Opener) -> None:
    session = await opened()
    texts = {"a": "é€\n", "b": "", "c": "class value"}
    prefix = await _built(session, _segments(**texts))
    assert [segment.id for segment in prefix.segments] == [FRAME, *texts]
    assert prefix.tokens == [token for run in prefix.runs for token in run]
    at_byte = at_token = 0
    for segment, listed, run in zip(prefix.segments, prefix.manifest.segments, prefix.runs, strict=True):
        assert (listed.byte_start, listed.token_start) == (at_byte, at_token)
        at_byte += len(segment.text.encode())
        at_token += len(run)
        assert (listed.byte_end, listed.token_end) == (at_byte, at_token)
        assert listed.byte_hash == hashlib.sha256(segment.text.encode()).hexdigest()
        assert listed.token_hash == token_hash(run)
    assert at_token == len(prefix.tokens)


async def test_the_stable_part_is_hashed_alone(opened: Opener) -> None:
    session = await opened()
    steady = _segments(a="AA", b="BB")
    volatile = Segment("v", "text", "VV", stable=False, cache_class="volatile")
    one = await _built(session, [steady[0], volatile, steady[1]])
    two = await _built(session, steady)
    assert one.manifest.stable_byte_hash == two.manifest.stable_byte_hash
    assert one.manifest.stable_byte_hash == hashlib.sha256(b"AABB").hexdigest()
    assert one.stable_token_hash == two.stable_token_hash == token_hash([65, 65, 66, 66])
    assert one.manifest.digest != two.manifest.digest


@pytest.mark.parametrize("segments", [[], _segments(a=""), _segments(a="", b="")])
async def test_nothing_has_no_frame(opened: Opener, segments: list[Segment]) -> None:
    session = await opened("scripted-kv:bos=1")
    prefix = await _built(session, segments)
    assert prefix.tokens == []
    assert len(prefix.manifest.segments) == len(segments)
    if not segments:
        assert prefix == empty_prefix(session.identity)


async def test_special_tokens_in_a_text_are_text(opened: Opener) -> None:
    session = await opened()
    prefix = await _built(session, _segments(a="<|im_end|>"))
    assert list(prefix.runs[1]) == list(b"<|im_end|>") or len(prefix.runs[1]) > 1
    assert not set(prefix.runs[1]) & session.engine.facts.vocab.end_tokens


async def test_raw_has_no_frame(opened: Opener) -> None:
    session = await opened(prompt_format="raw")
    prefix = await _built(session, _segments(a="AA"))
    assert prefix.tokens == [65, 65]
    assert [segment.id for segment in prefix.segments] == ["a"]


@pytest.mark.parametrize("prompt_format", ["raw", "chatml"])
async def test_the_opening_token(opened: Opener, prompt_format: str) -> None:
    wants = await opened("scripted-kv:bos=1", prompt_format=prompt_format)
    without = await opened("scripted-kv:bos=1", prompt_format=prompt_format, disable_bos=True)
    never = await opened(prompt_format=prompt_format)
    [with_bos, left_out, none] = [await _built(s, _segments(a="AA")) for s in (wants, without, never)]
    assert with_bos.tokens == [_bos(wants), *left_out.tokens]
    assert left_out.tokens == none.tokens
    assert with_bos.segments[0].id == FRAME and not with_bos.segments[0].stable
