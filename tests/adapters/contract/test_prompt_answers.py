"""Answers of a backend that takes whole prompts."""

from __future__ import annotations

import pytest

from sessiond.adapters.base import BackendError, NoRoom, Sampling, Unsupported

from .kit import PromptBench, stop, tokens_of

_GREEDY = Sampling()
_DRAWN = Sampling(seed=3, temperature=1.0)


@pytest.mark.parametrize("sampling", [_GREEDY, _DRAWN], ids=["greedy", "drawn"])
def test_an_answer_is_the_same_with_a_cold_and_a_warm_cache(prompts: PromptBench, sampling: Sampling) -> None:
    prompt = tokens_of(prompts.model, 100)
    context = prompts.open()
    cold = [each.token for each in context.answer(prompt, sampling, 40)]
    warm = [each.token for each in context.answer(prompt, sampling, 40)]
    elsewhere = [each.token for each in prompts.open().answer(prompt, sampling, 40)]
    assert cold == warm == elsewhere


def test_a_warmed_prefix_does_not_change_the_answer(prompts: PromptBench) -> None:
    prompt = tokens_of(prompts.model, 100)
    cold = [each.token for each in prompts.open().answer(prompt, _GREEDY, 40)]
    context = prompts.open()
    list(context.answer(prompt[:70], _GREEDY, 1))
    assert [each.token for each in context.answer(prompt, _GREEDY, 40)] == cold


def test_an_answer_ends_at_an_end_token_or_at_its_limit(prompts: PromptBench) -> None:
    ends, context = prompts.model.facts.vocab.end_tokens, prompts.open()
    for length in range(60, 90):
        answer = [each.token for each in context.answer(tokens_of(prompts.model, length), _GREEDY, 25)]
        assert 0 < len(answer) <= 25
        assert ends.isdisjoint(answer[:-1])
        assert len(answer) == 25 or answer[-1] in ends


def test_one_token_is_enough_to_warm(prompts: PromptBench) -> None:
    assert len(list(prompts.open().answer(tokens_of(prompts.model, 60), _GREEDY, 1))) == 1


def test_an_answer_that_is_closed_stops_and_harms_nothing(prompts: PromptBench) -> None:
    context, prompt = prompts.open(), tokens_of(prompts.model, 100)
    whole = [each.token for each in context.answer(prompt, _GREEDY, 20)]
    assert len(whole) > 2
    answer = context.answer(prompt, _GREEDY, 20)
    assert [next(answer).token, next(answer).token] == whole[:2]
    stop(answer)
    assert list(answer) == []
    assert [each.token for each in context.answer(prompt, _GREEDY, 20)] == whole
    stop(context.answer(prompt, _GREEDY, 20))  # before its first token


def test_a_prompt_that_does_not_fit_is_refused(prompts: PromptBench) -> None:
    context = prompts.open()
    prompt = tokens_of(prompts.model, context.settings.num_ctx + 1)
    with pytest.raises(NoRoom):
        list(context.answer(prompt, _GREEDY, 5))
    assert list(context.answer(prompt[:50], _GREEDY, 5))


def test_unknown_tokens_are_refused(prompts: PromptBench) -> None:
    context = prompts.open()
    for token in (-1, prompts.model.facts.vocab.size):
        with pytest.raises(BackendError):
            list(context.answer([1, 2, token], _GREEDY, 5))


def test_an_unknown_sampler_is_unsupported(prompts: PromptBench) -> None:
    with pytest.raises(Unsupported) as caught:
        list(prompts.open().answer(tokens_of(prompts.model, 10), Sampling(samplers=("dice",)), 5))
    assert caught.value.feature == "samplers"
