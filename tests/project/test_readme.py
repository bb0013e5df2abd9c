"""What the README tells people to do works, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.client import Client
from sessiond.client.daemon_process import ensure_running

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[list[str]]:
    return [shlex.split(line[2:], comments=True) for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """An environment in which a scripted daemon runs."""
    folder = Path(tempfile.mkdtemp(prefix="sd-"))
    for name in [name for name in os.environ if name.startswith("SESSIOND_")]:
        monkeypatch.delenv(name)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR", "HOME"):
        (folder / name.lower()).mkdir(mode=0o700)
        monkeypatch.setenv(name, str(folder / name.lower()))
    monkeypatch.setenv("SESSIOND_SOCKET", str(folder / "d.sock"))
    monkeypatch.setenv("SESSIOND_MODEL", "scripted-kv:")
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    with Client() as client:
        ensure_running(client)
    yield dict(os.environ)
    subprocess.run([BIN / "sessionctl", "stop"], check=False, capture_output=True)
    shutil.rmtree(folder)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text("print('a project')\n")
    return tmp_path


def test_the_python_example_runs(environ: dict[str, str], project: Path) -> None:
    [example] = blocks("python")
    done = subprocess.run(
        [sys.executable, "-c", example], env=environ, cwd=project, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = re.search(r"\n(\d+) of (\d+) tokens were still there\n", done.stdout)
    assert found is not None
    assert found[1] == found[2] != "0"
    assert done.stdout.splitlines()[-1].endswith(" main.py")


def test_the_commands_for_a_terminal_run_in_their_order(environ: dict[str, str], project: Path) -> None:
    [listed] = [told for block in blocks("console") if (told := commands(block))[0][0] == "sessionctl"]
    assert listed[-1] == ["sessionctl", "stop"]
    for command in listed:
        done = subprocess.run(
            command, env=environ, cwd=project, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, (command, done.stderr)


def test_the_two_commands_stand_in_the_repository() -> None:
    [listed] = [told for block in blocks("console") if (told := commands(block))[0][0].startswith("./")]
    assert [command[0] for command in listed] == ["./scripts/demo", "./scripts/test"]
    assert all(os.access(ROOT / command[0], os.X_OK) for command in listed)


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/architecture.md"])
def test_links_lead_to_files(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if not link.startswith(("https://", "#")):
            assert (ROOT / page).parent.joinpath(link.partition("#")[0]).exists(), link


def test_files_that_the_architecture_names_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    homes = [ROOT, ROOT / "daemon/sessiond/daemon", ROOT / "client/sessiond/client"]
    homes += [ROOT / "daemon/sessiond/daemon/workspace", ROOT / "client/sessiond/client/cli"]
    longer = {"adapters/…/": "adapters/sessiond/adapters/", "client/…/": "client/sessiond/client/"}
    for name in set(re.findall(r"`([\w./…-]+\.(?:py|toml))`", text)):
        for short, long in longer.items():
            name = name.replace(short, long)  # noqa: PLW2901 - the same name, written out
        assert any((home / name).exists() for home in homes), name
