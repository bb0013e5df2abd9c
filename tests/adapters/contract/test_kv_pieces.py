"""KV of a part of a sequence: saved alone, and put together again behind what is there."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sessiond.adapters.base import BackendError, NoRoom

from .kit import KvBench, prefill, tokens_of

_CUTS = (0, 30, 31, 75, 100)


@pytest.fixture(autouse=True)
def _only_with_cuts(kv: KvBench) -> None:
    if not kv.model.facts.capabilities.truncate:
        pytest.skip("states of such a model come whole")


def test_pieces_put_together_go_on_as_the_whole(kv: KvBench) -> None:
    tokens = tokens_of(kv.model, 101)
    first, second = kv.open_branching(), kv.open_branching()
    prefill(first, 0, tokens_of(kv.model, 20, "in the way "))
    pieces: list[bytes] = []
    for start, end in pairwise(_CUTS):
        prefill(first, 1, tokens[start:end])
        pieces.append(first.save(1, start))
    prefill(second, 0, tokens_of(kv.model, 50, "in another way "))
    for start, piece in zip(_CUTS, pieces, strict=False):
        second.load(1, piece, start)
    assert second.end(1) == 100
    kv.assert_as_fresh(second, prefill(second, 1, tokens[-1:]), tokens)


def test_pieces_out_of_the_middle_are_the_whole_byte_by_byte(kv: KvBench) -> None:
    """Of a context that may have one sequence only, which stays as it is."""
    tokens = tokens_of(kv.model, 101)
    first, second = kv.open_exact(), kv.open_exact()
    prefill(first, 0, tokens[:-1])
    for start, end in pairwise(_CUTS):
        second.load(0, first.save(0, start, end), start)
        assert second.end(0) == end
    assert second.save(0) == first.save(0)
    for context in (first, second):
        kv.assert_as_fresh(context, prefill(context, 0, tokens[-1:]), tokens)


def test_a_piece_out_of_the_middle_is_what_a_sequence_that_ends_there_gives(kv: KvBench) -> None:
    context, tokens = kv.open_branching(), tokens_of(kv.model, 100)
    prefill(context, 1, tokens_of(kv.model, 20, "in the way "))
    prefill(context, 0, tokens)
    ranges = [(start, end) for end in reversed(_CUTS) for start in (1, 30, 99) if start <= end]
    pieces = [context.save(0, start, end) for start, end in ranges]
    for (start, end), piece in zip(ranges, pieces, strict=True):
        assert context.truncate(0, end)
        assert context.save(0, start) == piece


def test_a_piece_stands_on_a_shared_prefix(kv: KvBench) -> None:
    tokens = tokens_of(kv.model, 81)
    context = kv.open_branching()
    prefill(context, 0, tokens[:-1])
    piece = context.save(0, 50)
    context.share(0, 1, 50)
    context.drop(0)
    context.load(1, piece, 50)
    kv.assert_as_fresh(context, prefill(context, 1, tokens[-1:]), tokens)


def test_a_piece_takes_only_its_own_cells(kv: KvBench) -> None:
    context = kv.open(num_ctx=256)
    prefill(context, 0, tokens_of(kv.model, 200))
    piece = context.save(0, 150)
    context.share(0, 1, 150)
    context.load(1, piece, 150)
    context.drop(0)
    prefill(context, 1, tokens_of(kv.model, 56))
    assert context.end(1) == 256


def test_a_later_piece_is_smaller(kv: KvBench) -> None:
    context = kv.open()
    prefill(context, 0, tokens_of(kv.model, 200))
    assert len(context.save(0, 150)) < len(context.save(0, 100)) < len(context.save(0))


def test_saving_a_piece_changes_nothing(kv: KvBench) -> None:
    context, tokens = kv.open_branching(), tokens_of(kv.model, 60)
    prefill(context, 0, tokens[:-1])
    assert context.save(0, 20) == context.save(0, 20)
    assert context.end(0) == 59
    kv.assert_as_fresh(context, prefill(context, 0, tokens[-1:]), tokens)


def test_an_empty_piece_is_one(kv: KvBench) -> None:
    context = kv.open()
    prefill(context, 0, tokens_of(kv.model, 40))
    context.load(0, context.save(0, 40), 40)
    assert context.end(0) == 40
    middle = context.save(0, 20, 20)
    context.truncate(0, 20)
    context.load(0, middle, 20)
    assert context.end(0) == 20


def test_only_what_is_there_is_saved(kv: KvBench) -> None:
    context = kv.open()
    prefill(context, 0, tokens_of(kv.model, 40))
    for sequence, start in ((0, 41), (0, -1), (1, 1), (context.max_sequences, 0)):
        with pytest.raises(BackendError):
            context.save(sequence, start)
    for start, end in ((0, 41), (20, 41), (20, 19), (0, -1), (-5, -1)):
        with pytest.raises(BackendError):
            context.save(0, start, end)
    assert context.end(0) == 40


def test_a_piece_is_loaded_where_it_belongs_and_nowhere_else(kv: KvBench) -> None:
    context, tokens = kv.open_branching(), tokens_of(kv.model, 60)
    prefill(context, 0, tokens[:-1])
    piece, whole = context.save(0, 30), context.save(0)
    context.share(0, 1, 30)
    context.share(0, 2, 29)
    for sequence, state, start in (
        (1, piece, 29),
        (1, piece, 0),
        (1, whole, 30),
        (2, piece, 29),
        (2, piece, 30),
        (3, piece, 0),
        (3, piece, 30),
    ):
        with pytest.raises(BackendError):
            context.load(sequence, state, start)
    assert [context.end(sequence) for sequence in range(4)] == [59, 30, 29, 0]
    context.load(1, piece, 30)
    kv.assert_as_fresh(context, prefill(context, 1, tokens[-1:]), tokens)


def test_a_damaged_piece_leaves_what_was_there(kv: KvBench) -> None:
    context, tokens = kv.open_branching(), tokens_of(kv.model, 60)
    prefill(context, 0, tokens[:-1])
    piece = context.save(0, 30)
    context.share(0, 1, 30)
    for spoilt in (b"", piece[:40], piece[:-1], piece + b"\0", bytes(len(piece))):
        with pytest.raises(BackendError):
            context.load(1, spoilt, 30)
        assert context.end(1) == 30
    kv.assert_as_fresh(context, prefill(context, 1, tokens[30:]), tokens)


def test_without_room_nothing_of_a_piece_is_loaded(kv: KvBench) -> None:
    context, tokens = kv.open(num_ctx=256), tokens_of(kv.model, 121)
    prefill(context, 0, tokens[:-1])
    piece = context.save(0, 20)
    assert context.truncate(0, 20)
    prefill(context, 1, tokens_of(kv.model, context.cells - 60))
    with pytest.raises(NoRoom):
        context.load(0, piece, 20)
    assert (context.end(0), context.end(1)) == (20, context.cells - 60)
    context.drop(1)
    context.load(0, piece, 20)
    kv.assert_as_fresh(context, prefill(context, 0, tokens[-1:]), tokens)


@pytest.mark.parametrize("has", [31, 32, 99])
def test_of_a_piece_that_begins_too_early_the_rest_is_loaded(kv: KvBench, has: int) -> None:
    """Also behind a branch's own cells, and where a context has one sequence and puts cells in order."""
    tokens = tokens_of(kv.model, 101)
    first, second = kv.open_exact(), kv.open_exact()
    prefill(first, 0, tokens[:-1])
    second.load(0, first.save(0, 0, has))
    second.load(0, first.save(0, 30), has, has - 30)
    assert second.save(0) == first.save(0)
    kv.assert_as_fresh(second, prefill(second, 0, tokens[-1:]), tokens)


