"""WorkspaceService: pins and unsaved buffers change what a prefix is made of, and everything is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.e2e.daemon import eventually
from tests.e2e.turns import in_background
from tests.e2e.wire import RPCS, refusal

from sessiond.client import Client, Config, InvalidInput, PermissionDenied, Session, Workspace
from sessiond.v1 import session_service_pb2
from sessiond.v1 import workspace_service_pb2 as pb

WINDOW = Config(num_ctx=1024, prompt_format="raw", disable_bos=True)
"""Three quarters of it may go to the files; a character of "xyz" is a token."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace whose last file does not fit."""
    made = tmp_path / "root"
    (made / "src").mkdir(parents=True)
    (made / "a.py").write_text("x" * 400)
    (made / "src/b.py").write_text("y" * 200)
    (made / "src/c.py").write_text("z" * 300)
    return made


@pytest.fixture
def session(client: Client, root: Path) -> Iterator[Session]:
    """A session over that."""
    opened = client.open_session(workspace_root=root, config=WINDOW)
    yield opened
    if opened.info().state != session_service_pb2.SESSION_STATE_CLOSED:
        opened.close()


@pytest.fixture
def workspace(client: Client, session: Session, root: Path) -> Workspace:
    """The workspace of the session."""
    return client.workspace(root)


def _paths(told: pb.GetWorkspaceResponse) -> list[str]:
    return [each.segment.path for each in told.segments if each.segment.kind == "file"]


def _of(told: pb.GetWorkspaceResponse, path: str) -> pb.WorkspaceSegment:
    return next(each for each in told.segments if each.segment.path == path)


def _fields(act: Callable[[], object]) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        act()
    return [violation.field for violation in caught.value.violations]


def test_it_is_what_the_next_prefix_is(session: Session, workspace: Workspace) -> None:
    told = workspace.get()
    status = session.ensure_prefix(workspace=True).status
    assert status.prefix_tokens == told.segments[-1].segment.token_end
    report = session.explain()
    assert [each.segment for each in told.segments] == list(report.manifest.segments)
    assert list(told.left_out) == list(report.left_out)
    assert (told.left_out[0].path, told.left_out[0].reason) == ("src/c.py", "budget")


def test_an_edit_costs_half_of_its_segment_and_all_behind_it(workspace: Workspace) -> None:
    segments = workspace.get().segments
    end = segments[-1].segment.token_end
    for each in segments:
        middle = (each.segment.token_start + each.segment.token_end) / 2
        assert each.edit_cost_tokens == pytest.approx(end - middle)
    assert len(segments) >= 2


def test_a_pin_goes_in_before_all_others(session: Session, workspace: Workspace) -> None:
    assert "src/c.py" not in _paths(workspace.get())
    workspace.pin("src/c.py", "not there yet.py")
    told = workspace.get()
    assert "src/c.py" in _paths(told)
    assert _of(told, "src/c.py").pinned
    assert [each.segment.path for each in told.segments if each.pinned] == ["src/c.py"]
    tokens = session.ensure_prefix(workspace=True).status.prefix_tokens
    assert tokens == told.segments[-1].segment.token_end
    workspace.unpin("src/c.py", "never pinned.py")
    workspace.unpin("not there yet.py")
    told = workspace.get()
    assert "src/c.py" not in _paths(told)
    assert not any(each.pinned for each in told.segments)


def test_a_buffer_wins_over_its_file_until_it_is_released(session: Session, workspace: Workspace) -> None:
    before = session.ensure_prefix(workspace=True).status
    workspace.set_buffer("src/b.py", "y" * 100)
    told = workspace.get()
    assert [each.segment.path for each in told.segments if each.buffered] == ["src/b.py"]
    assert session.ensure_prefix(workspace=True).status.prefix_tokens == before.prefix_tokens - 100
    workspace.release_buffer("src/b.py")
    workspace.release_buffer("src/b.py")
    after = session.ensure_prefix(workspace=True).status
    assert after.manifest_digest == before.manifest_digest
    assert not any(each.buffered for each in workspace.get().segments)


def test_a_buffer_is_gone_when_its_file_is_written(
    session: Session, workspace: Workspace, root: Path
) -> None:
    workspace.set_buffer("src/b.py", "unsaved")
    workspace.set_buffer("new.py", "has no file yet")
    assert _of(workspace.get(), "new.py").buffered
    (root / "src/b.py").write_text("y" * 200)
    told = workspace.get()
    assert not _of(told, "src/b.py").buffered
    assert _of(told, "new.py").buffered
    session.ensure_prefix(workspace=True)
    assert "new.py" in [each.path for each in session.explain().manifest.segments]


