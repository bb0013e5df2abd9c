"""What a client opens. Two opens of the same attach to one session."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sessiond.daemon.sessions.config import SessionConfig


@dataclass(frozen=True, slots=True)
class OpenRequest:
    """See the module."""

    workspace_root: Path | None
    model: str
    key: str
    config: SessionConfig
