"""How often each file of a workspace is edited, from the history of the git repository that holds it.

The history is read in a process of its own (`commits.py`). A repository may come from anybody: an object may unpack
to gigabytes, a file of it may be a pipe that never answers. There a limit on memory, processor and time stops it,
and the daemon goes on without weights.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import structlog

log = structlog.get_logger(__name__)

PATIENCE = 5.0
"""Seconds. The reader itself stops after two, if nothing holds it up."""


def edit_weights(root: Path) -> dict[str, float]:
    """Expected edits of the files beneath `root`, by their path from there; a path without any is absent.

    Each recent commit that made or changed a file counts: the newest 1, one that is a hundred commits older half as
    much. Empty if no git repository holds `root`, which may be any folder of its working tree, or if it cannot be
    read. The same repository gives the same weights, unless time ran out. Takes half a second as a rule, and at most
    `PATIENCE`; raises nothing.
    """
    try:
        ended = subprocess.run(
            # -P: nothing that lies in the current folder is imported.
            [sys.executable, "-P", "-m", "sessiond.daemon.workspace.commits", os.fspath(root)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=True,
        )
        return msgspec.json.decode(ended.stdout, type=dict[str, float])
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.info("history.unread", root=str(root), error=type(error).__name__)
        return {}
