"""`.sessiond.toml`: what is obeyed, and that a faulty one is not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.daemon.workspace.beneath import open_root
from sessiond.daemon.workspace.config import MAX_BYTES, MAX_DOTS, Config, MapConfig, parse_config, read_config
from sessiond.daemon.workspace.segment import LeftOut


def _read(root: Path) -> tuple[Config, LeftOut | None]:
    with open_root(root) as root_fd:
        return read_config(root_fd)


def _fault(root: Path, content: bytes) -> str:
    """What is told of a configuration that is not obeyed."""
    (root / ".sessiond.toml").write_bytes(content)
    config, left_out = _read(root)
    assert config == Config()
    assert left_out is not None
    assert (left_out.path, left_out.reason) == (".sessiond.toml", "config")
    assert len(left_out.detail) < 250
    assert left_out.detail.isprintable()
    return left_out.detail


def test_no_file_is_the_default(tmp_path: Path) -> None:
    assert _read(tmp_path) == (Config(), None)
    (tmp_path / ".sessiond.toml").write_text("")
    assert _read(tmp_path) == (Config(), None)


def test_every_key(tmp_path: Path) -> None:
    (tmp_path / ".sessiond.toml").write_text("""
        include = ["src/", "# of files"]
        exclude = ["*.log", "!keep.log"]
        pinned = ["src/a.py"]
        instructions = "docs/AI.md"
        budget = 100
        order = "path"
        map.enabled = true
        map.tokens = 7
    """)
    expected = Config(
        include=("src/", "# of files"),
        exclude=("*.log", "!keep.log"),
        pinned=("src/a.py",),
        instructions="docs/AI.md",
        budget=100,
        order="path",
        map=MapConfig(enabled=True, tokens=7),
    )
    assert _read(tmp_path) == (expected, None)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("pined = []", "pined"),
        ("map.on = true", "on"),
        ("[map.enabled]", "map.enabled"),
        ("map = true", "map"),
        ("include = 'src'", "include"),
        ("exclude = [1]", "exclude"),
        (f"include = {['x'] * 1_000}", "include"),
        ('exclude = ["a\\nb"]', "exclude"),
        ('include = ["a\\u0000b"]', "include"),
        ("pinned = ['/etc/passwd']", "pinned"),
        ("pinned = ['a', '../b']", "pinned"),
        ("pinned = ['a//b']", "pinned"),
        ("instructions = ''", "instructions"),
        ("instructions = 'a/../../b'", "instructions"),
        ('instructions = "a\\u0000"', "instructions"),
        ("budget = 0", "budget"),
        ("budget = 1.5", "budget"),
        ("budget = true", "budget"),
        ("map.tokens = -1", "map.tokens"),
        ("order = 'random'", "order"),
    ],
)
def test_a_fault_is_told_by_its_key(tmp_path: Path, content: str, key: str) -> None:
    assert key in _fault(tmp_path, f"{content}\n".encode())


def test_with_one_fault_nothing_is_obeyed(tmp_path: Path) -> None:
    assert "`pined`" in _fault(tmp_path, b"budget = 5\norder = 'path'\npined = ['a']\n")


@pytest.mark.parametrize(
    "content",
    [
        b"\xff",
        b"include = [",
        b"a = " + b"[" * 8_000,
        b"a = " + b"9" * 8_000,
        b"a = 1979-99-99",
        b"x" * (MAX_BYTES + 1),
        b"a." * MAX_DOTS + b"a.a = 1",
        b'"\\u001b[2J\\u202e" = 1',
        b'"' + b"k" * 8_000 + b'" = 1',
    ],
)
def test_what_is_no_configuration_at_all(tmp_path: Path, content: bytes) -> None:
    _fault(tmp_path, content)


def test_a_secret_in_it_is_not_told(tmp_path: Path, planted_secrets: list[str]) -> None:
    for secret in planted_secrets:
        contents = (f"order = '{secret}'", f"budget = '{secret}'", f"'{secret}' = 1", f"map.'{secret}' = 1")
        told = [_fault(tmp_path, content.encode()) for content in contents]
        assert not any(secret[12:] in each for each in told)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / ".sessiond.toml"
    (tmp_path / "real.toml").write_text("budget = 1\n")
    makers: list[Callable[[], None]] = [
        lambda: path.symlink_to("real.toml"),
        lambda: os.mkfifo(path),
        path.mkdir,
    ]
    for make in makers:
        make()
        config, left_out = _read(tmp_path)
        assert config == Config()
        assert left_out is not None and left_out.reason == "config"
        path.rmdir() if path.is_dir() else path.unlink()


@given(content=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode())))
def test_any_bytes_are_obeyed_or_refused(content: bytes) -> None:
    with contextlib.suppress(ValueError, RecursionError):
        assert isinstance(parse_config(content), Config)


def test_the_budget_only_lowers() -> None:
    assert Config().room(100) == 100
    assert Config(budget=40).room(100) == 40
    assert Config(budget=400).room(100) == 100
    assert Config(budget=400).room(-1) == -1


def test_the_map_has_an_eighth_at_most() -> None:
    assert Config().map_room(800) == 0
    assert Config(map=MapConfig(enabled=True)).map_room(800) == 100
    assert Config(map=MapConfig(enabled=True, tokens=30)).map_room(800) == 30
    assert Config(map=MapConfig(enabled=True, tokens=3_000)).map_room(800) == 100
    assert Config(map=MapConfig(enabled=True)).map_room(-8) == 0
