"""WorkspaceService's requests to the daemon's own types, and its answers back. Everything malformed is refused here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TypeAlias

from sessiond.daemon.server import to_proto
from sessiond.daemon.server.fields import Fields
from sessiond.daemon.sessions.workspaces import WorkspaceView
from sessiond.daemon.workspace.classify import MAX_BYTES
from sessiond.daemon.workspace.order import edit_costs
from sessiond.daemon.workspace.overlay import MAX_PATHS
from sessiond.daemon.workspace.paths import path_fault
from sessiond.v1 import context_pb2
from sessiond.v1 import workspace_service_pb2 as pb

_OfPaths: TypeAlias = pb.PinFilesRequest | pb.UnpinFilesRequest
_OfOne: TypeAlias = pb.SetBufferRequest | pb.ReleaseBufferRequest


def root_of(request: pb.GetWorkspaceRequest) -> Path:
    """The root that is asked about. Raises InvalidInput."""
    fields = Fields()
    root = _root(fields, request.workspace_root)
    fields.done()
    return root


def paths_of(request: _OfPaths) -> tuple[Path, tuple[str, ...]]:
    """The root and the files of pins. Raises InvalidInput."""
    fields = Fields()
    root = _root(fields, request.workspace_root)
    _paths(fields, request.paths)
    fields.done()
    return root, tuple(request.paths)


def buffer_of(request: _OfOne) -> tuple[Path, str]:
    """The root and the file of a buffer; its text, where it has one, is checked too. Raises InvalidInput."""
    fields = Fields()
    root = _root(fields, request.workspace_root)
    _path(fields, "path", request.path)
    if isinstance(request, pb.SetBufferRequest):
        fields.text("text", request.text, MAX_BYTES)
    fields.done()
    return root, request.path


def _root(fields: Fields, given: str) -> Path:
    if not given:
        fields.refuse("workspace_root", "is empty")
    return fields.absolute("workspace_root", given) or Path("/")


def _paths(fields: Fields, given: Sequence[str]) -> None:
    if len(given) > MAX_PATHS:
        fields.refuse("paths", f"has more than {MAX_PATHS} entries")
        return
    for index, path in enumerate(given):
        _path(fields, f"paths[{index}]", path)


def _path(fields: Fields, field: str, given: str) -> None:
    fault = path_fault(given)
    if fault is not None:
        fields.refuse(field, fault)


def workspace(view: WorkspaceView) -> pb.GetWorkspaceResponse:
    """What the assembly of a workspace holds."""
    costs = edit_costs([segment.token_end - segment.token_start for segment in view.manifest])
    told = pb.GetWorkspaceResponse(
        segments=[
            pb.WorkspaceSegment(
                segment=to_proto.manifest_segment(segment),
                edit_cost_tokens=cost,
                pinned=segment.path in view.pinned,
                buffered=segment.path in view.buffered,
            )
            for segment, cost in zip(view.manifest, costs, strict=True)
        ],
        left_out=[context_pb2.LeftOut(**asdict(left)) for left in view.left_out],
        watcher_state=view.watcher_state,
        keep_hot_state=view.keep_hot_state,
    )
    if view.edit_cost is not None:
        told.expected_edit_cost.CopyFrom(to_proto.expected_edit_cost(view.edit_cost))
    return told
