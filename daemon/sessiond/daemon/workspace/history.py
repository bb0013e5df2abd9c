"""How often each file of a workspace is edited, from the history of the git repository that holds it.

The history is read in a process of its own (`commits.py`). A repository may come from anybody: an object may unpack
to gigabytes, a file of it may be a pipe that never answers. There a limit on memory, processor and time stops it,
and the daemon goes on knowing nothing of edits.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import structlog

from sessiond.daemon.workspace.edits import Edits
from sessiond.daemon.workspace.working_tree import working_tree

log = structlog.get_logger(__name__)

PATIENCE = 5.0
"""Seconds. The reader itself stops soon after two, if nothing holds it up."""


def edits_of(root: Path) -> Edits:
    """What is known of the edits of the files beneath `root`.

    Each recent commit that made or changed a file counts: the newest 1, one that is a hundred commits older half as
    much. Nothing is known if no git repository holds `root`, which may be any folder of its working tree, or if it cannot
    be read. The same repository gives the same, unless time ran out. Takes a quarter of a second as a rule, at most
    `PATIENCE`, and where there is no repository the time to look for one; raises nothing.
    """
    try:
        if working_tree(root) is None:
            # The process would find the same in a tenth of a second, for which a first prefix waits.
            return Edits()
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
        return msgspec.json.decode(ended.stdout, type=Edits)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        log.info("history.unread", root=str(root), error=type(error).__name__)
        return Edits()
