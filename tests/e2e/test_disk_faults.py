"""A disk that is full, a folder that may not be written or is removed, entries of others: the daemon answers all the same,
computes what it cannot have, and says so.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from tests.e2e.daemon import Daemon, eventually
from tests.e2e.fresh import window

from kills_oracle import Oracle
from sessiond.daemon.engine.disk.format import encode, read_header, read_payload
from sessiond.daemon.engine.disk.keys import pack_fields, unpack_fields
from sessiond.v1.context_pb2 import PrefixStatus

MODEL = "scripted-kv:num_ctx=4096,step_ms=2"
ORACLE = Oracle(MODEL, 4096)
TEXT = "The quick brown fox jumps over the lazy dog. " * 40
OTHER = "Pack my box with five dozen liquor jugs, and then some. " * 40


def _asked(daemon: Daemon, text: str = TEXT) -> PrefixStatus:
    """A turn of a session that no daemon had before, whose answer is the right one. It stays open: with the last session of
    its kind goes what nobody has written yet.
    """
    session = daemon.client.open_session(key=os.urandom(4).hex(), config=window())
    status = session.ensure_prefix(text).status
    answer = [token for chunk in session.decode(max_tokens=6, temperature=0.0) for token in chunk.token_ids]
    assert answer[:6] == list(ORACLE.answer(ORACLE.tokens(text), 6))
    return status


def _entries(daemon: Daemon) -> list[Path]:
    return sorted(daemon.folder.glob("state/kv/*/entries/*"))


def _says(daemon: Daemon, words: str) -> None:
    """It is a warning of the log, once the engine's words have come through."""

    def said() -> bool:
        return any(
            each["level"] == "warning" and words in each["line"] for each in daemon.records("disk.says")
        )

    eventually(said, f"the log says: {words}")


def _written(daemon: Daemon) -> None:
    """All of TEXT stands on the disk."""
    count = len(ORACLE.tokens(TEXT)) // 256
    eventually(lambda: len(_entries(daemon)) > count, "KV is on the disk")


@pytest.fixture
def left(folder: Path) -> Path:
    """A folder in which a daemon has been that wrote TEXT."""
    with Daemon(folder, MODEL) as daemon:
        _asked(daemon)
    with Daemon(folder, MODEL) as daemon:
        assert _asked(daemon).prefilled_tokens == 0, "it comes back where nothing is wrong"
    return folder


@contextlib.contextmanager
def _done(does: list[str], undoes: list[str]) -> Generator[None, None, None]:
    """Something that only root may do, and not everywhere."""
    if os.geteuid() or subprocess.run(does, check=False, capture_output=True).returncode:
        pytest.skip(f"{does[0]} is not allowed here")
    try:
        yield
    finally:
        subprocess.run(undoes, check=True)


@contextlib.contextmanager
def _unwritable(*folders: Path) -> Generator[None, None, None]:
    """Nobody can make or remove a file in these, not even root."""
    if os.geteuid():
        for path in folders:
            path.chmod(0o500)
        try:
            yield
        finally:
            for path in folders:
                path.chmod(0o700)
    else:
        with _done(["chattr", "+i", *map(str, folders)], ["chattr", "-i", *map(str, folders)]):
            yield


# ---- full


def test_on_a_full_disk_it_answers_and_keeps_nothing(folder: Path) -> None:
    state = folder / "state"
    state.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k,mode=700", "tmpfs", str(state)]
    with _done(mount, ["umount", "-l", str(state)]):
        with Daemon(folder, MODEL) as daemon:
            _asked(daemon)
            with (state / "others").open("wb", buffering=0) as others, contextlib.suppress(OSError):
                while others.write(bytes(4096)):
                    pass
            assert os.statvfs(state).f_bavail == 0
            for _ in range(3):
                _asked(daemon, OTHER)
            _says(daemon, "there is no room for")
            assert _entries(daemon) == []
        with Daemon(folder, MODEL) as daemon:  # nor does a full disk keep it from beginning
            status = _asked(daemon)
            assert status.prefilled_tokens == status.prefix_tokens


