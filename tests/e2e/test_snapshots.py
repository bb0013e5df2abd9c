"""Snapshots through the socket: a session is carried to a file, to another daemon, and back."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import stat
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.daemon import PROGRAMS, Daemon, own_environment, short_folder
from tests.e2e.turns import RAW, in_background, never_ending, text_of, wait_for_stage

from sessiond.client import (
    AsyncClient,
    Client,
    Config,
    ContextOverflow,
    InvalidInput,
    ManifestMismatch,
    Session,
    SessionBusy,
)
from sessiond.v1 import session_service_pb2 as pb

MODEL = "scripted-kv:num_ctx=4096"
TEXT = "The quick brown fox jumps over the lazy dog. " * 40
OTHER = "Pack my box with five dozen liquor jugs. " * 40


@pytest.fixture(scope="module")
def scripted_model() -> str:
    return MODEL


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Daemon]:
    """A daemon on another machine: another socket, another state folder."""
    with short_folder() as folder, Daemon(folder, MODEL) as running:
        yield running


@pytest.fixture(autouse=True)
def _close_all(daemon: Daemon, elsewhere: Daemon) -> Iterator[None]:
    """So many sessions as these tests open are over the limit."""
    yield
    for there in (daemon, elsewhere):
        for one in there.client.sessions():
            there.client.session(one.name).close()


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "a snapshot"


def _opened(client: Client, root: Path | None = None, num_ctx: int = 4096) -> Session:
    return client.open_session(root, key=os.urandom(4).hex(), config=Config(num_ctx=num_ctx))


def _grown(session: Session, text: str = TEXT) -> Session:
    """With a prefix, a suffix and an answer."""
    session.ensure_prefix(text)
    session.prefill_suffix("why?")
    _said(session)
    return session


def _said(session: Session, most: int = 8) -> str:
    return text_of(iter(session.decode(max_tokens=most, temperature=0.0)))


def _what(session: Session) -> tuple[object, ...]:
    """What it is, for whoever looks."""
    report = session.explain()
    told = report.manifest.digest, report.prefix_tokens, report.suffix_tokens, report.stable_token_hash
    return *told, [(each.path, each.reason) for each in report.left_out]


def _restored(daemon: Daemon) -> dict[str, object]:
    """What the log says of the last restore."""
    told = daemon.records("rpc")
    return next(each for each in reversed(told) if each["method"] == "SessionService/RestoreSnapshot")


def test_a_session_is_carried_to_another_daemon(daemon: Daemon, elsewhere: Daemon, path: Path) -> None:
    saved = _grown(_opened(daemon.client))
    size = saved.save_snapshot(path)
    assert (path.stat().st_size, stat.S_IMODE(path.stat().st_mode)) == (size, 0o600)
    wanted, answer = _what(saved), _said(saved)
    for there in (daemon, elsewhere):
        session = _opened(there.client)
        answered = session.restore_snapshot(path)
        assert (answered.name, answered.state) == (session.name, pb.SESSION_STATE_READY)
        assert answered.resident_tokens == session.info().resident_tokens == wanted[1] + wanted[2]  # type: ignore[operator]  # both are numbers
        told = _restored(there)
        assert (told["prefilled_tokens"], told["apart"]) == (0, there is elsewhere)
        assert _what(session) == wanted
        fork = session.fork()
        assert _said(session) == _said(fork) == answer
        status = session.prefill_suffix("and then?").status
        assert status.prefilled_tokens == status.suffix_tokens > 0
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_a_workspace_is_carried_with_what_it_left_out(
    daemon: Daemon, elsewhere: Daemon, folder: Path, path: Path
) -> None:
    root = folder / "w"
    root.mkdir()
    (root / "a.py").write_text("def fox():\n    return 1\n" * 20)
    (root / "b.bin").write_bytes(bytes(100))
    saved = _opened(daemon.client, root)
    saved.ensure_prefix(workspace=True)
    saved.prefill_suffix("why?")
    wanted = _what(saved)
    assert wanted[-1] == [("b.bin", "media")]
    saved.save_snapshot(path)
    answer = _said(saved)
    here, there = _opened(daemon.client, root), _opened(elsewhere.client, root)
    for session in (here, there):
        session.restore_snapshot(path)
        assert _what(session) == wanted
    assert here.explain().shared_tokens > 0 and not _restored(daemon)["apart"]
    assert there.explain().shared_tokens == 0 and _restored(elsewhere)["apart"]
    for session in (here, there):
        assert _said(session) == answer
        (root / "a.py").write_text(f"# {session.name}\n")  # and it is a session of its workspace still
        assert session.ensure_prefix(workspace=True).status.manifest_digest != wanted[0]


def test_what_was_restored_outlives_the_daemon(folder: Path, path: Path, daemon: Daemon) -> None:
    saved = _grown(_opened(daemon.client))
    saved.save_snapshot(path)
    inner = folder / "d"
    inner.mkdir(mode=0o700)
    with Daemon(inner, MODEL) as first:
        session = _opened(first.client)
        session.restore_snapshot(path)
        wanted = session.explain()
        assert wanted.suffix_tokens > 0
    with Daemon(inner, MODEL) as second:
        again = second.client.session(session.name).explain()
        assert (again.manifest, again.prefix_tokens) == (wanted.manifest, wanted.prefix_tokens)
        assert again.suffix_tokens == 0  # as after any restart


def test_kv_from_elsewhere_is_not_kept_on_the_disk(folder: Path, path: Path, daemon: Daemon) -> None:
    _grown(_opened(daemon.client)).save_snapshot(path)
    inner = folder / "d"
    inner.mkdir(mode=0o700)
    with Daemon(inner, MODEL) as first:
        _opened(first.client).restore_snapshot(path)
        assert _restored(first)["apart"]
    assert list(inner.glob("state/kv/*/entries/*")) == []


def test_a_forged_snapshot_is_refused_or_stands_alone(daemon: Daemon, path: Path) -> None:
    saved = _grown(_opened(daemon.client))
    saved.save_snapshot(path)
    data = path.read_bytes()
    session = _grown(_opened(daemon.client), OTHER)
    before = session.explain()
    for at in range(0, len(data), len(data) // 40):
        for spoilt in (data[:at], data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]):
            path.write_bytes(spoilt)
            with pytest.raises(InvalidInput) as caught:
                session.restore_snapshot(path)
            assert [violation.field for violation in caught.value.violations] == ["path"]
    assert session.explain() == before


def test_another_model_is_named_field_by_field(daemon: Daemon, path: Path) -> None:
    _grown(_opened(daemon.client)).save_snapshot(path)
    other = daemon.client.open_session(model="scripted-kv:num_ctx=4096,weights=other")
    mine = daemon.client.model().model_digest
    theirs = daemon.client.model("scripted-kv:num_ctx=4096,weights=other").model_digest
    with pytest.raises(ManifestMismatch) as caught:
        other.restore_snapshot(path)
    assert [(each.name, each.expected, each.actual) for each in caught.value.fields] == [
        ("model_digest", mine, theirs)
    ]
    other.close()


def test_what_does_not_fit_is_refused(daemon: Daemon, path: Path) -> None:
    saved = _grown(_opened(daemon.client))
    saved.save_snapshot(path)
    small = _opened(daemon.client, num_ctx=256)
    small.ensure_prefix("xx")
    before = small.explain()
    with pytest.raises(ContextOverflow) as caught:
        small.restore_snapshot(path)
    report = saved.explain()
    assert (caught.value.stage, caught.value.num_ctx) == ("restore", 256)
    assert caught.value.additional_tokens == report.prefix_tokens + report.suffix_tokens
    assert small.explain() == before


def _folder_of_others(folder: Path) -> Path:
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    return folder / "open" / "s"


def _link(folder: Path) -> Path:
    (folder / "link").symlink_to(folder / "target")
    return folder / "link"


def _precious(folder: Path) -> Path:
    (folder / "precious").write_text("precious")
    return folder / "precious"


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


@pytest.mark.parametrize(
    "place",
    [
        _folder_of_others,
        _link,
        _precious,
        _pipe,
        lambda folder: folder,
        lambda folder: folder / "missing" / "s",
        lambda folder: folder / ("s" * 300),
        lambda _folder: Path("/"),
        lambda _folder: Path("/proc/s"),
        lambda _folder: Path("/dev/null"),
    ],
    ids=[
        *(
            "open to others",
            "link",
            "text",
            "pipe",
            "folder",
            "missing",
            "long",
            "root",
            "read-only",
            "device",
        ),
    ],
)
def test_a_path_that_will_not_do_is_named(
    session: Session, folder: Path, place: Callable[[Path], Path]
) -> None:
    session.ensure_prefix("xxxx")
    path = place(folder)
    before = session.explain()
    there = {each: each.lstat().st_mtime_ns for each in folder.iterdir() if each.name != "open"}
    for act in (session.save_snapshot, session.restore_snapshot):
        with pytest.raises(InvalidInput) as caught:
            act(path)
        assert [violation.field for violation in caught.value.violations] == ["path"]
    assert session.explain() == before
    assert {each: each.lstat().st_mtime_ns for each in folder.iterdir() if each.name != "open"} == there
    assert not (folder / "target").exists() and list(folder.rglob(".*")) == []


@pytest.mark.parametrize("path", ["", "relative", "./s", "/tmp/..", "/x\0y"])
def test_a_path_that_is_none_is_named(daemon: Daemon, session: Session, path: str) -> None:
    """Below the client, which makes every path absolute."""
    for rpc, request in (
        ("SaveSnapshot", pb.SaveSnapshotRequest(name=session.name, path=path)),
        ("RestoreSnapshot", pb.RestoreSnapshotRequest(name=session.name, path=path)),
    ):
        call: Any = daemon.channel().unary_unary(f"/sessiond.v1.SessionService/{rpc}")
        with pytest.raises(Exception, match="path"):
            call(request.SerializeToString(), timeout=30)


def test_a_full_disk_leaves_nothing(folder: Path) -> None:
    inner = folder / "d"
    inner.mkdir(mode=0o700)
    with Daemon(inner, "scripted-kv:num_ctx=65536", "--disk-tier-mb", "0") as running:
        session = running.client.open_session(config=Config(num_ctx=65536))
        session.ensure_prefix("the lazy fox! " * 4000)
        before, size = session.explain(), session.save_snapshot(folder / "whole")
        assert size > 1_000_000
        resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (size - 1000, resource.RLIM_INFINITY))
        for name in ("new", "whole"):
            with pytest.raises(InvalidInput, match="File too large"):
                session.save_snapshot(folder / name)
        assert sorted(each.name for each in folder.iterdir()) == ["d", "whole"]
        assert (folder / "whole").stat().st_size == size
        assert session.explain() == before
        resource.prlimit(
            running.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
        session.restore_snapshot(folder / "whole")
        assert session.save_snapshot(folder / "new") == size


def test_a_busy_session_is_told_so(daemon: Daemon, path: Path) -> None:
    with short_folder() as folder, Daemon(folder, "scripted-kv:num_ctx=2048,step_ms=20") as slow:
        session = slow.client.open_session()
        session.ensure_prefix("xxxx")
        session.save_snapshot(path)
        bias = never_ending(slow.client)
        with in_background(lambda: list(session.decode(max_tokens=150, logit_bias=bias))):
            wait_for_stage(session, "decode")
            for act in (session.save_snapshot, session.restore_snapshot):
                with pytest.raises(SessionBusy):
                    act(path)
        session.restore_snapshot(path)
        assert session.explain().suffix_tokens == 0


def test_many_at_once(daemon: Daemon, folder: Path) -> None:
    """Turns, saves to one name and restores from it: every file is a whole one, every answer the right one."""
    sessions = [_grown(_opened(daemon.client)) for _ in range(4)]
    path = folder / "s"
    sessions[0].save_snapshot(path)
    answer = _said(sessions[0].fork())

    def work(session: Session) -> list[str]:
        said: list[str] = []
        for _ in range(6):
            session.restore_snapshot(path)
            session.save_snapshot(path)
            said.append(_said(session))
        return said

    with ThreadPoolExecutor(4) as pool:
        assert {each for said in pool.map(work, sessions) for each in said} == {answer}
    assert [each.name for each in folder.iterdir()] == ["s"]
    for session in sessions:
        session.close()


def test_the_asynchronous_client(daemon: Daemon, path: Path) -> None:
    async def carried() -> tuple[int, int]:
        async with AsyncClient(daemon.socket) as client:
            session = await client.open_session(key="async", config=RAW)
            await session.ensure_prefix("xyz" * 100)
            size = await session.save_snapshot(path)
            await session.ensure_prefix("")
            restored = await session.restore_snapshot(path)
            await session.close()
            return size, restored.prefix_tokens

    assert asyncio.run(carried()) == (path.stat().st_size, 300)


def test_sessionctl(daemon: Daemon, folder: Path) -> None:
    session = _grown(_opened(daemon.client))
    wanted = _what(session)

    def sessionctl(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(PROGRAMS / "sessionctl"), "--socket", str(daemon.socket), "snapshot", *arguments],
            cwd=folder,
            env=own_environment(daemon.folder),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    saved = sessionctl("save", "--session", session.name, "s", "--json")
    assert json.loads(saved.stdout) == {"size_bytes": str((folder / "s").stat().st_size)}, saved.stderr
    other = _opened(daemon.client)
    restored = sessionctl("restore", "--session", other.name, "s")
    assert restored.stdout.startswith(f"{other.name}: ") and _what(other) == wanted, restored.stderr
    failed = sessionctl("restore", "--session", other.name, "missing", "--json")
    assert failed.returncode == 1
    assert json.loads(failed.stderr)["error"]["reason"] == "INVALID_INPUT"


def test_a_capability_is_a_promise(daemon: Daemon) -> None:
    assert daemon.client.model().capabilities.snapshot
    assert not daemon.client.model("scripted-kv:no_truncate").capabilities.snapshot
