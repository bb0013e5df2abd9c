"""WorkspaceService over the registry's workspaces."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc

from sessiond.daemon.server import workspace_proto
from sessiond.daemon.server.boundary import note
from sessiond.daemon.server.fields import folder
from sessiond.daemon.sessions.registry import SessionRegistry
from sessiond.daemon.sessions.workspaces import Workspaces
from sessiond.v1 import workspace_service_pb2 as pb
from sessiond.v1 import workspace_service_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class WorkspaceServicer(workspace_service_pb2_grpc.WorkspaceServiceServicer):
    """Each method converts, asks, converts back. What asks the disk does so in a thread."""

    def __init__(self, registry: SessionRegistry) -> None:
        self._registry = registry

    @property
    def _workspaces(self) -> Workspaces:
        return self._registry.workspaces

    async def GetWorkspace(
        self, request: pb.GetWorkspaceRequest, context: Context
    ) -> pb.GetWorkspaceResponse:
        """See the contract."""
        root = await _folder(workspace_proto.root_of(request))
        view = await self._workspaces.view(root)
        note(segments=len(view.manifest), left_out=len(view.left_out))
        return workspace_proto.workspace(view)

    async def PinFiles(self, request: pb.PinFilesRequest, context: Context) -> pb.PinFilesResponse:
        """See the contract."""
        given, paths = workspace_proto.paths_of(request)
        root = await _folder(given)
        self._workspaces.overlay(root).pin(paths)
        self._workspaces.changed(root, paths)
        note(paths=len(paths))
        return pb.PinFilesResponse()

    async def UnpinFiles(self, request: pb.UnpinFilesRequest, context: Context) -> pb.UnpinFilesResponse:
        """See the contract."""
        given, paths = workspace_proto.paths_of(request)
        root = await _folder(given)
        self._workspaces.overlay(root).unpin(paths)
        self._workspaces.changed(root, paths)
        note(paths=len(paths))
        return pb.UnpinFilesResponse()

    async def SetBuffer(self, request: pb.SetBufferRequest, context: Context) -> pb.SetBufferResponse:
        """See the contract."""
        given, path = workspace_proto.buffer_of(request)
        root = await _folder(given)
        overlay = None
        # A workspace without sessions, pins and buffers may be forgotten while the disk is asked.
        while overlay is not self._workspaces.overlay(root):
            overlay = self._workspaces.overlay(root)
            await asyncio.to_thread(overlay.set_buffer, root, path, request.text)
        self._workspaces.changed(root, [path])
        note(characters=len(request.text))
        return pb.SetBufferResponse()

    async def ReleaseBuffer(
        self, request: pb.ReleaseBufferRequest, context: Context
    ) -> pb.ReleaseBufferResponse:
        """See the contract."""
        given, path = workspace_proto.buffer_of(request)
        root = await _folder(given)
        self._workspaces.overlay(root).release(path)
        self._workspaces.changed(root, [path])
        return pb.ReleaseBufferResponse()


async def _folder(root: Path) -> Path:
    return await asyncio.to_thread(folder, root)
