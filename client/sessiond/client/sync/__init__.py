"""The blocking client.

Every call raises the exceptions of `sessiond.v1.errors`, and TimeoutError once its `timeout` has passed: seconds, for
a stream until its end; None is no limit. A client may be used from several threads. What a signal's handler raises, such
as KeyboardInterrupt, ends the call that is waited for at once and cancels it in the daemon.
"""

from sessiond.client.sync.client import Client
from sessiond.client.sync.function import Function
from sessiond.client.sync.prompts import Prompts
from sessiond.client.sync.session import Session
from sessiond.client.sync.stream import Stream
from sessiond.client.sync.workspace import Workspace

__all__ = ["Client", "Function", "Prompts", "Session", "Stream", "Workspace"]
