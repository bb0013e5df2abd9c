"""Prompts are values: joined, compared, never changed; and what is none is refused before anybody is asked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sessiond.client import InvalidInput, Piece, Prompt
from sessiond.client.prompts.turn import Turn, planned
from sessiond.v1.context_pb2 import SUFFIX_MODE_REPLACE

BASE = Prompt("base") + Prompt("text", path="a.py")


def test_joining_makes_a_prompt_of_all_pieces_in_order() -> None:
    assert (BASE + "q").pieces == (Piece("base"), Piece("text", "a.py"), Piece("q"))
    assert ("q" + BASE).pieces == (Piece("q"), Piece("base"), Piece("text", "a.py"))
    assert str("q" + BASE) == "qbasetext"


def test_joining_changes_neither_side() -> None:
    before = BASE.pieces
    joined = BASE
    joined += "more"
    assert BASE.pieces == before and joined.pieces == (*before, Piece("more"))


def test_joining_is_associative_and_an_empty_text_is_nothing() -> None:
    one, two, three = Prompt("1"), Prompt("2"), Prompt("3")
    assert (one + two) + three == one + (two + three)
    assert hash((one + two) + three) == hash(one + (two + three))
    assert "" + one + "" == one == Prompt() + one + Prompt("")
    assert Prompt().pieces == ()


def test_equal_texts_in_other_pieces_are_another_prompt() -> None:
    assert Prompt("ab") + "c" != Prompt("a") + "bc"
    assert Prompt("a") != Prompt("a", path="x") and Prompt("a") != Prompt.user("a")


def test_what_is_no_text_cannot_be_joined() -> None:
    with pytest.raises(TypeError):
        _ = BASE + 3  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue] - what is tested


def test_its_beginnings_are_its_nodes() -> None:
    assert list((BASE + "q").beginnings()) == [Prompt("base"), BASE, BASE + "q"]


@pytest.mark.parametrize(
    "prompt", [Prompt(), BASE, Prompt("x" * 1000), Prompt.user("hi") + Prompt.assistant("ho")]
)
def test_its_repr_says_what_it_is(prompt: Prompt) -> None:
    shown = repr(prompt)
    assert len(shown) < 200
    if "…" not in shown:
        assert eval(shown) == prompt


def test_a_file_is_read_once_and_keeps_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.py").write_text("größe = 1\r\n", newline="")
    told = Prompt.file("sub/a.py")
    (tmp_path / "sub" / "a.py").write_text("changed")
    assert told.pieces == (Piece("größe = 1\r\n", "sub/a.py"),)
    assert Prompt.file(tmp_path / "sub" / "a.py").pieces[0].path == "a.py"
    assert Prompt.file("sub/../sub/a.py").pieces[0].path == "a.py"
    assert Prompt.file("sub/a.py", name="other").pieces[0].path == "other"


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput) as caught:
        Prompt.file(tmp_path / "a.bin")
    assert caught.value.violations[0].field == "path"
    with pytest.raises(FileNotFoundError):
        Prompt.file(tmp_path / "none")


def test_a_role_that_is_none() -> None:
    with pytest.raises(InvalidInput):
        Prompt.message("robot", "x")


def test_what_is_asked_is_the_last_piece() -> None:
    turn = Turn(BASE + "q")
    assert [(piece.text, piece.path) for piece in turn.prefix.segments.segments] == [
        ("base", ""),
        ("text", "a.py"),
    ]
    assert len({piece.id for piece in turn.prefix.segments.segments}) == 2
    assert [(said.role, said.content) for said in turn.suffix.messages.messages] == [("user", "q")]
    assert turn.suffix.mode == SUFFIX_MODE_REPLACE


def test_one_piece_is_asked_after_an_empty_prefix() -> None:
    turn = Turn(Prompt("q"))
    assert turn.prefix.WhichOneof("source") == "segments" and not turn.prefix.segments.segments
    assert [said.content for said in turn.suffix.messages.messages] == ["q"]


def test_messages_stand_after_what_is_nobodys() -> None:
    turn = Turn(BASE + Prompt.user("a") + Prompt.assistant("b") + "c")
    assert len(turn.prefix.segments.segments) == 2
    assert [(said.role, said.content) for said in turn.suffix.messages.messages] == [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "c"),
    ]


WRONG: dict[str, tuple[Any, str]] = {
    "an empty one": ([BASE, Prompt()], "prompts[1]"),
    "an empty text": ([""], "prompts[0]"),
    "a text between messages": ([Prompt.user("a") + "b" + Prompt.user("c")], "prompts[0]"),
    "no list": (BASE, "prompts"),
    "no list but a text": ("base", "prompts"),
    "no Unicode": ([Prompt("\ud800") + "q"], "text"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_prompt_is_named(what: str) -> None:
    prompts, field = WRONG[what]
    with pytest.raises(InvalidInput) as caught:
        planned(prompts, raw=False)
    assert caught.value.violations[0].field == field


def test_roles_part_the_ways_only_where_they_make_a_difference() -> None:
    prompts: list[Prompt | str] = [BASE, "x", BASE + "q"]
    assert [turn.index for turn in planned(prompts, raw=True)] == [0, 2, 1]
    # Under a format with messages, the file is what is asked in the first one, and not in the third.
    assert [turn.index for turn in planned([*prompts, BASE], raw=False)] == [0, 3, 2, 1]


def test_building_one_loads_no_grpc() -> None:
    code = (
        "from sessiond.client.prompts.prompt import Prompt; Prompt('a') + 'b'\n"
        "import sys; sys.exit('grpc' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
