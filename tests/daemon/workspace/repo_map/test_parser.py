"""A parser in a process of its own, over texts that kill it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessiond.daemon.workspace.repo_map import frames
from sessiond.daemon.workspace.repo_map.definitions import Outline, outline
from sessiond.daemon.workspace.repo_map.languages import LANGUAGES
from sessiond.daemon.workspace.repo_map.parser import Parser

_GIVEN_UP = Outline(given_up=True)
_EXECUTABLE = "sessiond.daemon.workspace.repo_map.parser.sys.executable"


@pytest.fixture(scope="module")
def shared() -> Iterator[Parser]:
    with Parser() as parser:
        yield parser


def _pid(parser: Parser) -> int:
    assert parser._process is not None
    return parser._process.pid


def test_it_answers_as_the_function_does(shared: Parser) -> None:
    source = b"class K(B):\n    def m(self): f()\n"
    assert shared.outline("python", source) == outline("python", source)
    assert shared.outline("python", b"") == Outline()
    assert shared.outline("python", b"x = 1\n" * 40_000) == Outline()


def test_one_process_serves_many_texts(shared: Parser) -> None:
    shared.outline("go", b"")
    first = _pid(shared)
    for language in LANGUAGES:
        shared.outline(language, b"int f(int a) { return a; }")
    assert _pid(shared) == first


def test_a_text_that_takes_hours_is_given_up(shared: Parser) -> None:
    assert shared.outline("c", b"x=>" * 10_000) == _GIVEN_UP
    assert shared.outline("c", b"int f(void);").definitions[0].name == "f"


@pytest.mark.parametrize("language", LANGUAGES)
def test_deep_nests_end(shared: Parser, language: str) -> None:
    for piece in (b"(", b"class A{", b"<", b"!"):
        found = shared.outline(language, piece * 5_000)
        assert found.given_up or len(found.definitions) < 10


def test_after_its_process_was_killed_the_next_text_is_parsed() -> None:
    with Parser() as parser:
        parser.outline("python", b"")
        os.kill(_pid(parser), signal.SIGKILL)
        assert parser.outline("python", b"def f(): pass" + b"\n" * 200_000) == _GIVEN_UP
        assert parser.outline("python", b"def f(): pass").definitions


def test_no_process_is_left_behind() -> None:
    with Parser() as parser:
        parser.outline("python", b"")
        pid = _pid(parser)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with Parser() as unused:
        pass
    assert unused._process is None


def test_nothing_is_imported_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tree_sitter", "sessiond", "msgspec"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    with Parser() as parser:
        assert parser.outline("python", b"def f(): pass").definitions
    assert not (tmp_path / "ran").exists()


def test_an_answer_that_is_none_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    liar, python = tmp_path / "liar", sys.executable
    answers = [b"", b"\x00", b"\xff\xff\xff\xff", b"\x01\x00\x00\x00\xc0", b"\x02\x00\x00\x00{}"]
    for answer in answers:
        liar.write_text(f"#!{python}\nimport os, sys\nos.write(1, {answer!r})\nsys.stdin.buffer.read(9)\n")
        liar.chmod(0o700)
        monkeypatch.setattr(_EXECUTABLE, str(liar))
        with Parser() as parser:
            assert parser.outline("python", b"def f(): pass") == _GIVEN_UP


def test_without_a_process_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_EXECUTABLE, "/nowhere/python")
    with Parser() as parser, pytest.raises(FileNotFoundError):
        parser.outline("python", b"")


def test_frames_pass_unchanged(tmp_path: Path) -> None:
    message = Outline(outline("python", b"class K:\n  def m(self): f()\n").definitions, frozenset({"é", "b"}))
    with (tmp_path / "pipe").open("w+b") as pipe:
        frames.write_frame(pipe, message)
        pipe.seek(0)
        assert frames.read_frame(pipe, Outline) == message
        with pytest.raises(EOFError):
            frames.read_frame(pipe, Outline)
