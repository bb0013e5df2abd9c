"""Bytes of KV that no llama.cpp wrote: they are refused before llama.cpp sees them, and spoil nothing."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest

from sessiond.adapters.base import BackendError, ContextSettings, ModelSettings, Run
from sessiond.adapters.llama_cpp import ADAPTER, embedded_model
from sessiond.adapters.llama_cpp.context import LlamaContext
from sessiond.adapters.llama_cpp.model import LlamaModel

pytestmark = pytest.mark.model

_HEAD = 16
"""Magic, sequence, streams, cells."""
_TOKENS = 20


@pytest.fixture(scope="module")
def model() -> Iterator[LlamaModel]:
    path = embedded_model()
    assert path is not None
    model = ADAPTER.load(path, ModelSettings(), lambda _: None)
    assert isinstance(model, LlamaModel)
    yield model
    model.close()


@pytest.fixture
def context(model: LlamaModel) -> Iterator[LlamaContext]:
    context = model.new_context(ContextSettings(num_ctx=256))
    context.decode([Run(0, 0, list(range(_TOKENS)))])
    yield context
    context.close()


def _cell(index: int, position: int, sequences: int = 1) -> Callable[[bytearray], None]:
    def change(state: bytearray) -> None:
        struct.pack_into("=iI", state, _HEAD + 12 * index, position, sequences)

    return change


def _number(at: int, value: int) -> Callable[[bytearray], None]:
    def change(state: bytearray) -> None:
        struct.pack_into("=I", state, at, value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_cell(3, -1), id="a position below 0"),
        pytest.param(_cell(3, -(2**31)), id="a position far below 0"),
        pytest.param(_cell(3, 4), id="a position twice"),
        pytest.param(_cell(3, 200), id="a gap"),
        pytest.param(_cell(3, 2**31 - 1), id="the last position there is"),
        pytest.param(_cell(3, 3, sequences=2), id="a cell of two sequences"),
        pytest.param(_cell(3, 3, sequences=0), id="a cell of none"),
        pytest.param(_number(0, 7), id="another magic"),
        pytest.param(_number(8, 2), id="two streams"),
        pytest.param(_number(12, _TOKENS - 1), id="a cell less"),
        pytest.param(_number(12, _TOKENS + 1), id="a cell more"),
        pytest.param(_number(12, 0), id="no cells"),
        pytest.param(_number(12, 2**32 - 1), id="more cells than there is memory"),
        pytest.param(_number(_HEAD + 12 * _TOKENS, 0), id="values in another order"),
        pytest.param(_number(_HEAD + 12 * _TOKENS + 4, 2**32 - 1), id="more layers than there are"),
        pytest.param(_number(_HEAD + 12 * _TOKENS + 8, 0), id="another type of number"),
        pytest.param(_number(_HEAD + 12 * _TOKENS + 12, 0), id="rows of another size"),
    ],
)
def test_a_forged_state_is_refused_and_spoils_nothing(
    context: LlamaContext, change: Callable[[bytearray], None]
) -> None:
    state = context.save(0)
    forged = bytearray(state)
    change(forged)
    with pytest.raises(BackendError):
        context.load(1, bytes(forged))
    assert (context.end(0), context.end(1)) == (_TOKENS, 0)
    assert context.save(0) == state
    # Nothing is left in the cells: all of the others can be filled.
    context.decode([Run(1, 0, [1] * (256 - _TOKENS))])
    context.drop(1)
    context.load(1, state)
    assert context.end(1) == _TOKENS


def test_a_piece_that_says_it_is_from_elsewhere_is_refused(context: LlamaContext) -> None:
    piece = bytearray(context.save(0, 10))
    context.share(0, 1, 5)
    for index in range(_TOKENS - 10):
        _cell(index, 5 + index)(piece)
    with pytest.raises(BackendError):
        context.load(0, bytes(piece), _TOKENS)
    context.load(1, bytes(piece), 5)  # what it says is all that can be known
    assert (context.end(0), context.end(1)) == (_TOKENS, 5 + _TOKENS - 10)


def test_a_state_of_another_kind_of_cells_is_refused(model: LlamaModel, context: LlamaContext) -> None:
    other = model.new_context(ContextSettings(num_ctx=256, kv_cache_type="q8_0"))
    try:
        with pytest.raises(BackendError):
            other.load(0, context.save(0))
        assert other.end(0) == 0
    finally:
        other.close()
