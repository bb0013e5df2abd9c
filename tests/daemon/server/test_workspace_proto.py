"""WorkspaceService's messages: what is malformed is refused by name, and every figure arrives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sessiond.daemon.server import workspace_proto
from sessiond.daemon.server.fields import folder
from sessiond.daemon.sessions.edit_cost import EditCost
from sessiond.daemon.sessions.manifest import ManifestSegment
from sessiond.daemon.sessions.workspaces import WorkspaceView
from sessiond.daemon.workspace.classify import MAX_BYTES
from sessiond.daemon.workspace.overlay import MAX_PATHS
from sessiond.daemon.workspace.segment import LeftOut
from sessiond.v1 import workspace_service_pb2 as pb
from sessiond.v1.errors import InvalidInput


def _refused(act: Callable[[], object]) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        act()
    return [violation.field for violation in caught.value.violations]


def test_what_is_sound_arrives() -> None:
    assert workspace_proto.root_of(pb.GetWorkspaceRequest(workspace_root="/w")) == Path("/w")
    paths = ["a", "b/c d.py"]
    for kind in (pb.PinFilesRequest, pb.UnpinFilesRequest):
        assert workspace_proto.paths_of(kind(workspace_root="/w", paths=paths)) == (Path("/w"), tuple(paths))
    assert workspace_proto.paths_of(pb.PinFilesRequest(workspace_root="/w")) == (Path("/w"), ())
    text = "é" * (MAX_BYTES // 2)
    assert workspace_proto.buffer_of(pb.SetBufferRequest(workspace_root="/w", path="a", text=text)) == (
        Path("/w"),
        "a",
    )
    assert workspace_proto.buffer_of(pb.ReleaseBufferRequest(workspace_root="/w", path="a"))[1] == "a"


@pytest.mark.parametrize("root", ["", "a", "/a\0b", "/" + "a" * 4096])
def test_a_root_that_can_be_none(root: str) -> None:
    assert set(_refused(lambda: workspace_proto.root_of(pb.GetWorkspaceRequest(workspace_root=root)))) == {
        "workspace_root"
    }


def test_every_malformed_field_is_named_at_once() -> None:
    pins = pb.PinFilesRequest(paths=["a", "/b", "c/../d"])
    assert _refused(lambda: workspace_proto.paths_of(pins)) == ["workspace_root", "paths[1]", "paths[2]"]
    buffer = pb.SetBufferRequest(workspace_root="/w", path="..", text="\0" + "x" * MAX_BYTES)
    assert _refused(lambda: workspace_proto.buffer_of(buffer)) == ["path", "text", "text"]
    many = pb.UnpinFilesRequest(workspace_root="/w", paths=["/a"] * (MAX_PATHS + 1))
    assert _refused(lambda: workspace_proto.paths_of(many)) == ["paths"]


def test_a_folder_is_found_whatever_its_spelling(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for spelling in ("real", "link", "real/.", "real/../link"):
        assert folder(tmp_path / spelling) == (tmp_path / "real").resolve()


@pytest.mark.parametrize("name", ["missing", "file", "a" * 300, "loop", "file/below"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    assert _refused(lambda: folder(tmp_path / name)) == ["workspace_root"]


def test_a_view_is_told_whole() -> None:
    def segment(path: str, start: int, end: int) -> ManifestSegment:
        return ManifestSegment(f"file:{path}", "file", path, True, "", start, end, start, end, "bh", "th")

    view = WorkspaceView(
        manifest=(segment("", 0, 10), segment("a", 10, 110), segment("b", 110, 150)),
        left_out=(LeftOut("c", "binary", "why"),),
        pinned=frozenset({"a", "c"}),
        buffered=frozenset({"b"}),
        watcher_state="watching",
        keep_hot_state="running",
        edit_cost=EditCost(tokens=12.5, by_path_tokens=40.0),
    )
    told = workspace_proto.workspace(view)
    assert [each.edit_cost_tokens for each in told.segments] == [145.0, 90.0, 20.0]
    assert [(each.segment.path, each.pinned, each.buffered) for each in told.segments] == [
        ("", False, False),
        ("a", True, False),
        ("b", False, True),
    ]
    assert [(left.path, left.reason, left.detail) for left in told.left_out] == [("c", "binary", "why")]
    assert (told.watcher_state, told.keep_hot_state) == ("watching", "running")
    cost = told.expected_edit_cost
    assert (cost.tokens, cost.by_path_tokens) == (12.5, 40.0)


def test_a_view_of_nothing() -> None:
    view = WorkspaceView((), (), frozenset(), frozenset(), "off", "off")
    told = workspace_proto.workspace(view)
    assert list(told.segments) == []
    assert not told.HasField("expected_edit_cost")