def test_all_sessions_of_a_workspace_have_its_pins_and_no_others(
    client: Client, session: Session, workspace: Workspace, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(root)
    client.workspace(tmp_path / "link").pin("src/c.py")
    assert "src/c.py" in _paths(workspace.get())
    second = client.open_session(workspace_root=root, key="second", config=WINDOW)
    second.ensure_prefix(workspace=True)
    assert "src/c.py" in [each.path for each in second.explain().manifest.segments]
    second.close()
    other = client.open_session(workspace_root=root / "src", config=WINDOW)
    assert not any(each.pinned for each in client.workspace(root / "src").get().segments)
    other.close()


def test_pins_may_come_before_the_first_session_and_outlive_the_last(client: Client, root: Path) -> None:
    workspace = client.workspace(root)
    workspace.pin("src/c.py")
    workspace.set_buffer("src/c.py", "z" * 310)
    assert _fields(workspace.get) == ["workspace_root"]
    for key in ("first", "last"):
        session = client.open_session(workspace_root=root, key=key, config=WINDOW)
        c = _of(workspace.get(), "src/c.py")
        assert (c.pinned, c.buffered) == (True, True)
        session.close()


def test_who_watches_is_told(session: Session, workspace: Workspace) -> None:
    seen: list[session_service_pb2.SessionEvent] = []

    def watch() -> None:
        for event in session.watch(timeout=30):
            seen.append(event)  # noqa: PERF402 - each as it comes

    with in_background(watch) as watching:

        def told() -> bool:
            workspace.pin("src/c.py")  # again and again, until the watch is on
            return any(list(event.files_changed.paths) == ["src/c.py"] for event in seen)

        eventually(told, "the pin is told")
        session.close()
        watching.result(20)


CALLS: dict[str, Callable[[Workspace], Any]] = {
    "GetWorkspace": lambda workspace: workspace.get(),
    "PinFiles": lambda workspace: workspace.pin("a.py"),
    "UnpinFiles": lambda workspace: workspace.unpin("a.py"),
    "SetBuffer": lambda workspace: workspace.set_buffer("a.py", "x"),
    "ReleaseBuffer": lambda workspace: workspace.release_buffer("a.py"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["missing", "file", "empty", "too long", "loop"])
def test_a_root_that_is_none(client: Client, tmp_path: Path, call: str, kind: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    roots = {"empty": "", "too long": "/" + "a" * 300}
    workspace = client.workspace(roots.get(kind, str(tmp_path / kind)))
    assert _fields(lambda: CALLS[call](workspace)) == ["workspace_root"]


def test_a_relative_root(channel: grpc.Channel) -> None:
    for rpc in RPCS:
        if rpc.name.startswith("WorkspaceService"):
            raised = refusal(channel, rpc, rpc.request(workspace_root="a/b").SerializeToString())
            assert isinstance(raised, InvalidInput)
            assert raised.violations[0].field == "workspace_root"


@pytest.mark.parametrize("path", ["/etc/passwd", "../a", "a/../../b", "", "a\nb", "a//b", "x" * 5000])
def test_a_path_that_is_none_changes_nothing(workspace: Workspace, path: str) -> None:
    before = workspace.get()
    assert _fields(lambda: workspace.pin("src/c.py", path)) == ["paths[1]"]
    assert _fields(lambda: workspace.unpin("src/c.py", path)) == ["paths[1]"]
    assert _fields(lambda: workspace.set_buffer(path, "x")) == ["path"]
    assert _fields(lambda: workspace.release_buffer(path)) == ["path"]
    assert workspace.get() == before


def test_a_text_that_is_none_changes_nothing(workspace: Workspace) -> None:
    before = workspace.get()
    assert _fields(lambda: workspace.set_buffer("a.py", "a\0b")) == ["text"]
    assert _fields(lambda: workspace.set_buffer("a.py", "x" * (256 * 1024 + 1))) == ["text"]
    assert _fields(lambda: workspace.set_buffer("../a", "a\0b")) == ["path", "text"]
    assert workspace.get() == before


def test_too_many_pins_change_nothing(workspace: Workspace) -> None:
    assert _fields(lambda: workspace.pin(*(f"{number}" for number in range(1001)))) == ["paths"]
    workspace.pin(*(f"{number}" for number in range(1000)))
    assert _fields(lambda: workspace.pin("one more")) == ["paths"]
    assert not any(each.pinned for each in workspace.get().segments)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_root_that_may_not_be_read(client: Client, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(PermissionDenied):
        client.workspace(tmp_path / "closed").pin("a")
