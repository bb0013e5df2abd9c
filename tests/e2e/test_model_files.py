"""Models that are none, and workspaces that are none: refused with a sentence, and the daemon lives."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.e2e.daemon import Daemon

from sessiond.client import Client, InvalidInput


def real_model(client: Client) -> Path:
    """The embedded model's file."""
    return next(Path(each.absolute_path) for each in client.models() if each.source == "embedded")


def _missing(folder: Path, _real: Path) -> str:
    return str(folder / "none.gguf")


def _folder(folder: Path, _real: Path) -> str:
    return str(folder)


def _not_gguf(folder: Path, _real: Path) -> str:
    path = folder / "text.gguf"
    path.write_bytes(b"This is no model. " * 1000)
    return str(path)


def _empty(folder: Path, _real: Path) -> str:
    path = folder / "empty.gguf"
    path.touch()
    return str(path)


def _only_magic(folder: Path, _real: Path) -> str:
    path = folder / "magic.gguf"
    path.write_bytes(b"GGUF")
    return str(path)


def _senseless_counts(folder: Path, _real: Path) -> str:
    path = folder / "counts.gguf"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 1 << 60, 1 << 60) + b"\0" * 4096)
    return str(path)


def _future_version(folder: Path, _real: Path) -> str:
    path = folder / "version.gguf"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 99, 5, 5) + b"\0" * 4096)
    return str(path)


def _pipe(folder: Path, _real: Path) -> str:
    path = folder / "pipe.gguf"
    os.mkfifo(path)
    return str(path)


def _unreadable_name(_folder: Path, _real: Path) -> str:
    return "no-model-of-this-name"


def _too_long(_folder: Path, _real: Path) -> str:
    return "/" + "a" * 5000


def _unknown_option(_folder: Path, _real: Path) -> str:
    return "scripted-kv:nonsense=1"


def _truncated(folder: Path, real: Path) -> str:
    path = folder / "head.gguf"
    with real.open("rb") as file:
        path.write_bytes(file.read(4 << 20))
    return str(path)


def _truncated_in_keys(folder: Path, real: Path) -> str:
    path = folder / "keys.gguf"
    with real.open("rb") as file:
        path.write_bytes(file.read(100_000))
    return str(path)


def _nonsense_behind_the_head(folder: Path, _real: Path) -> str:
    path = folder / "nonsense.gguf"
    path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 272, 38) + random.Random(1).randbytes(1 << 20))
    return str(path)


BY_A_LOOK = (
    _missing, _folder, _not_gguf, _empty, _only_magic, _senseless_counts, _future_version, _pipe,
    _unreadable_name, _too_long, _unknown_option,
)  # fmt: skip
BY_LOADING = (_truncated, _truncated_in_keys, _nonsense_behind_the_head)


def _is_refused(daemon: Daemon, model: str) -> None:
    client = daemon.client
    before = client.sessions()
    for ask in (lambda: client.open_session(model=model), lambda: client.model(model), lambda: client.tokenize("x", model=model)):  # fmt: skip
        with pytest.raises(InvalidInput) as caught:
            ask()
        assert [violation.field for violation in caught.value.violations] == ["model"]
        assert caught.value.violations[0].description
    assert client.sessions() == before
    assert client.healthy()


@pytest.mark.parametrize("make", BY_A_LOOK, ids=lambda make: make.__name__.strip("_"))
def test_what_is_no_model(daemon: Daemon, folder: Path, make: Callable[[Path, Path], str]) -> None:
    _is_refused(daemon, make(folder, Path()))


@pytest.mark.model
@pytest.mark.parametrize("make", BY_LOADING, ids=lambda make: make.__name__.strip("_"))
def test_a_model_file_that_is_damaged(
    daemon: Daemon, folder: Path, make: Callable[[Path, Path], str]
) -> None:
    _is_refused(daemon, make(folder, real_model(daemon.client)))


def test_a_relative_workspace_root(daemon: Daemon) -> None:
    from tests.e2e.wire import RPCS, refusal

    from sessiond.v1 import session_service_pb2 as pb

    rpc = next(rpc for rpc in RPCS if rpc.name == "SessionService.OpenSession")
    for root in ("relative", "./x", "../x", "~"):
        request = pb.OpenSessionRequest(workspace_root=root)
        raised = refusal(daemon.channel(), rpc, request.SerializeToString())
        assert isinstance(raised, InvalidInput)
        assert raised.violations[0].field == "workspace_root"


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_workspace_root_that_is_no_folder(client: Client, folder: Path, kind: str) -> None:
    root = folder / "root"
    if kind == "file":
        root.touch()
    before = client.sessions()
    with pytest.raises(InvalidInput) as caught:
        client.open_session(workspace_root=root)
    assert [violation.field for violation in caught.value.violations] == ["workspace_root"]
    assert client.sessions() == before


def test_a_workspace_prefix_without_a_workspace(client: Client) -> None:
    session = client.open_session(key="no workspace")
    before = session.explain()
    with pytest.raises(InvalidInput) as caught:
        session.ensure_prefix(workspace=True)
    assert caught.value.violations[0].field == "prefix.workspace"
    assert session.explain() == before