def test_what_is_skipped_of_a_piece_takes_no_cells_and_changes_none(kv: KvBench) -> None:
    context, tokens = kv.open(num_ctx=256), tokens_of(kv.model, 200)
    prefill(context, 0, tokens)
    piece, whole = context.save(0, 100), context.save(0)
    assert context.truncate(0, 150)
    prefill(context, 1, tokens_of(kv.model, context.cells - 200, "in another way "))
    context.load(0, piece, 150, 50)
    assert context.save(0) == whole
    context.drop(1)
    prefill(context, 0, tokens_of(kv.model, context.cells - 200))  # no cell was left behind


def test_only_what_a_piece_has_is_skipped(kv: KvBench) -> None:
    context = kv.open()
    prefill(context, 0, tokens_of(kv.model, 60))
    piece = context.save(0, 20, 40)
    for start, skip in ((60, 40), (60, 61), (60, -1), (60, 20), (60, 0)):
        with pytest.raises(BackendError):
            context.load(0, piece, start, skip)
        assert context.end(0) == 60
    assert context.truncate(0, 40)
    context.load(0, piece, 40, 20)
    assert context.end(0) == 40


@pytest.mark.parametrize("flash_attn", [False, True])
@pytest.mark.parametrize("cache", ["f16", "q8_0"])
def test_however_values_are_laid_out_the_rest_of_a_piece_is_loaded(
    kv: KvBench, flash_attn: bool, cache: str
) -> None:
    """Without flash attention, those of one number of all cells stand together."""
    if cache != "f16" and not flash_attn:
        pytest.skip("quantized values need flash attention")
    first, second = (kv.open(flash_attn=flash_attn, kv_cache_type=cache) for _ in range(2))
    prefill(first, 0, tokens_of(kv.model, 100))
    second.load(0, first.save(0, 0, 70))
    second.load(0, first.save(0, 30), 70, 40)
    assert second.save(0) == first.save(0)
