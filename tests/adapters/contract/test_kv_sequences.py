"""Ends, cuts and drops."""

from __future__ import annotations

from .kit import KvBench, prefill, small, tokens_of


def test_a_sequence_ends_where_its_tokens_end(kv: KvBench) -> None:
    context, tokens = kv.open(), tokens_of(kv.model, 90)
    assert [context.end(sequence) for sequence in range(context.max_sequences)] == [0] * context.max_sequences
    prefill(context, 1, tokens)
    assert context.end(1) == 90
    assert context.end(0) == 0


def test_there_are_several_sequences(kv: KvBench) -> None:
    assert kv.open().max_sequences >= 4


def test_cells_have_a_size_that_is_known_before(kv: KvBench) -> None:
    context = kv.open()
    assert context.cell_bytes == kv.model.cell_bytes(small()) >= 0
    assert context.cell_bytes > 0 or not kv.cuts


def test_free_memory_is_a_number_where_it_is_not_the_machine_s_own(kv: KvBench) -> None:
    free = kv.model.free_memory()
    assert free is None or free > 0


def test_a_cut_sequence_goes_on_as_if_it_had_ended_there(kv: KvBench) -> None:
    context = kv.open_exact()
    first, other = tokens_of(kv.model, 90), tokens_of(kv.model, 30, "otherwise ")
    prefill(context, 0, first)
    cut = context.truncate(0, 60)
    assert cut or not kv.cuts
    kept = first[:60] if cut else first
    assert context.end(0) == len(kept)
    kv.assert_as_fresh(context, prefill(context, 0, other), kept + other)


def test_a_sequence_can_always_be_cut_to_nothing(kv: KvBench) -> None:
    context, tokens = kv.open_exact(), tokens_of(kv.model, 60)
    prefill(context, 0, tokens_of(kv.model, 80, "something else "))
    assert context.truncate(0, 0)
    assert context.end(0) == 0
    kv.assert_as_fresh(context, prefill(context, 0, tokens), tokens)


def test_a_cut_at_or_behind_the_end_changes_nothing(kv: KvBench) -> None:
    context, tokens = kv.open_exact(), tokens_of(kv.model, 40)
    prefill(context, 0, tokens[:-1])
    context.truncate(0, 39)
    context.truncate(0, 100)
    assert context.end(0) == 39
    kv.assert_as_fresh(context, prefill(context, 0, tokens[-1:]), tokens)


def test_a_dropped_sequence_is_as_new(kv: KvBench) -> None:
    context, tokens = kv.open_exact(), tokens_of(kv.model, 60)
    prefill(context, 0, tokens_of(kv.model, 80, "something else "))
    context.drop(0)
    assert context.end(0) == 0
    context.drop(0)  # an empty one is dropped just so
    kv.assert_as_fresh(context, prefill(context, 0, tokens), tokens)


def test_a_drop_leaves_others_alone(kv: KvBench) -> None:
    context, tokens = kv.open_branching(), tokens_of(kv.model, 60)
    prefill(context, 0, tokens_of(kv.model, 80, "something else "))
    prefill(context, 1, tokens[:-1])
    context.drop(0)
    assert context.end(1) == 59
    kv.assert_as_fresh(context, prefill(context, 1, tokens[-1:]), tokens)
