"""Whose KV it is: what we sealed, for the workspace that we sealed it for, and nothing else."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from sessiond.daemon.sessions.snapshot import seal as sealing
from sessiond.daemon.sessions.snapshot.format import NOBODY
from sessiond.daemon.sessions.snapshot.seal import KEY_BYTES, Seal

SUM, OTHER = b"s" * 32, b"o" * 32


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "snapshot.key"


def test_a_seal_is_known_again_after_a_restart(key: Path) -> None:
    seal = Seal(key).of(SUM, "/w")
    assert Seal(key).is_ours(seal, SUM, "/w")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert [each.name for each in key.parent.iterdir()] == [key.name]


def test_a_seal_holds_for_one_file_and_one_workspace(key: Path) -> None:
    ours = Seal(key)
    seal = ours.of(SUM, "/w")
    assert not ours.is_ours(seal, OTHER, "/w")
    assert not ours.is_ours(seal, SUM, "/v")
    assert not ours.is_ours(seal, SUM, "")
    assert not ours.is_ours(NOBODY, SUM, "/w")


def test_another_daemon_does_not_know_it(key: Path, tmp_path: Path) -> None:
    assert not Seal(tmp_path / "other.key").is_ours(Seal(key).of(SUM, ""), SUM, "")


def test_a_workspace_whose_name_is_no_text_can_be_sealed_for(key: Path) -> None:
    assert Seal(key).is_ours(Seal(key).of(SUM, "/\udcff"), SUM, "/\udcff")


@pytest.mark.parametrize("path", [None, Path("/nowhere/at/all/snapshot.key")], ids=["none", "no folder"])
def test_without_a_key_nothing_is_ours(path: Path | None) -> None:
    seal = Seal(path)
    assert seal.of(SUM, "") == NOBODY
    assert not seal.is_ours(NOBODY, SUM, "")


@pytest.mark.parametrize("spoilt", [b"", b"short", bytes(KEY_BYTES + 1)])
def test_a_spoilt_key_is_made_anew(key: Path, spoilt: bytes) -> None:
    key.write_bytes(spoilt)
    key.chmod(0o600)
    assert Seal(key).is_ours(Seal(key).of(SUM, ""), SUM, "")
    assert len(key.read_bytes()) == KEY_BYTES


def test_a_key_that_others_could_read_is_made_anew(key: Path) -> None:
    seal = Seal(key).of(SUM, "")
    key.chmod(0o644)
    assert not Seal(key).is_ours(seal, SUM, "")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


def test_a_link_is_no_key(key: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(bytes(KEY_BYTES))
    (tmp_path / "theirs").chmod(0o600)
    key.symlink_to("theirs")
    assert Seal(key).of(SUM, "") == NOBODY


def test_who_makes_a_key_second_takes_the_first(key: Path) -> None:
    """Both had found none: what was sealed under another one, nobody would know again."""
    first = sealing._made(key)
    assert sealing._made(key) == first == key.read_bytes()
    assert [each.name for each in key.parent.iterdir()] == [key.name]
