"""Git repositories as people make them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_ENV = {
    **os.environ,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "LC_ALL": "C",
    **{f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
}


def git(folder: Path, *arguments: str) -> str:
    """What git says; its people's settings do not count."""
    ran = subprocess.run(["git", *arguments], cwd=folder, env=_ENV, check=True, capture_output=True)
    return ran.stdout.decode()


def commit(folder: Path, *paths: str, text: str = "") -> None:
    """Adds a line to each of these files, and commits whatever changed."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        with (folder / path).open("a") as file:
            file.write(f"{text or path}\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x")
