"""KV that leaves a context as bytes, and comes back."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from sessiond.adapters.base import BackendError, NoRoom, Unsupported

from .kit import KvBench, prefill, tokens_of


@pytest.fixture(autouse=True)
def _only_with_snapshots(kv: KvBench) -> None:
    assert kv.model.facts.capabilities.snapshot


def test_a_loaded_sequence_goes_on_as_the_saved_one(kv: KvBench) -> None:
    tokens = tokens_of(kv.model, 101)
    first = kv.open_branching()
    prefill(first, 0, tokens[:-1])
    state = first.save(0)
    # Into the same context beside the first one, and into another one at another place.
    other = kv.open_branching()
    prefill(other, 1, tokens_of(kv.model, 30, "in the way "))
    for context, sequence in ((first, 1), (other, 0)):
        context.load(sequence, state)
        assert context.end(sequence) == 100
        kv.assert_as_fresh(context, prefill(context, sequence, tokens[-1:]), tokens)
    kv.assert_as_fresh(first, prefill(first, 0, tokens[-1:]), tokens)


def test_a_shared_part_is_saved_whole(kv: KvBench) -> None:
    tokens = tokens_of(kv.model, 61)
    first, second = kv.open_branching(), kv.open_branching()
    prefill(first, 0, tokens[:40])
    first.share(0, 1, 40)
    prefill(first, 1, tokens[40:60])
    second.load(0, first.save(1))
    assert second.end(0) == 60
    kv.assert_as_fresh(second, prefill(second, 0, tokens[60:]), tokens)


def test_a_loaded_sequence_can_be_shared_and_cut(kv: KvBench) -> None:
    tokens = tokens_of(kv.model, 80)
    first, second = kv.open_branching(), kv.open_branching()
    prefill(first, 0, tokens)
    prefill(first, 1, tokens[:50])
    checkpoint = first.checkpoint(1)
    second.load(0, first.save(0))
    second.share(0, 1, 50, checkpoint)
    second.drop(0)
    kv.assert_as_fresh(second, prefill(second, 1, tokens[50:]), tokens)


def test_saving_changes_nothing(kv: KvBench) -> None:
    context, tokens = kv.open_branching(), tokens_of(kv.model, 50)
    prefill(context, 0, tokens[:-1])
    assert context.save(0) == context.save(0)
    assert context.end(0) == 49
    kv.assert_as_fresh(context, prefill(context, 0, tokens[-1:]), tokens)


def test_a_part_is_saved_only_where_a_sequence_can_be_cut(kv: KvBench) -> None:
    context, tokens = kv.open(), tokens_of(kv.model, 50)
    prefill(context, 0, tokens)
    assert context.save(0, 0, 50) == context.save(0)
    for start, end in ((0, 49), (1, 50)):
        if kv.cuts:
            assert len(context.save(0, start, end)) < len(context.save(0))
        else:
            with pytest.raises(Unsupported):
                context.save(0, start, end)
    assert context.end(0) == 50


def _noise(state: bytes) -> bytes:
    return random.Random(1).randbytes(len(state))


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda _: b"", id="empty"),
        pytest.param(lambda state: state[:7], id="seven bytes"),
        pytest.param(lambda state: state[: len(state) // 2], id="half"),
        pytest.param(lambda state: state[:-1], id="one byte short"),
        pytest.param(lambda state: b"\xff" * 64 + state[64:], id="head overwritten"),
        pytest.param(lambda state: bytes(len(state)), id="zeros"),
        pytest.param(_noise, id="noise"),
    ],
)
def test_damaged_bytes_are_refused_and_leave_nothing(kv: KvBench, spoil: Callable[[bytes], bytes]) -> None:
    context, tokens = kv.open_branching(), tokens_of(kv.model, 60)
    prefill(context, 0, tokens[:-1])
    state = context.save(0)
    with pytest.raises(BackendError):
        context.load(1, spoil(state))
    assert (context.end(0), context.end(1)) == (59, 0)
    context.load(1, state)
    kv.assert_as_fresh(context, prefill(context, 1, tokens[-1:]), tokens)


def test_a_sequence_that_holds_something_is_not_loaded_into(kv: KvBench) -> None:
    context, tokens = kv.open_branching(), tokens_of(kv.model, 40)
    prefill(context, 0, tokens_of(kv.model, 20, "another "))
    state = context.save(0)
    prefill(context, 1, tokens[:-1])
    with pytest.raises(BackendError):
        context.load(1, state)
    assert context.end(1) == 39
    kv.assert_as_fresh(context, prefill(context, 1, tokens[-1:]), tokens)


def test_without_room_nothing_is_loaded(kv: KvBench) -> None:
    if not kv.has_cells:
        pytest.skip("each sequence is one state, however long it is")
    context = kv.open(num_ctx=256)
    tokens = tokens_of(kv.model, 101)
    prefill(context, 0, tokens[:-1])
    state = context.save(0)
    context.drop(0)
    filled = context.settings.num_ctx - 50
    prefill(context, 1, tokens_of(kv.model, filled))
    # Not any BackendError: whoever sees NoRoom makes room and tries again, and else throws the bytes away.
    with pytest.raises(NoRoom):
        context.load(0, state)
    assert (context.end(0), context.end(1)) == (0, filled)
    context.drop(1)
    context.load(0, state)
    kv.assert_as_fresh(context, prefill(context, 0, tokens[-1:]), tokens)


def test_of_a_state_that_comes_whole_nothing_is_skipped(kv: KvBench) -> None:
    if kv.cuts:
        pytest.skip("a part of it does")
    context, tokens = kv.open(), tokens_of(kv.model, 40)
    prefill(context, 0, tokens)
    state = context.save(0)
    with pytest.raises(Unsupported):
        context.load(0, state, 40, 20)
    assert context.save(0) == state