def test_a_write_that_fails_is_told_and_nothing_is_there_by_half(folder: Path) -> None:
    with Daemon(folder, MODEL) as daemon:
        daemon.client.model()
        resource.prlimit(daemon.engine_pid(), resource.RLIMIT_FSIZE, (4000, 4000))
        assert _asked(daemon).prefilled_tokens > 0
        _says(daemon, "an entry could not be written: File too large")
        assert all(path.stat().st_size <= 4000 for path in _entries(daemon))
        assert list(folder.glob("state/kv/*/new/*")) == []
        assert _asked(daemon, OTHER).prefilled_tokens > 0
    with Daemon(folder, MODEL) as daemon:
        assert _asked(daemon).prefilled_tokens >= 256


# ---- may not be written, or is gone


def test_a_folder_that_became_read_only_is_read(left: Path) -> None:
    with Daemon(left, MODEL) as daemon:
        daemon.client.model()
        before = _entries(daemon)
        folders = [place for name in ("entries", "new") for place in left.glob(f"state/kv/*/{name}")]
        with _unwritable(*folders):
            assert _asked(daemon).prefilled_tokens == 0
            _asked(daemon, OTHER)
            _says(daemon, "an entry could not be written: ")
            assert _entries(daemon) == before


def test_a_folder_that_was_read_only_before_it_began_is_done_without(left: Path) -> None:
    with (
        _unwritable(*left.glob("state/kv/*"), *left.glob("state/kv/*/*/")),
        Daemon(left, MODEL) as daemon,
    ):
        for text in (TEXT, OTHER):
            _asked(daemon, text)
        assert daemon.client.healthy()


@pytest.mark.parametrize("what", ["state/kv", "state"])
def test_a_folder_that_is_removed_under_it_is_done_without(folder: Path, what: str) -> None:
    with Daemon(folder, MODEL) as daemon:
        _asked(daemon)
        _written(daemon)
        shutil.rmtree(folder / what)
        for text in (TEXT, OTHER, TEXT):
            _asked(daemon, text)
        _says(daemon, "is gone: off for now")
    with Daemon(folder, MODEL) as daemon:
        status = _asked(daemon)
        assert status.prefilled_tokens == status.prefix_tokens


# ---- of others


def _another(fields: bytes) -> bytes:
    """The identity of another model, as long as this one."""
    found = unpack_fields(fields)
    name = next(name for name, value in sorted(found.items()) if len(value) == 64)
    found[name] = found[name][::-1]
    assert pack_fields(found) != fields
    return pack_fields(found)


def _exchange(path: Path, *, same_time: bool) -> None:
    """Put an entry of another model there, whole in itself; with the file's time the index knows it by."""
    told = path.stat()
    with path.open("rb") as file:
        header = read_header(file.fileno())
        payload = read_payload(file.fileno(), header)
    path.write_bytes(b"".join(encode(header.label, _another(header.fields), payload)))
    assert path.stat().st_size == told.st_size
    if same_time:
        os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda path: _exchange(path, same_time=True), "it is of another identity"),
        (lambda path: _exchange(path, same_time=False), "it is of another identity"),
        (_damage, "the checksum of its payload is wrong"),
    ],
    ids=["known to the index", "new to the index", "damaged"],
)
def test_entries_that_are_not_ours_are_misses(left: Path, harm: Callable[[Path], None], words: str) -> None:
    for path in left.glob("state/kv/*/entries/*"):
        harm(path)
    with Daemon(left, MODEL) as daemon:
        status = _asked(daemon)
        assert status.prefilled_tokens == status.prefix_tokens
        _says(daemon, words)
        _written(daemon)
    with Daemon(left, MODEL) as daemon:
        assert _asked(daemon).prefilled_tokens == 0, "what was written instead is sound"
