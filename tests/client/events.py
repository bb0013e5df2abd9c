"""One event of each kind, as WatchSession answers."""

from __future__ import annotations

from typing import Any

from sessiond.v1 import context_pb2
from sessiond.v1 import session_service_pb2 as pb


def event(time_ms: float = 1.0, **what: Any) -> pb.WatchSessionResponse:
    """An event."""
    return pb.WatchSessionResponse(event=pb.SessionEvent(time_ms=time_ms, **what))


MISS = context_pb2.LastMiss(cause="changed", message="a.py changed at byte 7", cost_tokens=1536)

EVENTS = [
    event(1.0, state=pb.SESSION_STATE_BUSY),
    event(2.0, files_changed=pb.FilesChanged(paths=["a\x1b[31m.py", "b.py"])),
    event(3.0, keep_hot=pb.KeepHotRun(phase="started")),
    event(4.0, prefill_progress=pb.PrefillProgress(stage="keep_hot", done_tokens=512, total_tokens=2048)),
    event(5.0, keep_hot=pb.KeepHotRun(phase="finished", prefilled_tokens=34, lag_ms=412.0)),
    event(6.0, keep_hot=pb.KeepHotRun(phase="superseded", prefilled_tokens=12)),
    event(7.0, invalidation=pb.Invalidation(miss=MISS)),
    event(8.0, fault=pb.SessionFault(reason="SESSION_FATAL", message="signal 6")),
    event(9.0, state=pb.SESSION_STATE_CLOSED),
]
