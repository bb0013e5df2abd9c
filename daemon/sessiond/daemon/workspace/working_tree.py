"""Which git working tree a folder is in."""

from __future__ import annotations

import os
from pathlib import Path

GIT = ".git"


def working_tree(root: Path) -> Path | None:
    """The nearest folder that has a `.git` of any kind: `root`, with links resolved, or one above it.

    Only looks at names: nothing is opened that could hold it up. Raises OSError or ValueError for a path that is none.
    """
    real = Path(os.path.realpath(root))
    return next((folder for folder in (real, *real.parents) if os.path.lexists(folder / GIT)), None)
