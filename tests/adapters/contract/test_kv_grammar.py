"""An answer that has to follow a grammar follows it, whatever the model would rather say."""

from __future__ import annotations

import re

import pytest

from sessiond.adapters.base import KvContext, Run, Sampling, SettingsError

from .kit import KvBench, prefill, tokens_of

GRAMMARS = {
    'root ::= "yes" | "no"': "yes|no",
    "root ::= [a-c]{5}": "[a-c]{5}",
    'root ::= "(" root ")" | "x"': r"\(*x\)*",
    'root ::= [^a-z\\x00-\\x1F]{3} "é€"': "[^a-z\\x00-\\x1f]{3}é€",
    'root ::= "once upon a time"': "once upon a time",
    'root ::= ""': "",
}


@pytest.fixture
def context(kv: KvBench) -> KvContext:
    """A context with logits after a prompt."""
    context = kv.open()
    prefill(context, 0, tokens_of(kv.model, 60))
    return context


def _answer(kv: KvBench, context: KvContext, sampling: Sampling, most: int = 60) -> tuple[str, bool]:
    """What the model says, and whether it came to an end; the context moves on."""
    sampler = kv.sampler(sampling)
    said = b""
    for _ in range(most):
        if sampler.ended:
            return said.decode(), True
        token = context.sample(0, sampler)
        if token in kv.model.facts.vocab.end_tokens:
            return said.decode(), True
        said += kv.model.pieces([token])[0]
        context.decode([Run(0, context.end(0), [token], want_logits=True)])
    return said.decode("utf-8", "replace"), sampler.ended


def test_it_is_offered(kv: KvBench) -> None:
    assert kv.model.facts.capabilities.grammar


@pytest.mark.parametrize("temperature", [0.0, 1.5])
@pytest.mark.parametrize("grammar", GRAMMARS)
def test_only_what_it_allows_comes(kv: KvBench, context: KvContext, grammar: str, temperature: float) -> None:
    said, ended = _answer(kv, context, Sampling(seed=5, temperature=temperature, grammar=grammar))
    pattern = GRAMMARS[grammar]
    if ended:
        assert re.fullmatch(pattern, said)
    else:
        assert re.fullmatch(r"\(+x?\)*", said)  # the only one of them that may go on for ever


def test_the_same_seed_says_the_same(kv: KvBench) -> None:
    sampling = Sampling(seed=11, temperature=2.0, grammar="root ::= [a-z ]{12}")
    said: list[str] = []
    for _ in range(2):
        context = kv.open_exact()
        prefill(context, 0, tokens_of(kv.model, 60))
        said.append(_answer(kv, context, sampling)[0])
    assert said[0] == said[1]
    assert len(said[0]) == 12


def test_what_a_grammar_does_not_refuse_it_does_not_change(kv: KvBench, context: KvContext) -> None:
    free = kv.sampler(Sampling())
    bound = kv.sampler(Sampling(grammar="root ::= .*"))
    token = context.sample(0, free)
    if token not in kv.model.facts.vocab.end_tokens and kv.model.pieces([token])[0].isascii():
        assert context.sample(0, bound) == token


def test_other_samplers_work_within_it(kv: KvBench, context: KvContext) -> None:
    [a] = kv.model.tokenize("a", parse_special=False)
    bias = ((a, float("-inf")),)
    said, _ = _answer(kv, context, Sampling(grammar="root ::= [ab]", logit_bias=bias))
    assert said == "b"


def test_where_all_that_is_allowed_is_forbidden_it_is_an_error(kv: KvBench, context: KvContext) -> None:
    a = [
        token
        for token, piece in enumerate(kv.model.pieces(range(kv.model.facts.vocab.size)))
        if piece == b"a"
    ]
    sampler = kv.sampler(
        Sampling(grammar='root ::= "a"', logit_bias=tuple((token, float("-inf")) for token in a))
    )
    with pytest.raises(SettingsError) as caught:
        context.sample(0, sampler)
    assert caught.value.setting == "grammar"


def test_a_grammar_that_is_none_is_refused_with_the_sampler(kv: KvBench) -> None:
    with pytest.raises(SettingsError):
        kv.sampler(Sampling(grammar="root ::= root"))
