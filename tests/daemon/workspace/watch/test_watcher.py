"""The watcher, over real folders: what it tells, what it keeps to itself, and that it survives what happens to them."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.daemon.workspace.watch.watched import Ear, inotify_queues, listening, told, watcher_threads

from sessiond.daemon.workspace.watch import folders
from sessiond.daemon.workspace.watch import watcher as watcher_module
from sessiond.daemon.workspace.watch.portable import PortableSource
from sessiond.daemon.workspace.watch.watcher import Watcher

_QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")
_ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only inotify can say so")


@pytest.fixture(params=["of this system", "portable"])
def _source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "portable":
        monkeypatch.setattr(watcher_module, "source_for", PortableSource)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    return root


def _write(root: Path, *paths: str, text: str = "x") -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def _git(root: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *who, *arguments], cwd=root, check=True, capture_output=True)


def _save_by_rename(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".tmp")
    beside.write_text(text)
    beside.replace(path)


# ---- what is told ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_source")
@pytest.mark.parametrize(
    "act",
    [
        lambda file: file.write_text("new"),
        lambda file: _save_by_rename(file, "new"),
        lambda file: file.unlink(),
        lambda file: os.truncate(file, 0),
    ],
    ids=["in place", "atomic rename", "deleted", "cut"],
)
async def test_a_save_is_told_by_its_path(root: Path, act: Callable[[Path], None]) -> None:
    _write(root, "folder/file.py", "other.py")
    async with listening(Watcher(root)) as ear:
        act(root / "folder/file.py")
        heard = told(await ear.until("folder/file.py"))
    assert heard <= {"folder/file.py", "folder/file.py.tmp"}


@pytest.mark.usefixtures("_source")
async def test_a_file_made_is_told_and_again_when_it_is_gone(root: Path) -> None:
    async with listening(Watcher(root)) as ear:
        _write(root, "new.py")
        await ear.until("new.py")
        (root / "new.py").unlink()
        await ear.until("new.py")


@pytest.mark.usefixtures("_source")
async def test_a_thousand_saves_are_few_bursts_and_the_last_content_is_never_missed(root: Path) -> None:
    file = root / "file.py"
    _write(root, "file.py")

    def save() -> None:
        for number in range(1000):
            file.write_text(str(number))
            time.sleep(0.001)

    async with listening(Watcher(root)) as ear:
        saving = asyncio.create_task(asyncio.to_thread(save))
        seen: list[str] = []
        while not seen or seen[-1] != "999":
            await ear.until("file.py")
            seen.append(file.read_text())
        await saving
    assert len(seen) <= 100


@_ON_LINUX
async def test_a_folder_that_is_made_and_filled_at_once_is_told_with_all_that_is_in_it(root: Path) -> None:
    paths = [f"new{number}/deep/{file}" for number in range(100) for file in ("a.py", "deeper/b.py")]
    async with listening(Watcher(root)) as ear:
        await asyncio.to_thread(_write, root, *paths)
        await ear.until(*paths)
        _write(root, *paths[::7], text="again")
        await ear.until(*paths[::7])


async def test_a_folder_that_is_deleted_and_made_again_is_watched_again(root: Path) -> None:
    paths = [f"build{number % 5}/in{number}/file" for number in range(20)]
    _write(root, *paths)
    async with listening(Watcher(root)) as ear:
        for text in "abc":
            for number in range(5):
                shutil.rmtree(root / f"build{number}")
            _write(root, *paths, text=text)
            await ear.until(*paths)
        _write(root, *paths, text="later")
        await ear.until(*paths)


async def test_a_folder_that_is_moved_is_told_under_both_names_and_watched_under_the_new_one(
    root: Path,
) -> None:
    _write(root, "old/deep/file.py", "other/file.py")
    async with listening(Watcher(root)) as ear:
        (root / "old").rename(root / "other/new")
        await ear.until("old", "other/new/deep/file.py")
        _write(root, "other/new/deep/file.py", text="y")
        assert told(await ear.until("other/new/deep/file.py")) == {"other/new/deep/file.py"}


async def test_a_folder_that_is_moved_out_is_told_once_and_watched_no_longer(
    root: Path, tmp_path: Path
) -> None:
    _write(root, "old/deep/file.py")
    async with listening(Watcher(root)) as ear:
        (root / "old").rename(tmp_path / "old")
        await ear.until("old")
        assert await ear.told_by(root, lambda: _write(tmp_path, "old/deep/file.py", text="y")) == set()


async def test_a_branch_switch_is_told_file_by_file_and_without_a_word_of_git_itself(root: Path) -> None:
    paths = {f"folder{number % 7}/file{number}.py" for number in range(200)}
    _git(root, "init", "-b", "main")
    _write(root, *paths, "same.py")
    _git(root, "add", ".")
    _git(root, "commit", "-m", "one")
    _git(root, "checkout", "-b", "other")
    _write(root, *paths, text="other")
    _git(root, "commit", "-am", "two")
    async with listening(Watcher(root)) as ear:
        await asyncio.to_thread(_git, root, "checkout", "main")
        heard = await ear.until(*paths)
    assert told(heard) == paths
    assert len(heard) < 20


@_ON_LINUX
async def test_thousands_of_files_at_once_are_a_rescan(root: Path, tmp_path: Path) -> None:
    _write(tmp_path, *(f"big/{number % 50}/{number}" for number in range(5000)))
    async with listening(Watcher(root)) as ear:
        (tmp_path / "big").rename(root / "big")
        assert [burst.paths for burst in await ear.until_rescan()] == [frozenset()]
        _write(root, "big/0/0", text="y")
        await ear.until("big/0/0")


def _overflow(root: Path) -> None:
    with (root / "a").open("wb", buffering=0) as a, (root / "b").open("wb", buffering=0) as b:
        # Two files by turns: the kernel makes one of equal events that follow each other.
        for _ in range(int(_QUEUE.read_text())):
            a.write(b"x")
            b.write(b"x")


@_ON_LINUX
async def test_lost_events_are_a_rescan_and_what_was_made_meanwhile_is_watched(root: Path) -> None:
    _write(root, "a", "b")
    async with listening(Watcher(root)) as ear:
        _overflow(root)  # nobody reads the queue while this is done
        _write(root, "new/deep/file.py")
        await ear.until_rescan()
        _write(root, "new/deep/file.py", text="y")
        await ear.until("new/deep/file.py")


@pytest.mark.usefixtures("_source")
@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
async def test_a_name_that_is_no_utf8_is_a_rescan(root: Path) -> None:
    async with listening(Watcher(root)) as ear:
        (root / os.fsdecode(b"\xff\xfe")).write_text("x")
        await ear.until_rescan()
        _write(root, "file.py")
        while "file.py" not in (await ear.next()).paths:
            pass


async def test_changes_while_a_burst_is_dealt_with_come_with_the_next_one(root: Path) -> None:
    async with listening(Watcher(root)) as ear:
        _write(root, "a")
        await ear.until("a")
        _write(root, "b", "c/d")
        await asyncio.sleep(0.3)
        await ear.until("b", "c/d")


# ---- what is not -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_source")
@pytest.mark.parametrize(
    "folder", [".git", "node_modules", "deep/node_modules/x", ".venv", ".ssh", "venv", "env"]
)
async def test_what_never_counts_wakes_nobody(root: Path, folder: str) -> None:
    _write(root, f"{folder}/there", "env/pyvenv.cfg", "deep/file")
    async with listening(Watcher(root)) as ear:
        assert await ear.told_by(root, lambda: _write(root, f"{folder}/there", f"{folder}/lib/x")) == set()
        assert await ear.told_by(root, lambda: shutil.rmtree(root / folder / "lib")) == set()


@_ON_LINUX
async def test_an_environment_that_is_made_under_our_eyes_is_silent_from_then_on(root: Path) -> None:
    async with listening(Watcher(root)) as ear:
        _write(root, "env/bin/python", "env/pyvenv.cfg")
        await ear.told_by(root, lambda: None)
        assert await ear.told_by(root, lambda: _write(root, "env/bin/python", "env/lib/x.py")) == set()
        (root / "env/pyvenv.cfg").unlink()
        await ear.until("env/lib/x.py")


async def test_a_folder_named_venv_that_becomes_a_package_is_told(root: Path) -> None:
    (root / "venv").mkdir()
    async with listening(Watcher(root)) as ear:
        _write(root, "venv/code.py", "venv/__init__.py")
        await ear.until("venv/code.py")


@pytest.mark.usefixtures("_source")
@pytest.mark.parametrize(
    "path", [".gitignore", "deep/.sessiondignore", ".sessiond.toml", ".git/info/exclude"]
)
async def test_files_with_rules_always_count(root: Path, path: str) -> None:
    _write(root, path)
    async with listening(Watcher(root, is_of_interest=lambda _: False)) as ear:
        _write(root, path, "other.py", text="y")
        assert told(await ear.until(path)) == {path}


async def test_rules_of_a_repository_that_is_made_later_count(root: Path) -> None:
    async with listening(Watcher(root)) as ear:
        await asyncio.to_thread(_git, root, "init")
        _write(root, ".git/info/exclude", text="*.log")
        assert told(await ear.until(".git/info/exclude")) == {".git/info/exclude"}


async def test_what_is_of_no_interest_is_not_told(root: Path) -> None:
    async with listening(Watcher(root, is_of_interest=lambda path: path.endswith(".py"))) as ear:
        _write(root, "a.log", "deep/b.log", "deep/c.py")
        assert told(await ear.until("deep/c.py")) == {"deep/c.py"}


@_ON_LINUX
async def test_folders_are_entered_and_left_as_the_rules_change(root: Path) -> None:
    shut = {"target"}
    _write(root, "target/debug/file", "logs/file")
    async with listening(Watcher(root, is_entered=lambda path: path not in shut)) as ear:
        assert await ear.told_by(root, lambda: _write(root, "target/debug/file", "target/new/file")) == set()
        _write(root, ".gitignore")
        await ear.until(".gitignore")
        shut.symmetric_difference_update({"target", "logs"})
        await ear.until("target/debug/file", "target/new/file")
        assert await ear.told_by(root, lambda: _write(root, "logs/file")) == set()
        assert await ear.told_by(root, lambda: _write(root, "target/new/file")) == {"target/new/file"}


@_ON_LINUX
async def test_links_are_not_followed(root: Path, tmp_path: Path) -> None:
    _write(tmp_path, "outside/deep/file")
    (root / "before").symlink_to(tmp_path / "outside")
    (root / "up").symlink_to("..")
    async with listening(Watcher(root)) as ear:
        (root / "after").symlink_to(tmp_path / "outside")
        await ear.until("after")
        assert await ear.told_by(root, lambda: _write(tmp_path, "outside/deep/file", "outside/new")) == set()


@_ON_LINUX
async def test_a_folder_that_is_exchanged_for_a_link_is_watched_no_longer(root: Path, tmp_path: Path) -> None:
    _write(tmp_path, "outside/file")
    _write(root, "folder/file")
    async with listening(Watcher(root)) as ear:
        shutil.rmtree(root / "folder")
        (root / "folder").symlink_to(tmp_path / "outside")
        await ear.until("folder", "folder/file")
        assert await ear.told_by(root, lambda: _write(tmp_path, "outside/file")) == set()


@_ON_LINUX
async def test_reading_wakes_nobody(root: Path) -> None:
    _write(root, "file", "deep/file")
    async with listening(Watcher(root)) as ear:
        assert await ear.told_by(root, lambda: [*root.rglob("*"), (root / "deep/file").read_text()]) == set()


# ---- what happens to the root ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_source")
async def test_a_root_that_is_deleted_is_waited_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "LOOK_S", 0.05)
    _write(root, "deep/file")
    watcher = Watcher(root)
    async with listening(watcher) as ear:
        assert watcher.state == "watching"
        shutil.rmtree(root)
        back = asyncio.create_task(ear.until_rescan())
        while watcher.state == "watching":  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
        assert watcher.state == "rescanning"
        _write(root, "deep/file")
        await back
        assert watcher.state == "watching"
        _write(root, "deep/file", text="y")
        await _hear_of(ear, "deep/file")


@pytest.mark.usefixtures("_source")
async def test_another_folder_in_the_place_of_the_root_is_noticed(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "LOOK_S", 0.05)
    _write(tmp_path, "parent/root/file", "other/file")
    (tmp_path / "link").symlink_to(tmp_path / "parent/root")
    async with listening(Watcher(tmp_path / "link")) as ear:
        (tmp_path / "new link").symlink_to(tmp_path / "other")
        (tmp_path / "new link").replace(tmp_path / "link")
        await ear.until_rescan()
        _write(tmp_path, "other/file", text="y")
        await _hear_of(ear, "file")


async def test_a_root_whose_parent_is_moved_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "LOOK_S", 0.05)
    _write(tmp_path, "parent/root/file")
    async with listening(Watcher(tmp_path / "parent/root")) as ear:
        (tmp_path / "parent").rename(tmp_path / "elsewhere")
        _write(tmp_path, "parent/root/file")
        await ear.until_rescan()
        _write(tmp_path, "parent/root/file", text="y")
        await _hear_of(ear, "file")


async def test_a_root_that_is_not_there_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "LOOK_S", 0.05)
    root = tmp_path / "later"
    watcher = Watcher(root)
    ear = Ear(watcher)
    first = asyncio.create_task(ear.next())
    await asyncio.sleep(0.2)
    assert not first.done()
    assert watcher.state == "rescanning"
    root.write_text("a file is no root")
    root.unlink()
    root.mkdir()
    assert (await first).rescan
    assert watcher.state == "watching"
    await ear.close()


@_ON_LINUX
async def test_where_it_cannot_watch_it_says_so_once_and_tells_of_rescans_until_it_can(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watcher_module, "BLIND_S", 0.01)
    monkeypatch.setattr(folders, "MAX_FOLDERS", 3)
    _write(root, "a/b/c/d/e/file")
    watcher = Watcher(root)
    with capture_logs() as logs:
        async with listening(watcher) as ear:
            for _ in range(2 * watcher_module.BLIND_BURSTS):
                assert (await ear.next()).rescan
                assert watcher.state == "rescanning"
            assert [entry["log_level"] for entry in logs] == ["warning"]
            monkeypatch.setattr(folders, "MAX_FOLDERS", 100)
            while watcher.state != "watching":
                await ear.until_rescan()
            _write(root, "a/b/c/d/e/file", text="y")
            await ear.until("a/b/c/d/e/file")


@_ON_LINUX
async def test_a_limit_that_is_met_later_is_a_rescan_too(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MAX_FOLDERS", 3)
    watcher = Watcher(root)
    async with listening(watcher) as ear:
        _write(root, "a/b/c/d/e/file")
        await ear.until_rescan()
        assert watcher.state == "rescanning"
    assert inotify_queues() == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_a_folder_that_may_not_be_read_is_watched_once_it_may(root: Path) -> None:
    _write(root, "folder/file")
    (root / "folder").chmod(0)
    async with listening(Watcher(root)) as ear:
        (root / "folder").chmod(0o700)
        await ear.until("folder/file")


# ---- the end -----------------------------------------------------------------------------------------------------


async def _hear_of(ear: Ear, path: str) -> None:
    while path not in (await ear.next()).paths:
        pass


@_ON_LINUX
@pytest.mark.usefixtures("_source")
async def test_nothing_is_left_when_it_is_closed(root: Path) -> None:
    before = threading.active_count()
    watcher = Watcher(root)
    assert watcher.state == "off"
    async with listening(watcher):
        assert watcher_threads()
        assert inotify_queues() == 1
    assert watcher.state == "off"
    assert watcher_threads() == []
    while inotify_queues() or threading.active_count() > before:  # noqa: ASYNC110 - watchfiles has a thread too
        await asyncio.sleep(0.01)
    async with listening(watcher) as ear:
        _write(root, "again")
        await ear.until("again")


@_ON_LINUX
@pytest.mark.parametrize("after_s", [0, 0.001, 0.01, 0.1, 0.3])
async def test_nothing_is_left_when_it_is_cancelled(root: Path, after_s: float) -> None:
    _write(root, *(f"{number % 300}/{number}/file" for number in range(1000)))
    ear = Ear(Watcher(root))

    async def listen() -> None:
        while True:
            await ear.next()

    task = asyncio.create_task(listen())
    await asyncio.sleep(after_s)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ear.watcher.state == "off"
    assert watcher_threads() == []
    assert inotify_queues() == 0
