"""What can be asked of a workspace by its root."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sessiond.client.calls.call import Unary, nothing, unary, whole
from sessiond.client.requests import PathLike, absolute, made
from sessiond.v1 import workspace_service_pb2 as pb

_SERVICE: Final = "/sessiond.v1.WorkspaceService"


def get_workspace(root: PathLike) -> Unary[pb.GetWorkspaceResponse]:
    request = made(pb.GetWorkspaceRequest, workspace_root=absolute(root))
    return unary(f"{_SERVICE}/GetWorkspace", request, pb.GetWorkspaceResponse, whole)


def pin_files(root: PathLike, paths: Iterable[str]) -> Unary[None]:
    request = made(pb.PinFilesRequest, workspace_root=absolute(root), paths=paths)
    return unary(f"{_SERVICE}/PinFiles", request, pb.PinFilesResponse, nothing)


def unpin_files(root: PathLike, paths: Iterable[str]) -> Unary[None]:
    request = made(pb.UnpinFilesRequest, workspace_root=absolute(root), paths=paths)
    return unary(f"{_SERVICE}/UnpinFiles", request, pb.UnpinFilesResponse, nothing)


def set_buffer(root: PathLike, path: str, text: str) -> Unary[None]:
    request = made(pb.SetBufferRequest, workspace_root=absolute(root), path=path, text=text)
    return unary(f"{_SERVICE}/SetBuffer", request, pb.SetBufferResponse, nothing)


def release_buffer(root: PathLike, path: str) -> Unary[None]:
    request = made(pb.ReleaseBufferRequest, workspace_root=absolute(root), path=path)
    return unary(f"{_SERVICE}/ReleaseBuffer", request, pb.ReleaseBufferResponse, nothing)
