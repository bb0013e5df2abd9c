"""The lock holds what pyproject.toml asks for. (That it is the newest answer needs the index: `scripts/lock`.)"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements" / "dev.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def direct_requirements() -> list[str]:
    project = PROJECT["project"]
    groups = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PROJECT["dependency-groups"].values(),
    ]
    return sorted({requirement for group in groups for requirement in group})


def locked_versions() -> dict[str, list[str]]:
    """All versions of each package: one that differs by Python version is there more than once."""
    versions: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)", LOCK, re.MULTILINE):
        versions.setdefault(canonicalize_name(name), []).append(version)
    return versions


@pytest.mark.parametrize("requirement", direct_requirements())
def test_what_the_project_asks_for_is_locked(requirement: str) -> None:
    wanted = Requirement(requirement)
    versions = locked_versions().get(canonicalize_name(wanted.name))
    assert versions, f"{wanted.name} is not locked: run scripts/lock"
    assert all(wanted.specifier.contains(version) for version in versions), f"{versions}: run scripts/lock"


def test_every_locked_package_has_hashes() -> None:
    entries = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert entries
    assert not [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry]


def test_the_lock_names_no_index() -> None:
    assert not re.search(r"://|--index-url|--extra-index-url|--find-links", LOCK)


def test_metadata_that_is_said_by_hand_is_that_of_the_locked_version() -> None:
    said = {entry["name"]: [entry["version"]] for entry in PROJECT["tool"]["uv"]["dependency-metadata"]}
    assert said == {name: locked_versions()[name] for name in said}


def test_what_builds_this_project_is_the_locked_version() -> None:
    constraints = [Requirement(text) for text in PROJECT["tool"]["uv"]["build-constraint-dependencies"]]
    locked = locked_versions()
    for constraint in constraints:
        for version in locked.get(canonicalize_name(constraint.name), []):
            assert constraint.specifier.contains(version)


def test_the_oldest_runtimes_allowed_can_load_the_stubs() -> None:
    folder = ROOT / "proto" / "sessiond" / "v1"
    messages = (folder / "config_pb2.py").read_text()
    services = (folder / "session_service_pb2_grpc.py").read_text()
    gencode = re.search(r"Domain\.PUBLIC,\s+(\d+),\s+(\d+),\s+(\d+),", messages)
    generator = re.search(r"GRPC_GENERATED_VERSION = '([^']+)'", services)
    assert gencode
    assert generator
    allowed = {
        requirement.name: requirement.specifier for requirement in map(Requirement, direct_requirements())
    }
    assert str(allowed["protobuf"]) == f">={'.'.join(gencode.groups())}"
    assert str(allowed["grpcio"]) == f">={generator[1]}"
