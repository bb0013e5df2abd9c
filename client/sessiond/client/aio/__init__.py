"""The client for asyncio.

Every call raises the exceptions of `sessiond.v1.errors`, and TimeoutError once its `timeout` has passed: seconds, for
a stream until its end; None is no limit. Cancelling a task cancels its call in the daemon. A client belongs to the event
loop in which it made its first call.
"""

from sessiond.client.aio.client import AsyncClient
from sessiond.client.aio.function import AsyncFunction
from sessiond.client.aio.prompts import AsyncPrompts
from sessiond.client.aio.session import AsyncSession
from sessiond.client.aio.stream import AsyncStream
from sessiond.client.aio.workspace import AsyncWorkspace

__all__ = ["AsyncClient", "AsyncFunction", "AsyncPrompts", "AsyncSession", "AsyncStream", "AsyncWorkspace"]
