"""A snapshot's bytes: what was written comes back, and nothing else is taken for one."""

from __future__ import annotations

import hashlib
import itertools
import os
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.daemon.sessions.snapshot.made import CELL_BYTES, HEADER, read, whole

from sessiond.daemon.engine.disk.format import Damaged
from sessiond.daemon.engine.disk.keys import pack
from sessiond.daemon.sessions.snapshot import format as form
from sessiond.daemon.sessions.snapshot.reading import Reading
from sessiond.daemon.sessions.suffix import MAX_ROLES, STANDING_ROLES
from sessiond.daemon.workspace.segment import LeftOut, Segment

_TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
_TOKENS = st.lists(st.integers(0, (1 << 32) - 1), max_size=20)
_HEADERS = st.builds(
    lambda tokens, **rest: form.Header(prefix_tokens=len(tokens) // 2, tokens=pack(tokens), **rest),
    _TOKENS,
    identity=st.dictionaries(_TEXT, _TEXT, max_size=4),
    manifest_digest=st.binary(min_size=32, max_size=32),
    roles=st.lists(st.sampled_from(STANDING_ROLES), max_size=5).map(tuple),
    segments=st.lists(st.builds(Segment, _TEXT, _TEXT, _TEXT, _TEXT, st.booleans(), _TEXT), max_size=4).map(
        tuple
    ),
    left_out=st.lists(st.builds(LeftOut, _TEXT, _TEXT, _TEXT), max_size=3).map(tuple),
)


@given(_HEADERS)
def test_a_header_comes_back(header: form.Header) -> None:
    told = form.front(header)
    size = form.header_bytes(told[: form.HEAD.size])
    assert len(told) == form.HEAD.size + size + 32
    assert form.parse(told[form.HEAD.size : -32]) == header


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_damaged(data: bytes) -> None:
    try:
        header = form.parse(data)
    except Damaged:
        return
    assert form.front(header)[form.HEAD.size : -32] == data, "two headers for one meaning"


@given(st.integers(0), st.binary(min_size=1, max_size=8))
def test_a_spoilt_header_is_a_header_or_damaged(at: int, bad: bytes) -> None:
    """Its checksum may have been made anew by whoever spoilt it."""
    body = bytearray(form.front(HEADER)[form.HEAD.size : -32])
    at %= len(body)
    body[at : at + len(bad)] = bad
    try:
        form.parse(bytes(body))
    except Damaged:
        return


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


def test_a_file_comes_back(path: Path) -> None:
    path.write_bytes(whole(seal=b"s" * 32))
    header, pieces, seal = read(path)
    assert (header, seal) == (HEADER, b"s" * 32)
    assert [(piece.start, piece.end, piece.size) for piece in pieces] == [(0, 2, 2), (2, 3, 1)]


def test_a_session_without_tokens_is_a_file_too(path: Path) -> None:
    empty = replace(HEADER, tokens=b"", prefix_tokens=0, segments=(), roles=())
    path.write_bytes(whole(empty, ()))
    assert read(path) == (empty, [], form.NOBODY)


def test_every_truncation_is_damage(path: Path) -> None:
    data = whole()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(Damaged):
            read(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(Damaged):
        read(path)


def test_every_flipped_bit_is_damage(path: Path) -> None:
    data = whole()
    for at in range(len(data)):
        for bit in range(8):
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            with pytest.raises(Damaged):
                read(path)


@pytest.mark.parametrize(
    "pieces",
    [
        [(1, 2, b"1")],
        [(0, 0, b"1")],
        [(0, 4, b"1")],
        [(0, 2, b"1"), (1, 2, b"1")],
        [(0, 2, b"1"), (2, 2, b"1")],
        [(0, 2, b"1")],
        [(0, 3, bytes(form.most_payload(3, CELL_BYTES) + 1))],
    ],
    ids=["late", "empty", "too far", "twice", "past the end", "too few", "too large"],
)
def test_pieces_that_do_not_fit_are_damage(path: Path, pieces: list[tuple[int, int, bytes]]) -> None:
    """Their checksums are right: somebody made them on purpose."""
    path.write_bytes(whole(pieces=pieces))
    with pytest.raises(Damaged):
        read(path)


def test_the_largest_piece_that_its_tokens_allow_is_taken(path: Path) -> None:
    most = form.most_payload(3, CELL_BYTES)
    assert most == 6 * CELL_BYTES + (1 << 20)
    path.write_bytes(whole(pieces=[(0, 3, bytes(most))]))
    assert read(path)[1][0].size == most


@pytest.mark.parametrize(
    ("counts", "sound"),
    [
        ([4, 4], True),
        ([2, 4, 2], True),
        ([4, 3, 1], True),
        ([8], True),
        ([1, 4, 3], False),
        ([4, 1, 3], False),
    ],
)
def test_only_the_last_piece_may_be_small(path: Path, counts: list[int], sound: bool) -> None:
    """Each is loaded after all before it: pieces of one token take time with the square of their number."""
    starts = itertools.accumulate(counts, initial=0)
    pieces = [(start, count, b"x") for start, count in zip(starts, counts, strict=False)]
    path.write_bytes(whole(replace(HEADER, tokens=pack(range(8))), pieces))
    cell_bytes = form.PIECE_BYTES // 4
    if sound:
        assert [piece.end - piece.start for piece in read(path, cell_bytes)[1]] == counts
    else:
        with pytest.raises(Damaged, match="too few"):
            read(path, cell_bytes)


def test_more_roles_than_a_conversation_may_have_are_damage() -> None:
    for count, sound in ((MAX_ROLES, True), (MAX_ROLES + 1, False)):
        body = form._pack(replace(HEADER, roles=("user",) * count))
        if sound:
            assert len(form.parse(body).roles) == count
        else:
            with pytest.raises(Damaged):
                form.parse(body)


@pytest.mark.parametrize("size", [form.MAX_HEADER, form.MAX_HEADER + 1, (1 << 32) - 1])
def test_a_length_takes_no_memory(path: Path, size: int) -> None:
    """A file that claims more than it has is refused before anything is read for it."""
    path.write_bytes(form.HEAD.pack(form.MAGIC, form.VERSION, form.PLAIN, size) + bytes(100))
    with pytest.raises(Damaged, match=r"too early|too long"):
        read(path)


@pytest.mark.parametrize(("version", "codec"), [(0, 0), (2, 0), (1, 1)])
def test_another_version_is_not_guessed_at(path: Path, version: int, codec: int) -> None:
    path.write_bytes(struct.pack("<8sHHI", form.MAGIC, version, codec, 0) + hashlib.sha256(b"").digest())
    with pytest.raises(Damaged, match="version"):
        read(path)


def test_a_prefix_that_is_longer_than_all_is_damage() -> None:
    told = form.front(replace(HEADER, prefix_tokens=4))
    with pytest.raises(Damaged):
        form.parse(told[form.HEAD.size : -32])


@pytest.mark.parametrize(
    "change",
    [
        {"segments": (Segment("a", "file", "x\0y"),)},
        {"roles": ("user",) * (MAX_ROLES + 1)},
        {"segments": (Segment("a", "file", "x" * (form.MAX_HEADER + 1)),)},
    ],
    ids=["nul", "roles", "text"],
)
def test_what_no_file_may_hold_is_not_written(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"larger|NUL"):
        form.front(replace(HEADER, **change))


def test_a_piece_that_no_file_may_hold_is_not_written() -> None:
    for payload in (b"", bytes(form.MAX_PIECE + 1)):
        with pytest.raises(ValueError, match="a piece of"):
            form.piece(b"", 0, 1, payload)


def test_a_file_that_changes_while_it_is_read_is_damage(path: Path) -> None:
    data = whole()
    path.write_bytes(data)
    reading = Reading(path)
    reading.open()
    reading.header()
    piece = reading.piece(0, 3, CELL_BYTES)
    assert reading.payload(piece) == b"12"
    path.write_bytes(data.replace(b"12", b"21"))
    with pytest.raises(Damaged, match="changed"):
        reading.payload(piece)
    path.write_bytes(data[:60])
    with pytest.raises(Damaged, match="cut"):
        reading.payload(piece)
    reading.close()


def test_a_link_and_a_pipe_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "whole").write_bytes(whole())
    (tmp_path / "link").symlink_to("whole")
    os.mkfifo(tmp_path / "pipe")
    for name, fault in (("link", "symbolic"), ("pipe", "plain"), ("", "plain"), ("missing", "No such")):
        with pytest.raises(OSError, match=fault):
            read(tmp_path / name)
