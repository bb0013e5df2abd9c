"""Definitions outlive the daemon, and whatever stands in their folder is no reason to end."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest
from tests.daemon.functions.desk import Desk, asked

from sessiond.daemon.engine.engine import Tiers
from sessiond.daemon.functions import shelf as shelves
from sessiond.daemon.functions.shelf import HEAD, Shelf
from sessiond.v1.errors import SessionUnavailable

SAID = asked("f").SerializeToString(deterministic=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where definitions are kept."""
    return tmp_path / "functions"


def _loaded(folder: Path) -> dict[str, bytes]:
    shelf = Shelf(folder)
    try:
        return shelf.load()
    finally:
        shelf.close()


def _names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def _mode(folder: Path) -> int:
    return folder.stat().st_mode & 0o777


async def _kept(folder: Path, **said: bytes) -> None:
    shelf = Shelf(folder)
    shelf.load()
    for name, each in said.items():
        await shelf.keep(name, each)
    shelf.close()


async def test_what_is_kept_is_there_again(folder: Path) -> None:
    await _kept(folder, f=SAID, g=b"", F=b"\0\xff" * 1000)
    assert _loaded(folder) == {"f": SAID, "g": b"", "F": b"\0\xff" * 1000}
    await _kept(folder, f=b"other")
    shelf = Shelf(folder)
    shelf.load()
    await shelf.remove("g")
    await shelf.remove("nobody")
    shelf.close()
    assert _loaded(folder) == {"f": b"other", "F": b"\0\xff" * 1000}
    assert _names(folder) == ["F.function", "f.function"]
    assert _mode(folder) == 0o700


async def test_without_a_folder_nothing_is_kept() -> None:
    shelf = Shelf()
    assert shelf.load() == {}
    await shelf.keep("f", SAID)
    await shelf.remove("f")
    shelf.close()


async def test_a_second_daemon_leaves_the_folder_alone(folder: Path) -> None:
    first, second = Shelf(folder), Shelf(folder)
    first.load()
    await first.keep("f", SAID)
    assert second.load() == {}
    for refused in (second.keep("g", SAID), second.remove("f")):
        with pytest.raises(SessionUnavailable, match="another daemon has it"):
            await refused
    second.close()
    first.close()
    assert _loaded(folder) == {"f": SAID}


SPOILT = {
    "empty": b"",
    "another head": b"sessiond function 2\n" + (HEAD + b"x" * 80)[len(HEAD) :],
    "cut": HEAD + b"0" * 64 + b"\n",
    "other bytes": None,
}


@pytest.mark.parametrize("how", SPOILT)
async def test_what_is_damaged_is_put_aside(folder: Path, how: str) -> None:
    await _kept(folder, f=SAID, g=SAID)
    path = folder / "f.function"
    data = SPOILT[how]
    path.write_bytes(path.read_bytes()[:-1] + b"\x01" if data is None else data)
    assert _loaded(folder) == {"g": SAID}
    assert _names(folder) == ["f.function.damaged", "g.function"]
    assert _loaded(folder) == {"g": SAID}


async def test_what_is_no_file_of_ours(folder: Path, tmp_path: Path) -> None:
    await _kept(folder, f=SAID)
    (folder / "g.function").symlink_to(folder / "f.function")
    (folder / "h.function").mkdir()
    os.mkfifo(folder / "i.function")
    (folder / ".hidden.function").write_bytes(b"x")
    (folder / "a b.function").write_bytes(b"x")
    (folder / ".f.new").write_bytes(b"half")
    with (folder / "long.function").open("wb") as file:
        file.truncate(1 << 30)
    assert _loaded(folder) == {"f": SAID}
    assert (folder / "f.function").exists()
    assert [name for name in _names(folder) if name.endswith(".damaged")] == [
        f"{name}.function.damaged" for name in ("g", "h", "i", "long")
    ]


async def test_what_cannot_be_read_at_the_moment_stays_where_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _kept(folder, f=SAID, g=SAID)
    real = shelves._read

    def none_free(at: int, file: str) -> bytes:
        if file == "f.function":
            raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))
        return real(at, file)

    monkeypatch.setattr(shelves, "_read", none_free)
    assert _loaded(folder) == {"g": SAID}
    monkeypatch.undo()
    assert _loaded(folder) == {"f": SAID, "g": SAID}


async def test_more_than_there_may_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await _kept(folder, a=b"", b=b"", c=b"")
    monkeypatch.setattr(shelves, "MAX_FUNCTIONS", 2)
    assert _loaded(folder) == {"a": b"", "b": b""}
    assert len(_names(folder)) == 3, "they are not lost"


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert _loaded(tmp_path / "file") == {}
    (tmp_path / "link").symlink_to(tmp_path)
    assert _loaded(tmp_path / "link") == {}


