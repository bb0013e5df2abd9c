"""Returning to where a sequence once ended, in a backend that cannot cut it by itself."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from sessiond.adapters.base import KvContext, Run, Unsupported

from .kit import KvBench, prefill, tokens_of


@pytest.fixture(autouse=True)
def _only_without_cuts(kv: KvBench) -> None:
    if kv.cuts:
        pytest.skip("needs no checkpoint")
    assert kv.model.facts.capabilities.fork


def _decode(context: KvContext, sequence: int, *chunks: list[int]) -> bytes:
    for chunk in chunks:
        context.decode([Run(sequence, context.end(sequence), chunk, want_logits=True)])
    return context.logits(0)


def _moved_on(kv: KvBench, **settings: object) -> tuple[KvContext, bytes, list[int]]:
    """A context whose sequence 0 held these 100 tokens when the checkpoint was taken, and went on for 120."""
    context, tokens = kv.open(**settings), tokens_of(kv.model, 100)
    prefill(context, 0, tokens)
    checkpoint = context.checkpoint(0)
    _decode(context, 0, tokens_of(kv.model, 120, "elsewhere "))
    return context, checkpoint, tokens


@pytest.mark.parametrize("flash_attn", [False, True])
def test_a_cut_sequence_goes_on_bit_for_bit(kv: KvBench, flash_attn: bool) -> None:
    # The shapes of the batches and the order of the cells are the same on both sides, so nothing may differ.
    context, checkpoint, tokens = _moved_on(kv, flash_attn=flash_attn)
    more = [tokens_of(kv.model, count, "then ") for count in (50, 1, 17)]
    assert context.truncate(0, 100, checkpoint)
    assert context.end(0) == 100
    assert _decode(context, 0, *more) == _decode(kv.open(flash_attn=flash_attn), 0, tokens, *more)


def test_a_checkpoint_may_be_used_again_and_again(kv: KvBench) -> None:
    context, checkpoint, tokens = _moved_on(kv)
    for opening in ("one ", "another ", "third "):
        more = tokens_of(kv.model, 40, opening)
        assert context.truncate(0, 100, checkpoint)
        assert _decode(context, 0, more) == _decode(kv.open(), 0, tokens, more)


def test_an_earlier_checkpoint_leads_further_back(kv: KvBench) -> None:
    context, tokens = kv.open(), tokens_of(kv.model, 150)
    checkpoints: dict[int, bytes] = {}
    for end in (30, 31, 70, 150):
        prefill(context, 0, tokens[context.end(0) : end])
        checkpoints[end] = context.checkpoint(0)
    more = tokens_of(kv.model, 20, "then ")
    _decode(context, 0, more)
    for end in (150, 70, 31, 30):
        assert context.truncate(0, end, checkpoints[end])
        kv.assert_near(_decode(context, 0, more), kv.fresh_logits(tokens[:end] + more))


def test_a_branch_from_a_checkpoint_answers_as_a_fresh_one_and_so_does_its_source(kv: KvBench) -> None:
    context, checkpoint, tokens = _moved_on(kv)
    other, more = tokens_of(kv.model, 120, "elsewhere "), tokens_of(kv.model, 40, "then ")
    for target in (1, 2):
        context.share(0, target, 100, checkpoint)
        assert context.end(target) == 100
    kv.assert_near(_decode(context, 1, more), kv.fresh_logits(tokens + more))
    kv.assert_near(_decode(context, 0, more), kv.fresh_logits(tokens + other + more))
    context.drop(0)
    context.drop(1)
    kv.assert_near(_decode(context, 2, more), kv.fresh_logits(tokens + more))


def test_a_loaded_sequence_returns_to_a_checkpoint_from_before(kv: KvBench) -> None:
    # A state has of a sliding window what its last token sees, so only the checkpoint has what was before.
    context, checkpoint, tokens = _moved_on(kv)
    second, more = kv.open(), tokens_of(kv.model, 40, "then ")
    second.load(0, context.save(0))
    assert not second.truncate(0, 100)
    with pytest.raises(Unsupported):
        second.share(0, 1, 100)
    second.share(0, 1, 100, checkpoint)
    assert second.truncate(0, 100, checkpoint)
    for sequence in (0, 1):
        kv.assert_near(_decode(second, sequence, more), kv.fresh_logits(tokens + more))


def test_a_branch_takes_no_more_cells_than_its_own_tokens(kv: KvBench) -> None:
    context, checkpoint, _ = _moved_on(kv, num_ctx=512)
    for target in range(1, 4):
        context.share(0, target, 100, checkpoint)
        prefill(context, target, tokens_of(kv.model, 70, f"{target} "))
    assert [context.end(sequence) for sequence in range(4)] == [220, 170, 170, 170]


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda _: b"", id="none"),
        pytest.param(lambda checkpoint: checkpoint[:7], id="seven bytes"),
        pytest.param(lambda checkpoint: checkpoint[: len(checkpoint) // 2], id="half"),
        pytest.param(lambda checkpoint: checkpoint[:-1], id="one byte short"),
        pytest.param(lambda checkpoint: checkpoint + b"\0", id="one byte more"),
        pytest.param(lambda checkpoint: bytes(len(checkpoint)), id="zeros"),
        pytest.param(lambda checkpoint: random.Random(1).randbytes(len(checkpoint)), id="noise"),
    ],
)
def test_other_bytes_are_refused_and_change_nothing(kv: KvBench, spoil: Callable[[bytes], bytes]) -> None:
    context, checkpoint, tokens = _moved_on(kv)
    second, more = kv.open(), tokens_of(kv.model, 40, "then ")
    second.load(0, context.save(0))
    assert not second.truncate(0, 100, spoil(checkpoint))
    with pytest.raises(Unsupported):
        second.share(0, 1, 100, spoil(checkpoint))
    assert (second.end(0), second.end(1)) == (220, 0)
    kv.assert_near(
        _decode(second, 0, more), kv.fresh_logits(tokens + tokens_of(kv.model, 120, "elsewhere ") + more)
    )


def test_a_checkpoint_of_another_place_or_a_whole_state_is_refused(kv: KvBench) -> None:
    context, checkpoint, _ = _moved_on(kv)
    second = kv.open()
    second.load(0, context.save(0))
    for end in (99, 101, 1):
        assert not second.truncate(0, end, checkpoint)
        with pytest.raises(Unsupported):
            second.share(0, 1, end, checkpoint)
    assert not second.truncate(0, 100, context.save(0))
    assert (second.end(0), second.end(1)) == (220, 0)


def test_nothing_is_shared_or_kept_without_a_checkpoint(kv: KvBench) -> None:
    context, _, tokens = _moved_on(kv)
    context.share(0, 1, 0)
    assert context.end(1) == 0
    assert context.truncate(0, 0)
    assert context.end(0) == 0
    kv.assert_near(prefill(context, 0, tokens), kv.fresh_logits(tokens))
