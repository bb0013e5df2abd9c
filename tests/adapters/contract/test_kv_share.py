"""Sequences that share cells, and part."""

from __future__ import annotations

import pytest

from sessiond.adapters.base import BackendError, Run

from .kit import KvBench, prefill, tokens_of


def test_both_branches_answer_as_fresh_ones(kv: KvBench) -> None:
    context, stem = kv.open_branching(), tokens_of(kv.model, 100)
    left, right = tokens_of(kv.model, 20, "left "), tokens_of(kv.model, 30, "right ")
    prefill(context, 0, stem[:80])
    checkpoint = context.checkpoint(0)
    prefill(context, 0, stem[80:])
    context.share(0, 1, 80, checkpoint)
    assert (context.end(0), context.end(1)) == (100, 80)
    kv.assert_as_fresh(context, prefill(context, 0, left), stem + left)
    kv.assert_as_fresh(context, prefill(context, 1, right), stem[:80] + right)
    # And once more, now that each has cells behind the other's.
    kv.assert_as_fresh(context, prefill(context, 0, right), stem + left + right)


def test_branches_step_together_in_one_batch(kv: KvBench) -> None:
    context, stem = kv.open_branching(), tokens_of(kv.model, 100)
    left, right = tokens_of(kv.model, 3, "left "), tokens_of(kv.model, 3, "right ")
    prefill(context, 0, stem)
    context.share(0, 1, 100)
    for index in range(3):
        context.decode([Run(0, 100 + index, [left[index]], True), Run(1, 100 + index, [right[index]], True)])
    kv.assert_as_fresh(context, context.logits(0), stem + left)
    kv.assert_as_fresh(context, context.logits(1), stem + right)


@pytest.mark.parametrize("flash_attn", [False, True])
def test_branches_answer_as_fresh_ones_up_to_rounding(kv: KvBench, flash_attn: bool) -> None:
    context, stem = kv.open(flash_attn=flash_attn), tokens_of(kv.model, 100)
    left, right = tokens_of(kv.model, 20, "left "), tokens_of(kv.model, 30, "right ")
    prefill(context, 0, stem[:80])
    context.share(0, 1, 80)
    prefill(context, 0, stem[80:] + left)
    kv.assert_near(prefill(context, 1, right), prefill(kv.open(flash_attn=flash_attn), 0, stem[:80] + right))


def test_shared_cells_stay_while_one_holds_them(kv: KvBench) -> None:
    context, stem = kv.open_branching(), tokens_of(kv.model, 100)
    prefill(context, 0, stem[:60])
    checkpoint = context.checkpoint(0)
    prefill(context, 0, stem[60:])
    context.share(0, 1, 100)
    context.share(1, 2, 60, checkpoint)
    context.drop(0)
    assert [context.end(sequence) for sequence in range(3)] == [0, 100, 60]
    if not context.truncate(1, 20):
        context.drop(1)
    kv.assert_as_fresh(context, prefill(context, 2, stem[60:]), stem)


def test_sharing_takes_no_cells(kv: KvBench) -> None:
    context = kv.open(num_ctx=256)
    stem = tokens_of(kv.model, context.settings.num_ctx - 10)
    prefill(context, 0, stem)
    for target in range(1, context.max_sequences):
        context.share(0, target, len(stem))
    prefill(context, 1, stem[:10])
    for sequence in range(context.max_sequences):
        context.drop(sequence)
    prefill(context, 0, tokens_of(kv.model, context.settings.num_ctx))


def test_only_what_is_there_is_shared_and_only_with_an_empty_one(kv: KvBench) -> None:
    context = kv.open()
    prefill(context, 0, tokens_of(kv.model, 30))
    prefill(context, 1, tokens_of(kv.model, 10))
    for source, target, end in (
        (0, 1, 30),
        (0, 0, 30),
        (0, 2, 31),
        (2, 3, 1),
        (0, context.max_sequences, 30),
    ):
        with pytest.raises(BackendError):
            context.share(source, target, end)
    assert [context.end(sequence) for sequence in range(4)] == [30, 10, 0, 0]


def test_sharing_nothing_leaves_the_target_empty(kv: KvBench) -> None:
    context = kv.open()
    context.share(0, 1, 0)
    assert context.end(1) == 0
