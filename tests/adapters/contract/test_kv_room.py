"""A context that is full says so and loses nothing."""

from __future__ import annotations

import pytest

from sessiond.adapters.base import NoRoom, Run

from .kit import KvBench, prefill, tokens_of


@pytest.fixture(autouse=True)
def _only_with_cells(kv: KvBench) -> None:
    if not kv.has_cells:
        pytest.skip("each sequence is one state, however long it is")


def test_without_room_nothing_is_computed(kv: KvBench) -> None:
    context = kv.open(num_ctx=256)
    tokens = tokens_of(kv.model, context.settings.num_ctx)
    prefill(context, 0, tokens[:-100])
    # More than one micro-batch would fit: it must not be computed either.
    with pytest.raises(NoRoom):
        context.decode([Run(0, context.end(0), tokens[:20]), Run(1, 0, tokens[:100])])
    assert context.end(0) == len(tokens) - 100
    assert context.end(1) == 0
    kv.assert_as_fresh(context, prefill(context, 0, tokens[-100:]), tokens, num_ctx=256)


def test_all_cells_can_be_used(kv: KvBench) -> None:
    context = kv.open(num_ctx=256)
    tokens = tokens_of(kv.model, context.settings.num_ctx)
    prefill(context, 0, tokens)
    assert context.end(0) == context.settings.num_ctx
    with pytest.raises(NoRoom):
        context.decode([Run(1, 0, tokens[:1])])


def test_a_drop_makes_room(kv: KvBench) -> None:
    context = kv.open(num_ctx=256)
    tokens = tokens_of(kv.model, 60)
    prefill(context, 0, tokens_of(kv.model, context.settings.num_ctx - 20))
    with pytest.raises(NoRoom):
        context.decode([Run(1, 0, tokens)])
    context.drop(0)
    kv.assert_as_fresh(context, prefill(context, 1, tokens), tokens)


def test_cells_in_pieces_are_room(kv: KvBench) -> None:
    context = kv.open_branching(num_ctx=256)
    sequences, size = range(4), context.settings.num_ctx // 4
    for sequence in sequences:
        prefill(context, sequence, tokens_of(kv.model, size, f"{sequence} "))
    context.drop(0)
    context.drop(2)
    tokens = tokens_of(kv.model, 2 * size)
    kv.assert_as_fresh(context, prefill(context, 0, tokens), tokens)


def test_where_cells_lie_does_not_show(kv: KvBench) -> None:
    # The room that a drop made lies before the prefix: a backend that sums in the order of its cells, and not of
    # their positions, rounds otherwise here.
    context, tokens = kv.open_branching(), tokens_of(kv.model, 120)
    prefill(context, 0, tokens_of(kv.model, 130, "in the way "))
    prefill(context, 1, tokens[:60])
    context.drop(0)
    kv.assert_as_fresh(context, prefill(context, 1, tokens[60:]), tokens)


def test_there_may_be_more_cells_than_one_sequence_can_fill(kv: KvBench) -> None:
    context = kv.open(num_ctx=256, num_cells=768)
    assert context.cells == 768
    tokens = tokens_of(kv.model, 256)
    for sequence in range(3):
        prefill(context, sequence, tokens)
    with pytest.raises(NoRoom):
        context.decode([Run(3, 0, tokens[:1])])
    assert [context.end(sequence) for sequence in range(4)] == [256, 256, 256, 0]
