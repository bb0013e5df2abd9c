"""How tokens are cut into batches does not change what they mean."""

from __future__ import annotations

import pytest

from sessiond.adapters.base import BackendError, Held, Run, Sampling

from .kit import KvBench, argmax, prefill, tokens_of


@pytest.mark.parametrize("chunk", [1, 17, 64, 100])
def test_several_batches_equal_one(kv: KvBench, chunk: int) -> None:
    context, tokens = kv.open_exact(), tokens_of(kv.model, 150 if chunk > 1 else 40)
    kv.assert_as_fresh(context, prefill(context, 0, tokens, chunk), tokens)


def test_shapes_of_batches_do_not_show_far_behind_either(kv: KvBench) -> None:
    # Backends choose among kernels by the number of tokens in a micro-batch and of cells behind them: one token
    # alone, few and many, before and after the 512th cell, must all round alike.
    tokens = tokens_of(kv.model, 560)
    context = kv.open_exact(num_ctx=1024, num_ubatch=256)
    prefill(context, 0, tokens[:200], 17)
    prefill(context, 0, tokens[200:550], 150)
    logits = prefill(context, 0, tokens[550:], 1)
    kv.assert_as_fresh(context, logits, tokens, num_ctx=1024, num_ubatch=256)


def test_streams_far_behind_step_together_as_they_would_alone(kv: KvBench) -> None:
    context, tokens = kv.open_branching(num_ctx=1024), tokens_of(kv.model, 560)
    prefill(context, 0, tokens)
    context.share(0, 1, 560)
    one = tokens_of(kv.model, 1)
    alone = prefill(context, 0, one)
    context.drop(0)
    context.share(1, 0, 560)
    context.decode([Run(0, 560, one, want_logits=True), Run(1, 560, one, want_logits=True)])
    for run in range(2):
        if context.settings.deterministic:
            assert context.logits(run) == alone
        else:
            kv.assert_near(context.logits(run), alone)


@pytest.mark.parametrize("flash_attn", [None, False, True])
def test_several_batches_equal_one_up_to_rounding(kv: KvBench, flash_attn: bool | None) -> None:
    tokens = tokens_of(kv.model, 150)
    whole = prefill(kv.open(flash_attn=flash_attn), 0, tokens)
    kv.assert_near(prefill(kv.open(flash_attn=flash_attn), 0, tokens, 37), whole)


def test_two_sequences_in_one_batch_equal_two_decodes(kv: KvBench) -> None:
    one, other = tokens_of(kv.model, 70, "one "), tokens_of(kv.model, 50, "another ")
    together = kv.open_branching()
    together.decode([Run(0, 0, one, want_logits=True), Run(1, 0, other, want_logits=True)])
    kv.assert_as_fresh(together, together.logits(0), one)
    kv.assert_as_fresh(together, together.logits(1), other)


def test_streams_step_together_as_they_would_alone(kv: KvBench) -> None:
    texts = [tokens_of(kv.model, 40, opening) for opening in ("one ", "another ", "third ")]
    context = kv.open_branching()
    for sequence, text in enumerate(texts):
        prefill(context, sequence, text[:-4])
    for step in range(4, 0, -1):
        context.decode([Run(seq, len(text) - step, [text[-step]], True) for seq, text in enumerate(texts)])
    for sequence, text in enumerate(texts):
        kv.assert_as_fresh(context, context.logits(sequence), text)


def test_logits_are_kept_where_they_were_wanted(kv: KvBench) -> None:
    one, other = tokens_of(kv.model, 20, "one "), tokens_of(kv.model, 30, "another ")
    context = kv.open_branching()
    context.decode([Run(0, 0, one), Run(1, 0, other, want_logits=True)])
    kv.assert_as_fresh(context, context.logits(1), other)
    assert len(context.logits(1)) == 4 * kv.model.facts.vocab.size
    for run in (0, 2, -1):
        with pytest.raises(BackendError):
            context.logits(run)


def test_a_run_must_start_at_the_end(kv: KvBench) -> None:
    context, tokens = kv.open(), tokens_of(kv.model, 20)
    prefill(context, 0, tokens)
    for position in (0, 19, 21):
        with pytest.raises(BackendError):
            context.decode([Run(0, position, tokens)])
    assert context.end(0) == 20


