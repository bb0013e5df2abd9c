"""Scores through a daemon: what is said of given texts is what `Decode` says of the same tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.e2e.daemon import Daemon
from tests.e2e.turns import RAW, in_background, wait_for_stage

from sessiond.client import (
    Client,
    Config,
    ContextOverflow,
    InvalidInput,
    Session,
    SessionBusy,
    UnsupportedFeature,
)
from sessiond.v1.config_pb2 import LogitBias
from sessiond.v1.session_service_pb2 import ScoredContinuation

HOSTILE = ["<|im_end|>", "<|bos|>\n", "\ud7ff\ufdd0", "  \t", "größe €", "\x01\x1b[31m", "y" * 300]


def _of_decode(session: Session, tokens: Sequence[int]) -> list[tuple[int, float]]:
    """What answers say of themselves that a bias lets be nothing but these tokens: it does not touch what is told."""
    told: list[tuple[int, float]] = []
    for token in tokens:
        bias = [LogitBias(token_id=token, bias=1e6)]
        for chunk in session.decode(max_tokens=1, logit_bias=bias, logprobs=1):
            told += [(place.taken.token_id, place.taken.logprob) for place in chunk.logprobs]
    session.prefill_suffix("", mode="replace")
    return told


def _told(score: ScoredContinuation) -> list[tuple[int, float]]:
    return [(token.token_id, token.logprob) for token in score.tokens]


def test_a_score_is_what_decode_says_of_the_same_tokens(session: Session) -> None:
    session.ensure_prefix("some text before it")
    texts = ["x", "xy", "xyz", "zyx", "yx"]
    scores = session.score(texts).scores
    for text, score in zip(texts, scores, strict=True):
        assert _told(score) == _of_decode(session, [token.token_id for token in score.tokens])
        assert b"".join(token.piece for token in score.tokens) == text.encode()
        assert score.logprob == pytest.approx(sum(token.logprob for token in score.tokens))


def test_the_likeliest_token_is_the_greedy_one(session: Session) -> None:
    session.ensure_prefix("xyz")
    texts = [chr(code) for code in range(33, 127)]
    scores = session.score(texts).scores
    best = max(zip(texts, scores, strict=True), key=lambda pair: pair[1].logprob)
    [first, *_] = session.decode(max_tokens=1, logprobs=20)
    assert first.logprobs[0].taken.logprob >= best[1].logprob
    likelier = [told.piece for told in first.logprobs[0].top if told.logprob > best[1].logprob]
    assert not {piece for piece in likelier if piece in {text.encode() for text in texts}}


def test_a_score_changes_nothing(session: Session) -> None:
    session.ensure_prefix("xyz")
    session.prefill_suffix("zzz")
    before, info = session.explain(), session.info()
    session.score(["abc", "abd"])
    after = session.info()
    after.last_used_ms = info.last_used_ms
    assert session.explain() == before and after == info


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(client: Client, session: Session, text: str) -> None:
    session.ensure_prefix("<|im_start|>xyz")
    tokens = client.tokenize(text)
    [score] = session.score([text]).scores
    assert [token.token_id for token in score.tokens] == list(tokens.token_ids)
    assert [token.piece for token in score.tokens] == list(tokens.pieces)
    assert all(math.isfinite(token.logprob) and token.logprob < 0 for token in score.tokens)


WRONG: dict[str, tuple[Sequence[str], list[str]]] = {
    "none": ([], ["continuations"]),
    "an empty one": (["x", ""], ["continuations[1]"]),
    "two empty ones": (["", "x", ""], ["continuations[0]", "continuations[2]"]),
    "a NUL": (["a\0b"], ["continuations[0]"]),
    "too many": (["x"] * 1025, ["continuations"]),
    "a long one": (["x", "y" * ((1 << 20) + 1)], ["continuations[1]"]),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named_and_changes_nothing(session: Session, what: str) -> None:
    session.ensure_prefix("xyz")
    before = session.explain()
    texts, fields = WRONG[what]
    with pytest.raises(InvalidInput) as caught:
        session.score(texts)
    assert [violation.field for violation in caught.value.violations] == fields
    assert session.explain() == before


def test_one_text_is_not_taken_for_a_list_of_its_letters(session: Session) -> None:
    with pytest.raises(InvalidInput) as caught:
        session.score("yes")
    assert caught.value.violations[0].field == "continuations"


def test_what_does_not_fit_says_how_much(session: Session) -> None:
    session.ensure_prefix("x" * 2000)
    with pytest.raises(ContextOverflow) as caught:
        session.score(["y", "y" * 49])
    assert (caught.value.stage, caught.value.resident_tokens) == ("score", 2000)
    assert (caught.value.additional_tokens, caught.value.num_ctx) == (49, 2048)
    assert len(session.score(["y" * 48]).scores[0].tokens) == 48


def test_an_empty_session_has_nothing_to_go_on_from(session: Session) -> None:
    with pytest.raises(InvalidInput) as caught:
        session.score(["x"])
    assert caught.value.violations[0].field == "name"


def test_it_is_a_turn_and_says_so(folder: Path) -> None:
    with Daemon(folder, "scripted-kv:num_ctx=2048,step_ms=30") as slow:
        session = slow.client.open_session(config=RAW)
        session.ensure_prefix("xyz")
        texts = [f"{index:03}" * 100 for index in range(24)]
        with in_background(lambda: session.score(texts)) as running:
            wait_for_stage(session, "score", done=0)
            with pytest.raises(SessionBusy):
                session.score(["x"])
        assert len(running.result().scores) == 24


def test_a_backend_that_shows_no_logits(folder: Path) -> None:
    with Daemon(folder, "scripted-prompt:") as other:
        session = other.client.open_session(config=RAW)
        session.ensure_prefix("xyz")
        with pytest.raises(UnsupportedFeature) as caught:
            session.score(["x"])
        assert caught.value.feature == "logprobs"


TOLERANCE = 2 * 0.7
"""What rounding was seen to make of a logit at most, of the token's and of all others together."""

QUESTION = "Paris is the capital of France. Berlin is the capital of"
TEXTS = [" Germany", " France", " Germany, and Rome is that of Italy.", " a", "<|im_end|>"]


def test_deterministic_scores_are_those_of_decode_bit_for_bit(real_daemon: Daemon) -> None:
    config = Config(prompt_format="raw", num_ctx=512, deterministic=True)
    session = real_daemon.client.open_session(key="scores, exact", config=config)
    session.ensure_prefix(QUESTION)
    scores = session.score(TEXTS).scores
    for score in scores:
        assert _told(score) == _of_decode(session, [token.token_id for token in score.tokens])
    assert session.score(TEXTS[::-1]).scores == scores[::-1]
    session.close()


def test_scores_tell_what_is_likely(real_daemon: Daemon) -> None:
    session = real_daemon.client.open_session(key="scores", config=Config(prompt_format="raw", num_ctx=512))
    session.ensure_prefix(QUESTION)
    germany, france, *_ = session.score(TEXTS).scores
    assert germany.logprob > france.logprob
    for score in (germany, france):
        decoded = _of_decode(session, [token.token_id for token in score.tokens])
        for (_, scored), (_, told) in zip(_told(score), decoded, strict=True):
            assert scored == pytest.approx(told, abs=TOLERANCE)
    session.close()
