"""Fill in the middle, from the client and the command line to the model and back."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from tests.e2e.daemon import PROGRAMS, Daemon

from sessiond.client import AsyncClient, Client, InvalidInput
from sessiond.client.requests import fim_input
from sessiond.v1.context_pb2 import FimInput

TEXT = "def f(name):\n    value = \n    return value\n"


@pytest.fixture(scope="module")
def scripted_model() -> str:
    return "scripted-kv:num_ctx=2048,fim"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "src" / "a.py"
    path.parent.mkdir()
    path.write_text(TEXT)
    return path


def test_a_fill_is_the_same_warm_as_cold(client: Client, file: Path) -> None:
    assert client.model().capabilities.fim
    session = client.open_session(file.parents[1])
    before, after = TEXT[:25], TEXT[25:]
    cold = "".join(session.fill(before, after, path="src/a.py", max_tokens=20))
    assert cold
    assert "".join(session.fill(before + "n", after, path="src/a.py", max_tokens=20)) != cold
    assert "".join(session.fill(before, after, path="src/a.py", max_tokens=20)) == cold
    session.close()


async def test_the_async_client_fills_too(daemon: Daemon, client: Client) -> None:
    session = client.open_session(key="both")
    blocking = "".join(session.fill("x = ", "\n", suffix_first=True, max_tokens=9))
    async with AsyncClient(daemon.socket) as other:
        pieces = [
            piece
            async for piece in other.session(session.name).fill("x = ", "\n", suffix_first=True, max_tokens=9)
        ]
    assert "".join(pieces) == blocking


def test_what_was_taken_of_the_texts_is_told(client: Client) -> None:
    session = client.open_session(key="taken")
    status = session.prefill_suffix(fim=("é" * 3, "y" * 5), mode="replace").status
    assert (status.fim_before_bytes, status.fim_after_bytes) == (6, 5)
    status = session.prefill_suffix(fim=("x = 1\n" * 9000, "y = 2\n" * 9000), mode="replace").status
    assert 0 < status.fim_after_bytes < status.fim_before_bytes < 9000
    assert status.available_tokens >= 256


@pytest.mark.parametrize(
    ("fim", "field"),
    [
        (FimInput(before="a\0"), "before"),
        (FimInput(after="a\0"), "after"),
        (FimInput(path="/etc/passwd"), "path"),
        (FimInput(path="a\nb"), "path"),
        (FimInput(path="a" * 5000), "path"),
        (FimInput(layout=7), "layout"),  # type: ignore[arg-type]  # of a newer client
    ],
)
def test_what_is_malformed_is_named(client: Client, fim: FimInput, field: str) -> None:
    session = client.open_session(key="malformed")
    with pytest.raises(InvalidInput) as caught:
        session.prefill_suffix(fim=fim)
    assert [violation.field for violation in caught.value.violations] == [f"suffix.fim.{field}"]


def _run(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAMS / "sessionctl"), "--socket", str(daemon.socket), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_sessionctl_fills_at_a_place(daemon: Daemon, client: Client, file: Path) -> None:
    root = file.parents[1]
    where = ("--dir", str(root), "--line", "2", "--column", "13")
    told = _run(daemon, "fill", *where, "--max-tokens", "20", "--json", str(file)).stdout
    chunks = [json.loads(line).get("chunk", {}) for line in told.splitlines()]
    session = client.open_session(root)
    fim = fim_input(TEXT[:25], TEXT[25:], "src/a.py")
    turn = session.complete(fim=fim, mode="replace", max_tokens=20)
    assert "".join(chunk.get("text", "") for chunk in chunks) == "".join(part.chunk.text for part in turn)


@pytest.mark.parametrize("wrong", [("--line", "99"), ("--line", "2", "--column", "99"), ("--line", "0")])
def test_a_place_that_is_not_there(daemon: Daemon, file: Path, wrong: tuple[str, ...]) -> None:
    done = _run(daemon, "fill", *wrong, str(file))
    assert done.returncode == 2
    assert wrong[-2] in done.stderr