async def test_nothing_is_defined_that_could_not_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    desk = Desk("scripted-kv:", tmp_path / "file")
    with pytest.raises(SessionUnavailable, match="the folder of functions cannot be used"):
        await desk.define("f")
    assert desk.functions.all() == []
    assert not await desk.branches()
    await desk.stop()


class TestThroughFunctions:
    """The same, by what a client sees of it."""

    async def test_functions_are_there_again(self, folder: Path) -> None:
        desk = Desk("scripted-kv:num_ctx=2048", folder)
        await desk.define("f", examples=[("x", "y")], max_tokens=9, choices=["yes", "no"])
        await desk.define("g", temperature=1.0, seed=3, max_tokens=9)
        await desk.define("gone")
        await desk.functions.delete("gone")
        values = [await desk.value("x", name) for name in "fg"]
        sizes = [each.body_tokens for each in desk.functions.all()]
        await desk.stop()
        again = Desk("scripted-kv:num_ctx=2048", folder)
        assert [each.name for each in again.functions.all()] == ["f", "g"]
        assert [each.body_tokens for each in again.functions.all()] == [0, 0]
        await again.sessions.engine("")
        await again.functions.stand_up()
        assert [each.body_tokens for each in again.functions.all()] == sizes
        assert (await again.tally()).computed_tokens == 0, "bodies are computed when they are called"
        assert [await again.value("x", name) for name in "fg"] == values
        await again.stop()

    async def test_the_first_calls_after_a_restart_compute_the_body_once(self, folder: Path) -> None:
        desk = Desk("scripted-kv:num_ctx=2048", folder)
        size = (await desk.define("f", "xyz" * 100, max_tokens=1)).body_tokens
        await desk.stop()
        again = Desk("scripted-kv:num_ctx=2048", folder)
        await asyncio.gather(*(again.chunks(f"x{index}") for index in range(8)))
        assert size < (await again.tally()).computed_tokens < size + 8 * 40
        await again.stop()

    async def test_a_body_comes_back_from_the_disk(self, folder: Path, tmp_path: Path) -> None:
        tiers = Tiers(memory=1 << 20, disk=1 << 30, folder=tmp_path / "kv")
        desk = Desk("scripted-kv:num_ctx=4096", folder, tiers=tiers)
        size = (await desk.define("f", "xyz" * 600, max_tokens=5)).body_tokens
        value = await desk.value("x")
        await desk.stop()
        again = Desk("scripted-kv:num_ctx=4096", folder, tiers=tiers)
        assert await again.value("x") == value
        told = await again.tally()
        assert told.fetched_tokens > size / 2
        assert told.computed_tokens < size / 2
        await again.stop()

    @pytest.mark.parametrize(
        "said",
        [
            b"\xff\xff\xff",
            asked("other").SerializeToString(),
            asked("f", body="").SerializeToString(),
            asked("f", body="x\0").SerializeToString(),
            asked("f", examples=[("", "")] * 257).SerializeToString(),
        ],
    )
    async def test_what_is_no_definition_is_put_aside(self, folder: Path, said: bytes) -> None:
        await _kept(folder, f=said, g=asked("g").SerializeToString())
        desk = Desk("scripted-kv:", folder)
        assert [each.name for each in desk.functions.all()] == ["g"]
        assert (folder / "f.function.damaged").exists()
        await desk.stop()

    async def test_what_cannot_be_decoded_so_any_more_says_so_when_it_is_called(self, folder: Path) -> None:
        await _kept(folder, f=asked("f", grammar="root ::= (").SerializeToString())
        desk = Desk("scripted-kv:", folder)
        await desk.sessions.engine("")
        await desk.functions.stand_up()
        with pytest.raises(Exception, match="grammar"):
            await desk.chunks("x")
        assert not await desk.branches()
        await desk.define("f")
        assert (await desk.chunks("x"))[-1].summary is not None
        await desk.stop()

    async def test_what_cannot_be_written_changes_nothing(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        desk = Desk("scripted-kv:", folder)
        first = await desk.define("f", max_tokens=3)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        async def broken(*_: object) -> None:
            raise RuntimeError("a fault of our own")

        with monkeypatch.context() as patched:
            patched.setattr(Shelf, "keep", broken)
            with pytest.raises(RuntimeError):
                await desk.define("g")
        with monkeypatch.context() as patched:
            patched.setattr(os, "dup", full)
            for refused in (desk.define("g"), desk.functions.delete("f")):
                with pytest.raises(SessionUnavailable, match="No space left"):
                    await refused
        assert len(await desk.branches()) == 1
        monkeypatch.setattr(shelves, "_write", full)
        monkeypatch.setattr(shelves, "_remove", full)
        for refused in (desk.define("f", max_tokens=4), desk.define("g"), desk.functions.delete("f")):
            with pytest.raises(SessionUnavailable, match="No space left"):
                await refused
        assert desk.functions.all() == [first]
        assert len(await desk.branches()) == 1
        await desk.stop()
