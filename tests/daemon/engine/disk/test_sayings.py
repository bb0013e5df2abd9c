"""What is said is a line, and seldom."""

from __future__ import annotations

from sessiond.daemon.engine.disk.sayings import MOST, Sayings


def test_a_kind_is_said_once_and_then_how_often() -> None:
    said: list[str] = []
    sayings = Sayings(said.append, 1e9)
    for _ in range(3):
        sayings.say("write", "it failed")
    sayings.say("read", "it failed too")
    assert said == ["disk tier: it failed", "disk tier: it failed too"]
    sayings._every_s = 0.0
    sayings.say("write", "it failed")
    assert said[-1] == "disk tier: it failed (and 2 like it before)"


def test_what_a_file_says_cannot_make_a_second_line() -> None:
    said: list[str] = []
    Sayings(said.append).say("index", "malformed\nERROR all is lost\x1b[2J" + "x" * MOST)
    assert said[0].isprintable() and len(said[0]) <= MOST + len("disk tier: ")
    assert said[0].startswith("disk tier: malformed?ERROR")
