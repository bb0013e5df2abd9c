"""What a backend says of its own cache is true."""

from __future__ import annotations

from sessiond.adapters.base import PromptContext, Sampling

from .kit import PromptBench, tokens_of


def _cached(context: PromptContext, prompt: list[int], tokens: int = 1) -> int | None:
    """What all tokens of an answer say alike."""
    said = {each.cached_tokens for each in context.answer(prompt, Sampling(), tokens)}
    assert len(said) == 1
    return said.pop()


def test_a_backend_says_how_much_it_reused_exactly_if_it_declares_so(prompts: PromptBench) -> None:
    said = _cached(prompts.open(), tokens_of(prompts.model, 100), 5)
    assert (said is not None) == prompts.model.facts.capabilities.reports_reuse


def test_nothing_is_cached_at_first_and_much_the_second_time(prompts: PromptBench) -> None:
    if prompts.model.facts.capabilities.reports_reuse:
        context, prompt = prompts.open(), tokens_of(prompts.model, 100)
        assert _cached(context, prompt) == 0
        again = _cached(context, prompt)
        # Backends that cache in blocks may miss the last few tokens.
        assert again is not None
        assert 50 <= again <= 100


def test_only_a_common_prefix_is_reused(prompts: PromptBench) -> None:
    if prompts.model.facts.capabilities.reports_reuse:
        context, prompt = prompts.open(), tokens_of(prompts.model, 100)
        _cached(context, prompt)
        same_end = _cached(context, tokens_of(prompts.model, 3, "another opening ") + prompt)
        assert same_end is not None
        assert same_end <= 3
        other = next(token for token in prompt if token != prompt[60])
        edited = [*prompt[:60], other, *prompt[61:]]
        common = _cached(context, edited)
        assert common is not None
        assert common <= 60
