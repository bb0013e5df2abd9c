"""What daemon and engine say to each other comes back as it was, and nonsense is known as such."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessiond.adapters.base import (
    Capabilities,
    ContextSettings,
    FimTokens,
    LoraSettings,
    ModelFacts,
    ModelSettings,
    Sampling,
    VocabFacts,
)
from sessiond.daemon.engine import wire
from sessiond.daemon.engine.process import EngineFailed

_INT = st.integers(-(2**63), 2**63 - 1)
_FLOAT = st.floats(allow_nan=False)
_TEXT = st.text(max_size=8)
_BYTES = st.binary(max_size=16)
_BOOL = st.booleans()


def _few(each: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(each, max_size=3)


def _tuple(each: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return _few(each).map(tuple)


_LOADING = st.builds(
    ModelSettings,
    num_gpu_layers=st.none() | _INT,
    tensor_split=_tuple(_FLOAT),
    main_gpu=_INT,
    split_mode=_TEXT,
    use_mmap=_BOOL,
    use_mlock=_BOOL,
    loras=_tuple(st.builds(LoraSettings, _TEXT, _FLOAT)),
    extra_buffers=_BOOL,
)
_CONTEXT = st.builds(
    ContextSettings,
    num_ctx=_INT,
    num_batch=_INT,
    flash_attn=st.none() | _BOOL,
    deterministic=_BOOL,
    kv_cache_type=_TEXT,
    rope_freq_base=_FLOAT,
)
_SAMPLING = st.builds(
    Sampling,
    seed=_INT,
    temperature=_FLOAT,
    samplers=_tuple(_TEXT),
    logit_bias=_tuple(st.tuples(_INT, _FLOAT)),
)
_FACTS = st.builds(
    ModelFacts,
    backend=_TEXT,
    backend_version=_TEXT,
    description=_TEXT,
    path=_TEXT,
    model_digest=_TEXT,
    size_bytes=_INT,
    parameters=_INT,
    num_ctx_train=_INT,
    vocab=st.builds(
        VocabFacts,
        fim=st.none() | st.builds(FimTokens, _INT, _INT, _INT, st.none() | _INT),
        opens_with_space=_BOOL,
        size=_INT,
        bos=st.none() | _INT,
        add_bos=_BOOL,
        end_tokens=st.frozensets(_INT, max_size=3),
        digest=_TEXT,
        chat_template=_TEXT,
    ),
    capabilities=st.builds(Capabilities, embed=_BOOL, snapshot=_BOOL),
    notes=_tuple(_TEXT),
)
_OF: dict[type[Any], st.SearchStrategy[Any]] = {
    wire.Load: st.builds(wire.Load, _INT, _TEXT, _TEXT, _LOADING, _INT, _TEXT, _INT),
    wire.Measure: st.builds(wire.Measure, _INT),
    wire.Tokenize: st.builds(wire.Tokenize, _INT, _few(_TEXT), _BOOL),
    wire.Pieces: st.builds(wire.Pieces, _INT, _BYTES),
    wire.Embed: st.builds(wire.Embed, _INT, _few(_TEXT)),
    wire.Frame: st.builds(wire.Frame, _INT, _TEXT, _few(_TEXT)),
    wire.Open: st.builds(wire.Open, _INT, _TEXT, _TEXT, _CONTEXT, _TEXT, _INT, _TEXT, _BOOL),
    wire.Close: st.builds(wire.Close, _INT, _TEXT),
    wire.Park: st.builds(wire.Park, _INT, _TEXT),
    wire.LimitMemory: st.builds(wire.LimitMemory, _INT, _INT),
    wire.Flush: st.builds(wire.Flush, _INT, _FLOAT),
    wire.Check: st.builds(wire.Check, _INT),
    wire.Tally: st.builds(wire.Tally, _INT),
    wire.Advance: st.builds(wire.Advance, _INT, _TEXT, _BYTES, _BYTES, _BOOL, st.none() | _FLOAT),
    wire.Generate: st.builds(
        wire.Generate,
        *(_INT, _TEXT, _BYTES, _SAMPLING, _INT, _few(_TEXT), st.none() | _FLOAT, _BOOL),
        _few(st.tuples(_INT, _INT)),
        _few(_INT),
        _BYTES,
    ),
    wire.Logits: st.builds(wire.Logits, _INT, _TEXT, _BYTES),
    wire.Weigh: st.builds(wire.Weigh, _INT, _TEXT, _BYTES, _BYTES, st.none() | _FLOAT),
    wire.SaveKv: st.builds(wire.SaveKv, _INT, _TEXT, _BYTES, _INT, _INT),
    wire.LoadKv: st.builds(wire.LoadKv, _INT, _TEXT, _BYTES, _INT, _INT, _BYTES),
    wire.Cancel: st.builds(wire.Cancel, _INT, _INT),
    wire.TokenLists: st.builds(wire.TokenLists, _few(_BYTES)),
    wire.PieceList: st.builds(wire.PieceList, _few(_BYTES)),
    wire.Embedded: st.builds(wire.Embedded, _few(_BYTES), _few(_INT), _INT, _TEXT),
    wire.Opened: st.builds(wire.Opened, _CONTEXT, _INT),
    wire.Advanced: st.builds(wire.Advanced, _INT, _INT, _INT, _TEXT, _FLOAT, _FLOAT, _FLOAT),
    wire.Generated: st.builds(wire.Generated, _TEXT, _TEXT, _INT, _BYTES, _FLOAT, _FLOAT),
    wire.RawLogits: st.builds(wire.RawLogits, _BYTES),
    wire.Weighed: st.builds(wire.Weighed, _few(_FLOAT), _few(_BYTES), _FLOAT),
    wire.KvPiece: st.builds(wire.KvPiece, _BYTES),
    wire.KvTaken: st.builds(wire.KvTaken, _INT, _TEXT),
    wire.Loaded: st.builds(wire.Loaded, _FACTS, _CONTEXT),
    wire.Measured: st.builds(
        wire.Measured,
        _few(st.builds(wire.Trial, _CONTEXT, _few(st.builds(wire.Lap, _FLOAT, _FLOAT, _FLOAT)))),
        _INT,
        _BOOL,
    ),
    wire.Framed: st.builds(wire.Framed, _few(_TEXT), _TEXT),
    wire.Checked: st.builds(wire.Checked, st.dictionaries(_TEXT, st.tuples(_INT, _INT), max_size=3), _INT),
    wire.Tallied: st.builds(
        wire.Tallied,
        *[_INT] * 10,
        disk=st.none() | st.builds(wire.DiskTold, *[_INT] * 14),
    ),
    wire.Nothing: st.just(wire.Nothing()),
    wire.Failed: st.builds(wire.Failed, _INT, _TEXT, _TEXT, _TEXT, _BYTES),
    wire.Progress: st.builds(wire.Progress, _INT, _INT, _INT),
    wire.Piece: st.builds(wire.Piece, _INT, _TEXT, _few(_INT)),
    wire.Residence: st.builds(wire.Residence, _INT, _TEXT, _INT, _INT),
    wire.ArenaState: st.builds(wire.ArenaState, _INT, _TEXT, _INT, _INT, _BOOL),
}
_OF[wire.Reached] = st.builds(wire.Reached, _INT, _OF[wire.Advanced])
_COMMANDS = [_OF[kind] for kind in wire.AnyCommand.__args__]
_ANSWERS = [_OF[kind] for kind in wire.Answer.__args__]
_EVENTS = [
    st.builds(wire.Done, _INT, st.one_of(_ANSWERS)),
    *(_OF[kind] for kind in (wire.Failed, wire.Progress, wire.Reached, wire.Piece)),
    *(_OF[kind] for kind in (wire.Residence, wire.ArenaState)),
]


def test_every_event_is_tested() -> None:
    assert set(wire.AnyEvent.__args__) == {
        wire.Done,
        wire.Failed,
        wire.Progress,
        wire.Reached,
        wire.Piece,
        wire.Residence,
        wire.ArenaState,
    }


def _body(frame: bytes) -> bytes:
    (size,) = wire.PREFIX.unpack(frame[: wire.PREFIX.size])
    assert size == len(frame) - wire.PREFIX.size
    return frame[wire.PREFIX.size :]


@given(st.one_of(_COMMANDS))
def test_commands_come_back(command: wire.AnyCommand) -> None:
    assert wire.decode_command(_body(wire.encode(command))) == command


@given(st.one_of(_EVENTS))
def test_events_come_back(event: wire.AnyEvent) -> None:
    assert wire.decode_event(_body(wire.encode(event))) == event


@given(st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_tokens_come_back(tokens: list[int]) -> None:
    assert wire.unpack_tokens(wire.pack_tokens(tokens)) == tokens


_NESTED = st.recursive(
    st.none() | _BOOL | _INT | _FLOAT | _TEXT | _BYTES,
    lambda inner: _few(inner) | st.dictionaries(_TEXT, inner),
)


@settings(max_examples=300)
@given(
    st.one_of(
        st.binary(max_size=64),
        _NESTED.map(msgspec.msgpack.encode),
        st.tuples(st.one_of(*_COMMANDS, *_EVENTS), st.floats(0, 1)).map(
            lambda cut: _body(wire.encode(cut[0]))[: int(len(_body(wire.encode(cut[0]))) * cut[1])]
        ),
    )
)
def test_nonsense_is_known_as_such(data: bytes) -> None:
    """`msgspec.DecodeError` is the base of `msgspec.ValidationError`: whoever listens must catch the base."""
    for decode in (wire.decode_command, wire.decode_event):
        try:
            decode(data)
        except msgspec.DecodeError:
            continue


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x81",
        b"\xd9\x02\xff\xfe",
        b"\x91" * 100_000,
        b"\x81\xa4type\xa2\xff\xfe",
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_broken_msgpack_is_known_as_such(data: bytes) -> None:
    for decode in (wire.decode_command, wire.decode_event):
        with pytest.raises(msgspec.DecodeError):
            decode(data)


def test_tokens_that_are_no_whole_numbers_are_nonsense_too() -> None:
    """An engine that says so must not be answered by a ValueError in a session's turn."""
    failed = wire.decode_event(_body(wire.encode(wire.Failed(1, "backend", "why", held=b"\0\0\0\0\0"))))
    assert isinstance(failed, wire.Failed)
    with contextlib.suppress(msgspec.DecodeError):
        EngineFailed(failed)
