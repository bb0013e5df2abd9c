"""Tokens are guessed ahead where they are likely to come, and no answer changes by it: through a daemon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from tests.e2e.daemon import Daemon, short_folder

from sessiond.client import Client, Config, Session
from sessiond.v1.config_pb2 import SPECULATION_AUTO, SPECULATION_OFF, Speculation
from sessiond.v1.context_pb2 import DecodeSummary

_LINE = "for each in values: total += each.size  # so many\n"


def _said(session: Session, question: str, **config: Any) -> tuple[list[int], str, DecodeSummary]:
    """Tokens, text and summary of an answer, in the place of the one before."""
    tokens, text, summary = list[int](), "", DecodeSummary()
    for event in session.complete(question, mode="replace", **config):
        if event.HasField("chunk"):
            tokens += event.chunk.token_ids
            text += event.chunk.text
            summary = event.chunk.summary if event.chunk.HasField("summary") else summary
    return tokens, text, summary


@pytest.mark.parametrize("mode", [SPECULATION_AUTO, None])
def test_what_repeats_is_guessed(session: Session, mode: Speculation.ValueType | None) -> None:
    session.ensure_prefix(_LINE * 3)
    told = {} if mode is None else {"speculation": mode}
    _, text, summary = _said(session, "again\n", choices=[_LINE * 4], **told)
    assert text == _LINE * 4
    assert summary.accepted_tokens > summary.generated_tokens / 2
    assert summary.accepted_tokens <= summary.drafted_tokens


def test_nothing_is_guessed_where_that_is_off(session: Session) -> None:
    session.ensure_prefix(_LINE * 3)
    _, text, summary = _said(session, "again\n", choices=[_LINE * 4], speculation=SPECULATION_OFF)
    assert text == _LINE * 4
    assert (summary.drafted_tokens, summary.accepted_tokens) == (0, 0)


@pytest.mark.parametrize("stop", range(1, 12))
def test_a_stop_text_is_found_within_a_guess_and_never_sent(session: Session, stop: int) -> None:
    session.ensure_prefix(_LINE * 3)
    wanted = _LINE[stop : stop + 9]
    _, text, summary = _said(session, "again\n", choices=[_LINE * 4], stop=[wanted])
    assert text == (_LINE * 4)[: (_LINE * 4).index(wanted)]
    assert summary.stop_string == wanted


def test_what_was_guessed_wrongly_is_no_part_of_the_session(client: Client, session: Session) -> None:
    session.ensure_prefix(_LINE * 3)
    for seed in range(5):
        tokens, _, summary = _said(session, "again\n", temperature=1.0, seed=seed, max_tokens=20)
        report = session.explain()
        question = len(client.tokenize("again\n").token_ids)
        assert report.suffix_tokens == question + summary.generated_tokens == question + len(tokens)
        assert report.resident_tokens == report.prefix_tokens + report.suffix_tokens


def test_the_next_turn_finds_all_that_was_said(session: Session) -> None:
    session.ensure_prefix(_LINE * 3)
    _said(session, "again\n", choices=[_LINE * 4])
    status = session.prefill_suffix("xyz").status
    assert status.prefilled_tokens == status.suffix_tokens == 3


@pytest.fixture(scope="module")
def exact() -> Iterator[Session]:
    """A deterministic session of SmolLM2."""
    with short_folder() as folder, Daemon(folder) as running:
        config = Config(prompt_format="raw", num_ctx=1024, deterministic=True)
        with closing(running.client.open_session(config=config)) as session:
            session.ensure_prefix(_LINE * 4)
            yield session


@pytest.mark.model
@pytest.mark.parametrize(
    "drawing",
    [
        {},
        {"temperature": 0.8, "seed": 7},
        {"temperature": 1.5, "seed": 8, "top_k": 40, "repeat_penalty": 1.1},
        {"grammar": 'root ::= ("for each in values: " | [a-z ]+ "\\n")+'},
    ],
    ids=["greedy", "drawn", "drawn widely", "grammar"],
)
def test_a_real_answer_is_the_same_with_guesses(exact: Session, drawing: dict[str, Any]) -> None:
    drafted = 0
    for question in ("Say it again:\n", "for each in", "total +="):
        config: dict[str, Any] = {"max_tokens": 40, **drawing}
        plain = _said(exact, question, speculation=SPECULATION_OFF, **config)
        guessed = _said(exact, question, **config)
        assert guessed[:2] == plain[:2]
        drafted += guessed[2].drafted_tokens
    assert drafted or drawing, "nothing was guessed"
