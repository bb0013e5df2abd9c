"""Whether the root of a workspace is there, and still the same."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple


class Identity(NamedTuple):
    """What tells one folder from another that has come to the same path."""

    device: int
    inode: int


def identity_of(status: os.stat_result) -> Identity:
    """The identity of what was asked about."""
    return Identity(status.st_dev, status.st_ino)


def root_identity(root: Path) -> Identity | None:
    """None if there is no folder at `root` now. The root itself may be a link, as everywhere in the workspace."""
    try:
        status = root.stat()
    except (OSError, ValueError):
        return None
    return identity_of(status) if stat.S_ISDIR(status.st_mode) else None
