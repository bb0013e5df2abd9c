"""`gen-proto --check` and `buf breaking` have to fail where they should: a check that cannot fail guards nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv" / "bin"
FOLDER = "proto/sessiond/v1"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the contract and its scripts, to break."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def check(copy: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "SESSIOND_VENV_BIN": str(BIN)}
    return subprocess.run(
        [copy / "scripts/gen-proto", "--check"], env=environ, capture_output=True, text=True, check=False
    )


def stubs(copy: Path) -> Iterator[Path]:
    return (copy / FOLDER).glob("*_pb2.py")


def test_committed_stubs_pass(copy: Path) -> None:
    done = check(copy)
    assert done.returncode == 0, done.stderr


def test_a_stale_stub_fails(copy: Path) -> None:
    stub = next(stubs(copy))
    stub.write_text(stub.read_text() + "# edited by hand\n")
    done = check(copy)
    assert done.returncode == 1
    assert f"stale: {FOLDER}/{stub.name}" in done.stderr


def test_a_missing_stub_fails(copy: Path) -> None:
    stub = next(stubs(copy))
    stub.unlink()
    done = check(copy)
    assert done.returncode == 1
    assert f"missing: {FOLDER}/{stub.name}" in done.stderr


def test_a_stub_without_its_proto_fails(copy: Path) -> None:
    (copy / FOLDER / "gone_pb2.py").write_text("")
    done = check(copy)
    assert done.returncode == 1
    assert f"left over: {FOLDER}/gone_pb2.py" in done.stderr


def test_a_contract_that_grew_unrecorded_fails(copy: Path) -> None:
    grown = copy / FOLDER / "session_service.proto"
    grown.write_text(grown.read_text() + "\n// A message that nobody recorded.\nmessage Unrecorded {}\n")
    done = check(copy)
    assert done.returncode == 1
    assert "stale: proto/contract.binpb" in done.stderr


def test_a_renamed_field_breaks_the_contract(copy: Path) -> None:
    changed = [path for path in (copy / FOLDER).glob("*.proto") if "prefilled_tokens" in path.read_text()]
    assert changed
    for path in changed:
        path.write_text(path.read_text().replace("prefilled_tokens", "renamed_tokens"))
    against = ROOT / "proto" / "contract.binpb"
    done = subprocess.run(
        [BIN / "buf", "breaking", "--against", against], cwd=copy, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "prefilled_tokens" in done.stdout
