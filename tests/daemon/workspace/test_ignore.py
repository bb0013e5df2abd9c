"""Ignore rules mean what git means by them: git itself is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sessiond.daemon.workspace.beneath import open_root
from sessiond.daemon.workspace.ignore import IgnoreFile
from sessiond.daemon.workspace.select import select
from sessiond.daemon.workspace.wildmatch import compile_wildcards

_ENV = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}

_NAMES = [
    "a",
    "b",
    "ab",
    "aa",
    "a.b",
    "ba.a",
    "-",
    "]",
    "[",
    "a]",
    "é",
    "a b",
    "b ",
    "#a",
    "!a",
    "A",
    "a-b",
    "\\",
    "*",
    "0",
]
_FOLDERS = ["", "a/", "b/", "ab/", "a/a/", "a/b/", "b/a/", "a/b/a/", "é/", "a b/", "x/", "x/a/", "x/a/b/"]

_PIECES = [
    *(
        "a",
        "b",
        "ab",
        ".",
        "-",
        "é",
        " ",
        "0",
        "A",
        "x",
        "#",
        "!",
        "\\",
        "/",
        "//",
        "\r",
        "\\ ",
        "\\/",
        "\\!",
    ),
    *("*", "**", "***", "?", "**/", "/**", "/**/", "*/", "/*", "a/", "/a", "*a", "a*", "**a", "a**"),
    *(
        "[ab]",
        "[!a]",
        "[^b]",
        "[a-b]",
        "[]a]",
        "[!]]",
        "[a-]",
        "[-a]",
        "[\\]]",
        "[a/b]",
        "[",
        "]",
        "[/]",
        "[b-a]",
    ),
    *("[[:alpha:]]", "[[:digit:]]", "[[:space:]]", "[[:punct:]]", "[[:nope:]]", "[[:]", "[[a]", "[\\a-b]"),
]
_lines = st.lists(st.sampled_from(_PIECES), min_size=1, max_size=6).map("".join)
_free = st.text(st.sampled_from("ab*?[]!\\/-^: .x"), max_size=12)
_ignore_files = st.lists(_lines | _free | st.just("*") | st.just("!*/"), max_size=4).map("\n".join)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", str(root)], check=True, env=_ENV)
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in _NAMES:
            if not (root / folder / name).is_dir() and f"{folder}{name}/" not in _FOLDERS:
                (root / folder / name).write_text("x")
    yield root
    shutil.rmtree(root)


def _as_git(root: Path) -> list[str]:
    command = ["git", "-C", str(root), "ls-files", "-z", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, env=_ENV).stdout
    return sorted((os.fsdecode(path) for path in listed.split(b"\0") if path), key=os.fsencode)


def _as_we(root: Path) -> list[str]:
    with open_root(root) as root_fd:
        return list(select(root_fd, root).files)


@settings(max_examples=400, deadline=None)
@given(top=_ignore_files, nested=_ignore_files, deep=_ignore_files, exclude=_ignore_files)
@example(top="a**/b", nested="", deep="", exclude="")
@example(top="/a[!b]b\n/x[^q]a", nested="", deep="", exclude="")
@example(top="*\n!*/\n!a.b", nested="!a", deep="*", exclude="x")
@example(top="x/\n!x/a", nested="/a/**\n!/a/b", deep="!b", exclude="*.b")
@example(top="/x/*\n!/x/a/\nx/a/**/b", nested="\\#a\n\\!a\n#a\nb\\ \nab ", deep="[[:alpha:]]", exclude="")
def test_generated_trees_agree_with_git(
    repository: Path, top: str, nested: str, deep: str, exclude: str
) -> None:
    for path, content in {
        ".gitignore": top,
        "a/.gitignore": nested,
        "a/b/.gitignore": deep,
        ".git/info/exclude": exclude,
    }.items():
        (repository / path).write_bytes(content.encode())
    assert _as_we(repository) == _as_git(repository)


@settings(max_examples=1500, deadline=None)
@given(pattern=_lines | _free, path=st.text(st.sampled_from("ab/.-]é"), min_size=1, max_size=9))
def test_whole_path_patterns_agree_with_a_plain_matcher(pattern: str, path: str) -> None:
    """The expression with its atomic groups finds what a search that tries everything finds."""
    compiled = compile_wildcards(pattern.encode())
    if compiled is not None and not any(char in pattern for char in "[\\"):
        assert (compiled.fullmatch(path.encode()) is not None) == _plain(pattern.encode(), path.encode())


def _plain(pattern: bytes, text: bytes, *, part_start: bool = True) -> bool:
    """The wildcards without brackets and backslashes, as their definition reads."""
    if not pattern:
        return not text
    first, rest = pattern[:1], pattern[1:]
    if first == b"*":
        rest = pattern.lstrip(b"*")
        if len(pattern) - len(rest) > 1 and part_start and rest[:1] in {b"", b"/"}:
            zero = rest[:1] == b"/" and _plain(rest[1:], text)
            return zero or any(_plain(rest, text[at:], part_start=False) for at in range(len(text) + 1))
        within = len(text.partition(b"/")[0])
        return any(_plain(rest, text[at:], part_start=False) for at in range(within + 1))
    matches = text[:1] == first or (first == b"?" and text[:1] not in {b"", b"/"})
    return matches and _plain(rest, text[1:], part_start=first == b"/")


@pytest.mark.parametrize(
    "pattern",
    [
        b"*a" * 60 + b"b",
        b"**/a" * 30 + b"/b",
        b"/" + b"*/" * 60 + b"b",
        b"**/*a*a*a*a*a*a*a*a/**/*a*a*a*a*a*ab",
        b"[a]*" * 50 + b"b",
        b"**/a/**/a/**/a/**/a/**/a/**/a/**/a/**/b",
    ],
)
def test_no_pattern_stalls(pattern: bytes) -> None:
    rules = IgnoreFile(b".gitignore", pattern)
    started = time.monotonic()
    for path in (b"a" * 4000, b"a/" * 2000 + b"a"):
        rules.verdict(path, is_folder=False)
    assert time.monotonic() - started < 5


def test_own_rules_stand_above_gits(tmp_path: Path) -> None:
    for name in ("kept", "dropped", "plain"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".gitignore").write_text("kept\n!dropped\n")
    (tmp_path / ".sessiondignore").write_text("!kept\ndropped\n.*ignore\n")
    assert _as_we(tmp_path) == ["kept", "plain"]


def test_an_ignored_folder_is_told_once_with_its_rule(tmp_path: Path) -> None:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    for number in range(20):
        (tmp_path / "out" / "deep" / str(number)).write_text("x")
    (tmp_path / ".gitignore").write_text("# built\n/out/\n")
    with open_root(tmp_path) as root_fd:
        left_out = select(root_fd, tmp_path).left_out
    assert [(entry.path, entry.reason, entry.detail) for entry in left_out] == [
        ("out", "ignored", ".gitignore:2: /out/")
    ]


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\xef\xbb\xbfa\n", b"\xff\xfe\n", b"a\0b\n", b"!\n/\n//\n\\\n["]
)
def test_odd_ignore_files_are_read(content: bytes) -> None:
    rules = IgnoreFile(b".gitignore", content)
    verdict = rules.verdict(b"a", is_folder=False)
    assert (verdict is not None) == (b"a" in content)
