"""Every knob of DecodeConfig, as a client turns it: one property each, that no other setting of it has.

The samplers' exact chances are held to their definitions in tests/adapters/contract/test_kv_reference.py. Here they come
through client, socket, daemon and engine, with a scripted model and with the real one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from tests.e2e.daemon import Daemon
from tests.e2e.turns import never_ending

from sessiond.client import Client, Config, InvalidInput, Session, UnsupportedFeature
from sessiond.v1.config_pb2 import SPECULATION_AUTO, SPECULATION_OFF, DecodeConfig, LogitBias
from sessiond.v1.context_pb2 import (
    FINISH_REASON_LENGTH,
    FINISH_REASON_STOP,
    FINISH_REASON_STOP_STRING,
    DecodeSummary,
    TokenLogprobs,
)

LENGTH = 8
SEEDS = range(1, 6)
HOT = 100.0
"""A temperature at which all tokens that may come are about as likely."""
ALL = 20
"""As many of the likeliest tokens as may be asked for."""


@dataclass(frozen=True)
class Said:
    """An answer."""

    tokens: list[int]
    text: str
    scores: list[TokenLogprobs]
    summary: DecodeSummary


@dataclass(frozen=True)
class Desk:
    """A session that is asked the same each time."""

    client: Client
    session: Session
    ends: list[LogitBias]
    """They keep the model from ending its answer."""

    def said(self, *, bias: tuple[LogitBias, ...] = (), **config: Any) -> Said:
        """The answer with these settings, in the place of the one before."""
        told: dict[str, Any] = {"max_tokens": LENGTH, "logit_bias": [*self.ends, *bias]} | config
        tokens, text, scores, summary = list[int](), "", list[TokenLogprobs](), DecodeSummary()
        for event in self.session.complete("for each in ", mode="replace", **told):
            if event.HasField("chunk"):
                tokens += event.chunk.token_ids
                text += event.chunk.text
                scores += event.chunk.logprobs
                summary = event.chunk.summary if event.chunk.HasField("summary") else summary
        assert summary.generated_tokens == len(tokens)
        return Said(tokens, text, scores, summary)

    def token(self, text: str) -> int:
        """The token of a text that is one."""
        [token] = self.client.tokenize(text).token_ids
        return token

    def likeliest(self, score: TokenLogprobs) -> list[tuple[int, float]]:
        """The likeliest tokens that may come, with their probabilities."""
        banned = {bias.token_id for bias in self.ends}
        return [(one.token_id, math.exp(one.logprob)) for one in score.top if one.token_id not in banned]


def more(token: int, by: float) -> LogitBias:
    return LogitBias(token_id=token, bias=by)


def _max_tokens(desk: Desk) -> None:
    for most in (1, 2, 7):
        said = desk.said(max_tokens=most)
        assert len(said.tokens) == most
        assert said.summary.finish_reason == FINISH_REASON_LENGTH


def _temperature(desk: Desk) -> None:
    greedy = desk.said(temperature=0.0, logprobs=ALL)
    assert greedy.tokens == [desk.likeliest(score)[0][0] for score in greedy.scores]
    assert greedy.tokens == desk.said().tokens, "it is greedy where nothing is said"
    assert any(desk.said(temperature=HOT, seed=seed).tokens != greedy.tokens for seed in SEEDS)


def _top_k(desk: Desk) -> None:
    ranks = set[int]()
    for seed in SEEDS:
        said = desk.said(temperature=HOT, seed=seed, top_k=3, logprobs=ALL)
        for token, score in zip(said.tokens, said.scores, strict=True):
            ranks.add([each for each, _ in desk.likeliest(score)].index(token))
    assert ranks == {0, 1, 2}


def _top_p(desk: Desk) -> None:
    for seed in SEEDS:
        for score in desk.said(temperature=HOT, seed=seed, top_p=0.3, logprobs=ALL).scores:
            taken = math.exp(score.taken.logprob)
            assert math.fsum(share for _, share in desk.likeliest(score) if share > taken) < 0.3 + 1e-4


def _min_p(desk: Desk) -> None:
    for seed in SEEDS:
        for score in desk.said(temperature=HOT, seed=seed, min_p=0.3, logprobs=ALL).scores:
            assert math.exp(score.taken.logprob) >= 0.3 * desk.likeliest(score)[0][1] - 1e-4


def _typical_p(desk: Desk) -> None:
    told: dict[str, Any] = {"temperature": HOT}
    narrow = [desk.said(seed=seed, typical_p=1e-6, **told).tokens for seed in SEEDS]
    assert all(tokens == narrow[0] for tokens in narrow), "one token is the most typical"
    assert desk.said(seed=1, typical_p=1.0, **told).tokens == desk.said(seed=1, **told).tokens


def _repeat_penalty(desk: Desk) -> None:
    assert len(set(desk.said(repeat_penalty=100.0).tokens)) == LENGTH
    assert desk.said(repeat_penalty=1.0).tokens == desk.said().tokens


def _repeat_last_n(desk: Desk) -> None:
    one, other = desk.token("q"), desk.token("w")
    told: dict[str, Any] = {"presence_penalty": 100.0, "bias": (more(one, 50.0), more(other, 50.0))}
    tokens = desk.said(repeat_last_n=1, **told).tokens
    assert set(tokens) == {one, other} and all(a != b for a, b in pairwise(tokens))
    for last_n in (-1, 0, LENGTH):
        tokens = desk.said(repeat_last_n=last_n, **told).tokens
        assert (tokens.count(one), tokens.count(other)) == (1, 1)


def _frequency_penalty(desk: Desk) -> None:
    token = desk.token("q")
    tokens = desk.said(frequency_penalty=50.0, bias=(more(token, 100.0),)).tokens
    assert tokens[:2] == [token] * 2 and tokens.count(token) <= 3, "each time costs"


def _presence_penalty(desk: Desk) -> None:
    token = desk.token("q")
    assert set(desk.said(presence_penalty=50.0, bias=(more(token, 100.0),)).tokens) == {token}, (
        "it costs once"
    )
    assert len(set(desk.said(presence_penalty=100.0).tokens)) == LENGTH


def _seed(desk: Desk) -> None:
    drawn = {seed: desk.said(temperature=HOT, seed=seed) for seed in SEEDS}
    for seed, said in drawn.items():
        assert said.summary.seed == seed
        assert desk.said(temperature=HOT, seed=seed).tokens == said.tokens
    assert len({tuple(said.tokens) for said in drawn.values()}) == len(SEEDS)
    free = desk.said(temperature=HOT)
    assert desk.said(temperature=HOT, seed=free.summary.seed).tokens == free.tokens


def _stop(desk: Desk) -> None:
    text = desk.said().text
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1, 3):
            said = desk.said(stop=["never that", text[start:end]])
            assert said.text == text[: text.index(text[start:end])]
            assert said.summary.finish_reason == FINISH_REASON_STOP_STRING
            assert said.summary.stop_string == text[start:end]


def _samplers(desk: Desk) -> None:
    told: dict[str, Any] = {"temperature": HOT, "seed": 1, "top_k": 1}
    assert desk.said(samplers=["temperature"], **told).tokens == desk.said(temperature=HOT, seed=1).tokens
    assert desk.said(samplers=["top_k", "temperature"], **told).tokens == desk.said().tokens
    with pytest.raises((UnsupportedFeature, InvalidInput)):
        desk.said(samplers=["top_k", "dice"])


def _grammar(desk: Desk) -> None:
    for seed in SEEDS:
        said = desk.said(grammar="root ::= [a-c]{3} | [0-9]{2}", temperature=HOT, seed=seed)
        assert re.fullmatch(r"[a-c]{3}|[0-9]{2}", said.text)
        assert said.summary.finish_reason == FINISH_REASON_STOP


def _json_schema(desk: Desk) -> None:
    schema = json.dumps({"type": "array", "items": {"enum": [1, "a", None]}, "minItems": 1, "maxItems": 2})
    for seed in SEEDS:
        said = desk.said(json_schema=schema, temperature=HOT, seed=seed, max_tokens=200)
        found = json.loads(said.text)
        assert 1 <= len(found) <= 2 and all(each in [1, "a", None] for each in found)


def _choices(desk: Desk) -> None:
    said = {
        desk.said(choices=["one", "two", "twofold"], temperature=HOT, seed=seed).text for seed in range(12)
    }
    assert said <= {"one", "two", "twofold"} and len(said) > 1


def _logit_bias(desk: Desk) -> None:
    token, best = desk.token("q"), desk.said().tokens[0]
    assert desk.said(bias=(more(token, 100.0),)).tokens == [token] * LENGTH
    assert best not in desk.said(bias=(more(best, -math.inf),)).tokens


def _logprobs(desk: Desk) -> None:
    free = desk.said()
    assert not free.scores
    for count in (1, 5, ALL):
        said = desk.said(logprobs=count)
        assert [score.taken.token_id for score in said.scores] == said.tokens == free.tokens
        for score in said.scores:
            told = [one.logprob for one in score.top]
            assert len(told) == count and told == sorted(told, reverse=True)
            assert math.fsum(map(math.exp, told)) <= 1 + 1e-4


def _speculation(desk: Desk) -> None:
    line = "for each in values: total += each.size  # so many\n"
    told: dict[str, Any] = {"choices": [line * 4], "max_tokens": 0}
    auto, off = (desk.said(speculation=mode, **told) for mode in (SPECULATION_AUTO, SPECULATION_OFF))
    assert auto.tokens == off.tokens
    assert auto.summary.accepted_tokens > 0
    assert (off.summary.drafted_tokens, off.summary.accepted_tokens) == (0, 0)


KNOBS: dict[str, Callable[[Desk], None]] = {
    "max_tokens": _max_tokens,
    "temperature": _temperature,
    "top_k": _top_k,
    "top_p": _top_p,
    "min_p": _min_p,
    "typical_p": _typical_p,
    "repeat_penalty": _repeat_penalty,
    "repeat_last_n": _repeat_last_n,
    "frequency_penalty": _frequency_penalty,
    "presence_penalty": _presence_penalty,
    "seed": _seed,
    "stop": _stop,
    "samplers": _samplers,
    "grammar": _grammar,
    "json_schema": _json_schema,
    "choices": _choices,
    "logit_bias": _logit_bias,
    "logprobs": _logprobs,
    "speculation": _speculation,
}


def test_no_knob_is_left_out() -> None:
    assert list(KNOBS) == [field.name for field in DecodeConfig.DESCRIPTOR.fields]


def _desk(client: Client) -> Iterator[Desk]:
    config = Config(prompt_format="raw", num_ctx=1024, deterministic=True)
    with closing(client.open_session(key="knobs", config=config)) as session:
        session.ensure_prefix("The values are x, y and z.\n")
        yield Desk(client, session, never_ending(client))


@pytest.fixture(scope="module")
def scripted(client: Client) -> Iterator[Desk]:
    """With a scripted model."""
    yield from _desk(client)


@pytest.fixture(scope="module")
def real(real_daemon: Daemon) -> Iterator[Desk]:
    """With the embedded one."""
    yield from _desk(real_daemon.client)


@pytest.mark.parametrize("knob", KNOBS)
def test_a_knob_does_what_it_says(scripted: Desk, knob: str) -> None:
    KNOBS[knob](scripted)


@pytest.mark.model
@pytest.mark.parametrize("knob", KNOBS)
def test_a_knob_does_what_it_says_of_a_real_model(real: Desk, knob: str) -> None:
    KNOBS[knob](real)
