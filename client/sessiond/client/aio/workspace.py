"""One workspace of the daemon, for the client for asyncio."""

from __future__ import annotations

from sessiond.client.aio.link import Link
from sessiond.client.calls import workspaces
from sessiond.v1 import workspace_service_pb2


class AsyncWorkspace:
    """One workspace of the daemon, by its absolute root. Paths are relative to that, with slashes.

    Pins and buffers belong to the workspace and to all its sessions, and live in the daemon until they are taken back or
    it ends.
    """

    def __init__(self, link: Link, root: str) -> None:
        self._link = link
        self.root = root

    def __repr__(self) -> str:
        return f"AsyncWorkspace({self.root!r})"

    async def get(self, *, timeout: float | None = None) -> workspace_service_pb2.GetWorkspaceResponse:
        """What the assembly holds for its newest session, and what an edit would cost. Raises InvalidInput where no
        session is open over it.
        """
        return await self._link.unary(workspaces.get_workspace(self.root), timeout)

    async def pin(self, *paths: str, timeout: float | None = None) -> None:
        """Put files into the prefix whatever the order and the budget say."""
        await self._link.unary(workspaces.pin_files(self.root, paths), timeout)

    async def unpin(self, *paths: str, timeout: float | None = None) -> None:
        """Take pins back. What is not pinned is no error."""
        await self._link.unary(workspaces.unpin_files(self.root, paths), timeout)

    async def set_buffer(self, path: str, text: str, *, timeout: float | None = None) -> None:
        """Give an unsaved buffer: it wins over its file until that is written or the buffer released."""
        await self._link.unary(workspaces.set_buffer(self.root, path, text), timeout)

    async def release_buffer(self, path: str, *, timeout: float | None = None) -> None:
        """Take a buffer back. Where there is none, that is no error."""
        await self._link.unary(workspaces.release_buffer(self.root, path), timeout)
