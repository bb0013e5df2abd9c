"""Another user of the machine can neither connect, nor read, nor list, nor put anything there: tried as that user."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.daemon import PROGRAMS, own_environment, short_folder

from sessiond.client import Client
from sessiond.daemon.engine.disk.folder import Folder

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")

NOBODY = 65_534

# The interpreter itself may be closed to the other user: it becomes that one once it runs.
TRY = """
import json, os, socket, stat, sys
paths = json.load(sys.stdin)
os.setgroups([]); os.setgid(65534); os.setuid(65534)

def connect(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.connect(path)

WAYS = {
    "list": os.listdir,
    "look": os.stat,
    "read": lambda path: os.close(os.open(path, os.O_RDONLY)),
    "write": lambda path: os.close(os.open(path, os.O_WRONLY)),
    "remove": os.unlink,
    "put": lambda path: os.mkdir(path + "/mine"),
    "connect": connect,
}
told = {}
for path in paths:
    told[path] = {}
    for name, way in WAYS.items():
        try:
            way(path)
        except OSError as error:
            told[path][name] = error.errno
        else:
            told[path][name] = 0
print(json.dumps({"uid": os.getuid(), "told": told}))
"""


def _tried(paths: list[str]) -> dict[str, dict[str, int]]:
    """By path and way, the error's number; 0 is success."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", TRY],
        input=json.dumps(paths),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    assert answer["uid"] == NOBODY
    told: dict[str, dict[str, int]] = answer["told"]
    return told


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Where a daemon runs that a client started, with nothing closed but by themselves."""
    with short_folder() as folder:
        socket = folder / "runtime_dir" / "sessiond" / "sessiond.sock"
        environ = own_environment(folder) | {"SESSIOND_MODEL": "scripted-kv:num_ctx=512"}
        environ["SESSIOND_SOCKET"] = str(socket)
        for open_to_all in (folder, *(each for each in folder.iterdir() if each.is_dir())):
            open_to_all.chmod(0o755)

        def sessionctl(*command: str) -> None:
            subprocess.run(
                [PROGRAMS / "sessionctl", *command],
                env=environ,
                umask=0,
                check=True,
                timeout=120,
                capture_output=True,
            )

        sessionctl("ensure")
        try:
            with Client(
                folder / "runtime_dir" / "sessiond" / "sessiond.sock", token="", timeout=60
            ) as client:
                client.open_session(key="secret").ensure_prefix("xx")
            yield folder
        finally:
            sessionctl("stop")


def _made(home: Path) -> list[Path]:
    """All that daemon and client made."""
    tops = [place / "sessiond" for place in home.iterdir() if (place / "sessiond").exists()]
    return [*tops, *(below for top in tops for below in top.rglob("*"))]


def test_all_that_was_made_is_ours_alone(home: Path) -> None:
    made = _made(home)
    names = {path.name for path in made}
    assert {"sessiond.sock", "sessiond.sock.lock", "sessiond.log"} <= names
    for path in made:
        told = path.lstat()
        wanted = 0o700 if stat.S_ISDIR(told.st_mode) else 0o600
        assert stat.S_IMODE(told.st_mode) == wanted, path
        assert told.st_uid == os.getuid()


def test_another_user_gets_nowhere(home: Path) -> None:
    paths = [str(path) for path in _made(home)]
    inside = [path for path in paths if Path(path).name != "sessiond"]
    told = _tried([*paths, str(home)])
    assert told[str(home)]["list"] == 0, "the way there is open"
    for path in paths:
        worked = {way for way, error in told[path].items() if error == 0}
        # Of the outermost folders it may be seen that they are there, and no more.
        assert worked <= (set() if path in inside else {"look"}), path


def test_the_socket_itself_refuses_where_its_folder_does_not(home: Path) -> None:
    socket = home / "runtime_dir" / "sessiond" / "sessiond.sock"
    socket.parent.chmod(0o755)
    try:
        told = _tried([str(socket)])[str(socket)]
    finally:
        socket.parent.chmod(0o700)
    assert told["look"] == 0
    assert all(told[way] != 0 for way in ("connect", "read", "write", "remove"))
    with Client(socket, token="", timeout=30) as client:
        assert client.healthy()


def test_entries_of_the_disk_tier(folder: Path) -> None:
    folder.chmod(0o755)
    old = os.umask(0)
    try:
        tier = Folder(folder / "tier")
        tier.put("0" * 40 + "-0", (b"secret",))
        tier.close()
    finally:
        os.umask(old)
    paths = [str(path) for path in ((folder / "tier"), *(folder / "tier").rglob("*"))]
    assert len(paths) > 4
    told = _tried(paths)
    for path in paths:
        worked = {way for way, error in told[path].items() if error == 0}
        assert worked <= ({"look"} if path == paths[0] else set()), path
    # And where the folder had been opened by mistake, the entry is still closed.
    (folder / "tier").chmod(0o755)
    (folder / "tier" / "entries").chmod(0o755)
    entry = str(folder / "tier" / "entries" / ("0" * 40 + "-0"))
    told = _tried([entry])
    assert {way for way, error in told[entry].items() if error == 0} == {"look"}
