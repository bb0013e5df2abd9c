"""What the client's tests share: an environment of their own, and a daemon that is none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.fake_daemon import FakeDaemon


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name; pytest's own are too long for that."""
    path = Path(tempfile.mkdtemp(prefix="sd-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, short_path: Path) -> None:
    """Nothing of the user's own files and variables is read or written."""
    for name in [name for name in os.environ if name.startswith("SESSIOND_")]:
        monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "HOME"):
        folder = short_path / name.lower()
        folder.mkdir(mode=0o700)
        monkeypatch.setenv(name, str(folder))


@pytest.fixture
def daemon(short_path: Path) -> Iterator[FakeDaemon]:
    """A running fake daemon."""
    with FakeDaemon(short_path / "d.sock") as running:
        yield running
