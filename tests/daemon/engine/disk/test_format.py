"""An entry's file: what is written comes back, and nothing else is ever taken for it."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.engine.disk.made import IDENTITY, SPACE

from sessiond.daemon.engine.disk import format as form
from sessiond.daemon.engine.disk.format import Damaged, Header, Label, encode, read_header, read_payload
from sessiond.daemon.engine.disk.keys import pack, pack_fields

_FIELDS = pack_fields(IDENTITY)
_KEY = st.binary(min_size=32, max_size=32)
_LABELS = st.builds(
    Label,
    _KEY,
    _KEY,
    _KEY,
    st.integers(0, 2**32 - 1),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=40).map(pack),
)
_SMALL = Label(SPACE.salt, b"p" * 32, b"k" * 32, 256, pack([7, 8]))


def _read(data: bytes, path: Path) -> tuple[Header, bytes]:
    path.write_bytes(data)
    file = os.open(path, os.O_RDONLY)
    try:
        header = read_header(file)
        return header, read_payload(file, header)
    finally:
        os.close(file)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("format") / "entry"


@given(_LABELS, st.dictionaries(st.text("ab", max_size=3), st.text("xyé", max_size=9)), st.binary(min_size=1))
@settings(deadline=None)
def test_what_is_written_comes_back(
    path: Path, label: Label, identity: dict[str, str], payload: bytes
) -> None:
    fields = pack_fields(identity)
    header, found = _read(b"".join(encode(label, fields, payload)), path)
    assert (header.label, header.fields, found) == (label, fields, payload)


def test_every_byte_stands_where_the_specification_says(path: Path) -> None:
    payload = b"some KV"
    data = b"".join(encode(_SMALL, _FIELDS, payload))
    assert data[:8] == b"\x89SKV\r\n\x1a\n"
    version, codec, header_bytes, payload_bytes = struct.unpack("<HHIQ", data[8:24])
    assert (version, codec, payload_bytes) == (1, 0, 7)
    header = data[24 : 24 + header_bytes]
    assert header[:32] == hashlib.sha256(_FIELDS).digest()
    assert header[32:128] == _SMALL.salt + _SMALL.parent + _SMALL.key
    assert struct.unpack("<IIII", header[128:144]) == (256, 2, 7, 8)
    assert header[144:148] == struct.pack("<I", len(_FIELDS)) and header[148:] == _FIELDS
    at = 24 + header_bytes
    assert data[at : at + 32] == hashlib.sha256(data[:at]).digest()
    assert data[at + 32 : at + 39] == payload
    assert data[at + 39 : at + 71] == hashlib.sha256(data[at : at + 32] + payload).digest()
    assert data[at + 71 :] == b"SKV\nEND\n"


def test_every_flipped_byte_is_damage(path: Path) -> None:
    data = b"".join(encode(_SMALL, _FIELDS, b"some KV"))
    for at in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            with pytest.raises(Damaged):
                _read(data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :], path)


def test_a_flipped_byte_of_a_large_entry_is_damage(path: Path) -> None:
    chance = random.Random(6)
    data = bytearray(b"".join(encode(_SMALL, _FIELDS, chance.randbytes(3 << 20))))
    for at in [chance.randrange(len(data)) for _ in range(60)]:
        right = data[at]
        data[at] ^= 1 << chance.randrange(8)
        with pytest.raises(Damaged):
            _read(bytes(data), path)
        data[at] = right
    assert len(_read(bytes(data), path)[1]) == 3 << 20


def test_every_truncation_is_damage_and_so_is_every_addition(path: Path) -> None:
    data = b"".join(encode(_SMALL, _FIELDS, b"some KV"))
    for end in range(len(data)):
        with pytest.raises(Damaged):
            _read(data[:end], path)
    for more in (b"\0", data, b"x" * 4096):
        with pytest.raises(Damaged):
            _read(data + more, path)


def test_a_payload_behind_another_header_is_damage(path: Path) -> None:
    other = Label(_SMALL.salt, _SMALL.parent, b"o" * 32, 256, pack([7, 9]))
    ours, theirs = encode(_SMALL, _FIELDS, b"some KV"), encode(other, _FIELDS, b"some KV")
    with pytest.raises(Damaged, match="payload"):
        _read(ours[0] + theirs[1] + theirs[2], path)


def _sealed(header: bytes, payload: bytes = b"some KV", size: int | None = None) -> bytes:
    """A file whose checksums are right, whatever else is wrong: one that was made on purpose."""
    front = (
        struct.pack("<8sHHIQ", form.MAGIC, 1, 0, len(header), len(payload) if size is None else size) + header
    )
    check = hashlib.sha256(front).digest()
    return front + check + payload + hashlib.sha256(check + payload).digest() + form.END


def _header(
    count: int, tokens: bytes, fields: bytes, length: int | None = None, named: bytes | None = None
) -> bytes:
    digest = hashlib.sha256(fields if named is None else named).digest()
    head = digest + b"s" * 32 + b"p" * 32 + b"k" * 32 + struct.pack("<II", 0, count)
    return head + tokens + struct.pack("<I", len(fields) if length is None else length) + fields


_FORGED: dict[str, Callable[[], bytes]] = {
    "no tokens": lambda: _sealed(_header(0, b"", _FIELDS)),
    "more tokens than there are": lambda: _sealed(_header(1000, pack([1]), _FIELDS)),
    "four billion tokens": lambda: _sealed(_header(2**32 - 1, pack([1]), _FIELDS)),
    "fewer tokens than there are": lambda: _sealed(_header(1, pack([1, 2]), _FIELDS)),
    "a longer identity": lambda: _sealed(_header(1, pack([1]), _FIELDS, len(_FIELDS) + 1)),
    "a shorter identity": lambda: _sealed(_header(1, pack([1]), _FIELDS, 0)),
    "another identity": lambda: _sealed(_header(1, pack([1]), _FIELDS, named=b"x")),
    "no identity": lambda: _sealed(_header(1, pack([1]), b"\xff\xff" + b"x" * 40)),
    "no payload": lambda: _sealed(_header(1, pack([1]), _FIELDS), b""),
    "a payload of exabytes": lambda: _sealed(_header(1, pack([1]), _FIELDS), size=2**63),
    "a payload of all there is": lambda: _sealed(_header(1, pack([1]), _FIELDS), size=2**64 - 1),
    "a payload that is a little longer": lambda: _sealed(_header(1, pack([1]), _FIELDS), size=8),
    "no header": lambda: _sealed(b""),
    "a short header": lambda: _sealed(b"x" * 100),
    "a header of gigabytes": lambda: struct.pack("<8sHHIQ", form.MAGIC, 1, 0, 2**32 - 1, 7) + b"x" * 400,
    "a version to come": lambda: struct.pack("<8sHHIQ", form.MAGIC, 2, 0, 200, 7) + b"x" * 400,
    "a codec to come": lambda: struct.pack("<8sHHIQ", form.MAGIC, 1, 1, 200, 7) + b"x" * 400,
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("how", _FORGED)
def test_what_was_made_to_deceive_is_damage(how: str, path: Path) -> None:
    with pytest.raises(Damaged):
        _read(_FORGED[how](), path)


def test_the_forger_of_these_tests_can_make_a_sound_file(path: Path) -> None:
    header, payload = _read(_sealed(_header(1, pack([1]), _FIELDS)), path)
    assert (header.label.tokens, header.fields, payload) == (pack([1]), _FIELDS, b"some KV")


def test_a_huge_file_is_refused_before_memory_is_taken_for_it(path: Path) -> None:
    """A sparse file of gigabytes, sealed up to its payload, read by a process that may not have so much."""
    header = _header(1, pack([1]), _FIELDS)
    front = struct.pack("<8sHHIQ", form.MAGIC, 1, 0, len(header), form.MAX_PAYLOAD) + header
    with path.open("wb") as file:
        file.write(front + hashlib.sha256(front).digest())
        file.truncate(len(front) + 32 + form.MAX_PAYLOAD + form.TRAILER_BYTES)
    told = subprocess.run(
        [sys.executable, "-c", _READ, str(path)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
    )
    path.unlink()
    assert (told.stdout, told.returncode) == ("too large for its tokens\n", 0), told.stderr


_READ = """
import os, sys
from sessiond.daemon.engine.disk.format import Damaged, read_header
try:
    read_header(os.open(sys.argv[1], os.O_RDONLY))
except Damaged as damage:
    print(str(damage).removeprefix("its payload is "))
"""


@pytest.mark.parametrize("payload", [b"", b"x" * (3 * form.MAX_TOKEN_PAYLOAD + 1)])
def test_what_no_file_may_hold_is_not_written(payload: bytes) -> None:
    with pytest.raises(ValueError, match="no entry"):
        encode(_SMALL, _FIELDS, payload)
