"""Answers that have to follow something, and answers that say how likely they were: through a daemon."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from tests.e2e.turns import RAW, never_ending

from sessiond.client import Client, InvalidInput, Session
from sessiond.v1.config_pb2 import LogitBias
from sessiond.v1.context_pb2 import (
    FINISH_REASON_LENGTH,
    FINISH_REASON_STOP,
    FINISH_REASON_STOP_STRING,
    StreamChunk,
)


@pytest.fixture(autouse=True)
def _prefix(session: Session) -> None:
    session.ensure_prefix("xyz")


def _said(session: Session, **settings: Any) -> tuple[str, list[StreamChunk]]:
    chunks = list(session.decode(**settings))
    return "".join(chunk.text for chunk in chunks), chunks


@pytest.mark.parametrize(
    "choices",
    [
        ["yes", "no"],
        ["a", "ab", "abc"],
        ["same", "same"],
        ["größe", "€", "😒"],
        [""],
        ["", "x"],
        ['"\\\n"', "]"],
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_an_answer_is_one_of_the_choices(session: Session, choices: list[str], seed: int) -> None:
    text, chunks = _said(session, choices=choices, temperature=1.5, seed=seed)
    assert text in choices
    assert chunks[-1].summary.finish_reason == FINISH_REASON_STOP


def test_an_answer_becomes_part_of_the_session(session: Session) -> None:
    text, chunks = _said(session, choices=["xyx"])
    report = session.explain()
    assert text == "xyx"
    assert report.suffix_tokens == chunks[-1].summary.generated_tokens == 3
    assert report.resident_tokens == 6


def test_a_grammar_ends_the_answer_where_it_is_complete(session: Session) -> None:
    text, chunks = _said(session, grammar="root ::= [0-9]{4}")
    assert text.isdecimal() and len(text) == 4
    assert chunks[-1].summary.finish_reason == FINISH_REASON_STOP
    assert (
        _said(session, grammar="root ::= [xyz]{3}", max_tokens=3)[1][-1].summary.finish_reason
        == FINISH_REASON_STOP
    )


def test_a_grammar_does_not_outlast_max_tokens(session: Session) -> None:
    text, chunks = _said(session, grammar="root ::= [xyz]+ [0-9]", max_tokens=5)
    assert len(chunks[-1:]) == 1 and chunks[-1].summary.generated_tokens <= 5
    assert chunks[-1].summary.finish_reason in {FINISH_REASON_LENGTH, FINISH_REASON_STOP}
    assert set(text) <= set("xyz0123456789")


def test_a_stop_text_ends_it_earlier(session: Session) -> None:
    text, chunks = _said(session, grammar='root ::= "x" "y" "z" "y"', stop=["zy"])
    assert text == "xy"
    assert chunks[-1].summary.finish_reason == FINISH_REASON_STOP_STRING


def test_a_schema_is_kept(session: Session) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer", "minimum": 3, "maximum": 5}},
        "required": ["ok", "n"],
    }
    text, _ = _said(session, json_schema=json.dumps(schema), temperature=1.0, seed=1)
    value = json.loads(text)
    assert isinstance(value["ok"], bool) and 3 <= value["n"] <= 5


def test_a_seed_repeats(client: Client, session: Session) -> None:
    other = client.open_session(key="the other one", config=RAW)
    other.ensure_prefix("xyz")
    wish = {"grammar": "root ::= [a-z]{20}", "temperature": 2.0, "seed": 7}
    assert _said(session, **wish)[0] == _said(other, **wish)[0]
    other.close()


def test_a_cancel_ends_it(client: Client, session: Session) -> None:
    with session.decode(grammar="root ::= [xyz]*", logit_bias=never_ending(client)) as chunks:
        assert next(iter(chunks)).text in set("xyz")
    assert _said(session, choices=["fine"])[0] == "fine"


_DOUBLED = "\n".join(f"r{n} ::= r{n + 1} r{n + 1}" for n in range(40))

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no grammar": ({"grammar": "root ::= ("}, "config.grammar"),
    "no root": ({"grammar": 'x ::= "a"'}, "config.grammar"),
    "left-recursive": ({"grammar": 'root ::= root "a" | "b"'}, "config.grammar"),
    "a long one": ({"grammar": "#" * 70_000}, "config.grammar"),
    "a hostile one": ({"grammar": f'root ::= r0\n{_DOUBLED}\nr40 ::= "x"?'}, "config.grammar"),
    "no schema": ({"json_schema": "{"}, "config.json_schema"),
    "a schema in a circle": ({"json_schema": '{"$ref": "#"}'}, "config.json_schema"),
    "a long schema": ({"json_schema": " " * 70_000}, "config.json_schema"),
    "a part that cannot be kept": ({"json_schema": '{"not": {}}'}, "config.json_schema"),
    "many choices": ({"choices": ["a"] * 2000}, "config.choices"),
    "long choices": ({"choices": ["a" * 30_000]}, "config.choices"),
    "two of them": ({"grammar": 'root ::= "a"', "choices": ["a"]}, "config.choices"),
    "two others": ({"json_schema": "{}", "choices": ["a"]}, "config.choices"),
    "too many logprobs": ({"logprobs": 21}, "config.logprobs"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_before_anything_changes(session: Session, name: str) -> None:
    settings, field = WRONG[name]
    before = session.explain()
    for ask in (
        lambda: list(session.decode(**settings)),
        lambda: list(session.complete("x", prefix="another one", **settings)),
    ):
        with pytest.raises(InvalidInput) as caught:
            ask()
        assert [violation.field for violation in caught.value.violations] == [field]
    assert session.explain() == before


def test_what_shows_to_be_too_ambiguous_only_later_ends_that_answer_and_no_other(
    client: Client, session: Session
) -> None:
    wish = {
        "grammar": 'root ::= "x" root "y" | "x" root "z" | ""',
        "logit_bias": [*never_ending(client), LogitBias(token_id=ord("x"), bias=99)],
    }
    with pytest.raises(InvalidInput) as caught:
        _said(session, **wish)
    assert [violation.field for violation in caught.value.violations] == ["config.grammar"]
    assert _said(session, choices=["fine"])[0] == "fine"


def test_logprobs_come_with_each_token(session: Session) -> None:
    free, _ = _said(session, max_tokens=6)
    session.ensure_prefix("xyz")
    text, chunks = _said(session, max_tokens=6, logprobs=4)
    assert text == free
    tokens = [token for chunk in chunks for token in chunk.token_ids]
    scores = [each for chunk in chunks for each in chunk.logprobs]
    assert [each.taken.token_id for each in scores] == tokens
    assert b"".join(each.taken.piece for each in scores).decode() == text
    for each in scores:
        told = [one.logprob for one in each.top]
        assert len(told) == 4
        assert told == sorted(told, reverse=True)
        assert each.top[0].token_id == each.taken.token_id  # greedy takes the likeliest
        assert sum(map(math.exp, told)) <= 1.0


def test_logprobs_are_those_of_the_model_and_not_of_the_grammar(session: Session) -> None:
    _, chunks = _said(session, choices=["~~"], logprobs=1)
    [first, *_] = [each for chunk in chunks for each in chunk.logprobs]
    assert first.taken.piece == b"~"
    assert first.taken.logprob <= first.top[0].logprob < 0


def test_nobody_who_did_not_ask_is_told(session: Session) -> None:
    _, chunks = _said(session, max_tokens=3)
    assert not any(chunk.logprobs for chunk in chunks)