def test_a_batch_has_a_limit(kv: KvBench) -> None:
    context = kv.open(num_batch=64, num_ubatch=32)
    tokens = tokens_of(kv.model, 65)
    with pytest.raises(BackendError):
        context.decode([Run(0, 0, tokens)])
    assert context.end(0) == 0
    context.decode([Run(0, 0, tokens[:64])])
    assert context.end(0) == 64


def test_unknown_sequences_and_tokens_are_refused(kv: KvBench) -> None:
    context, tokens = kv.open(), tokens_of(kv.model, 5)
    for sequence in (-1, context.max_sequences):
        with pytest.raises(BackendError):
            context.decode([Run(sequence, 0, tokens)])
    for token in (-1, kv.model.facts.vocab.size):
        with pytest.raises(BackendError):
            context.decode([Run(0, 0, [*tokens, token])])
    assert context.end(0) == 0


def test_logits_are_kept_after_each_of_the_last_tokens(kv: KvBench) -> None:
    one, other = tokens_of(kv.model, 30, "one "), tokens_of(kv.model, 20, "another ")
    context = kv.open_branching()
    prefill(context, 0, one[:20])
    context.decode([Run(0, 20, one[20:], want_logits=5), Run(1, 0, other, want_logits=2)])
    for back in range(5):
        kv.assert_as_fresh(context, context.logits(0, back), one[: 30 - back])
    for back in range(2):
        kv.assert_as_fresh(context, context.logits(1, back), other[: 20 - back])
    greedy = kv.sampler(Sampling())
    assert context.sample(0, greedy, 3) == argmax(context.logits(0, 3))
    best = argmax(context.logits(0, 3))
    assert context.likely(0, best, 1, 3).taken == context.likely(0, best, 1, 3).top[0]
    assert context.likely(0, best, 1, 3).top != context.likely(0, best, 1).top
    for run, back in ((0, 5), (1, 2), (0, -1), (2, 0)):
        with pytest.raises(BackendError):
            context.logits(run, back)


def test_held_logits_are_those_of_the_run_whatever_is_decoded(kv: KvBench) -> None:
    context, tokens = kv.open(), tokens_of(kv.model, 12)
    context.decode([Run(0, 0, tokens, 4)])
    held = Held(tuple(context.logits(0, back) for back in range(4)))
    told = Sampling(temperature=0.9, top_k=40, repeat_penalty=1.2, seed=5)
    one, other = kv.sampler(told), kv.sampler(told)
    drawn = [context.sample(0, one, back) for back in (3, 1, 1, 0)]
    facts = [(context.likely(0, 7, 3, back), context.lead(0, back)) for back in range(4)]
    context.decode([Run(0, 12, tokens[:5], 1)])
    assert [context.sample(held, other, back) for back in (3, 1, 1, 0)] == drawn
    assert [(context.likely(held, 7, 3, back), context.lead(held, back)) for back in range(4)] == facts
    assert context.logits(held, 2) == held.rows[2]


def test_a_run_has_no_more_logits_than_tokens(kv: KvBench) -> None:
    context, tokens = kv.open(), tokens_of(kv.model, 5)
    for wanted in (-1, 6):
        with pytest.raises(BackendError):
            context.decode([Run(0, 0, tokens, wanted)])
    assert context.end(0) == 0


def test_as_many_logits_are_kept_as_are_promised(kv: KvBench) -> None:
    context = kv.open_branching(num_ctx=1024)
    size = min(context.settings.num_batch - 1, 1 + context.more_rows)
    tokens = tokens_of(kv.model, size)
    context.decode([Run(0, 0, tokens, size), Run(1, 0, tokens[:1], 1)])
    kv.assert_as_fresh(context, context.logits(0, size - 1), tokens[:1], num_ctx=1024)
    kv.assert_as_fresh(context, context.logits(0), tokens, num_ctx=1024)
    kv.assert_as_fresh(context, context.logits(1), tokens[:1], num_ctx=1024)
