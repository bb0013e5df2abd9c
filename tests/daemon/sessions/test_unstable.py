"""A place that breaks the prefix at every turn is named, with what it costs; an edit is not."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from structlog.testing import capture_logs
from tests.daemon.engine.scripted import load
from tests.daemon.engine.tree_facts import common
from tests.daemon.sessions.conftest import Opener

from sessiond.adapters.base import ContextSettings, ModelSettings
from sessiond.daemon.sessions.manifest import identify
from sessiond.daemon.sessions.miss import Miss, explain_miss
from sessiond.daemon.sessions.prefix import Prefix, _join, empty_prefix
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.statuses import Timings
from sessiond.daemon.sessions.unstable import Instability
from sessiond.daemon.workspace.segment import Segment

_MODEL = load("scripted-kv:")
_IDENTITY = identify(_MODEL.facts, ModelSettings(), ContextSettings(), "raw", "", disable_bos=True)
_CODE = "".join(f"line {i} of a file that nobody edits\n" for i in range(20))


def _prefix(**texts: str) -> Prefix:
    segments = [Segment(name, "text", text) for name, text in texts.items()]
    runs = [tuple(_MODEL.tokenize(text, parse_special=False)) for text in texts.values()]
    return _join(_IDENTITY, segments, runs, ())


class _Turns:
    """One session's prefixes, one after the other: what is reused is what the last one shares."""

    def __init__(self) -> None:
        self.instability = Instability("sessions/x")
        self.last = empty_prefix(_IDENTITY)

    def take(self, new: Prefix) -> Miss | None:
        reused = common(self.last.tokens, new.tokens)
        miss = explain_miss(self.last, new, reused, len(new.tokens) - reused)
        told = self.instability.heard(miss, self.last, new)
        self.last = new
        return told

    def take_all(self, prefixes: Iterable[Prefix]) -> list[str]:
        """The messages."""
        misses = [self.take(prefix) for prefix in prefixes]
        return ["" if miss is None else miss.message for miss in misses]


def _named(messages: list[str]) -> list[bool]:
    return ["this place" in message for message in messages]


def _clock(second: int, **more: str) -> Prefix:
    return _prefix(rules=f"Be kind. It is 10:41:{second:02}. Be brief.\n", code=_CODE, **more)


def _cost_of_a_clock() -> tuple[int, int]:
    """What each turn costs, and the token it begins with."""
    begun = common(_clock(1).tokens, _clock(2).tokens)
    return len(_clock(1).tokens) - begun, begun


def test_a_clock_is_named_from_the_third_time_on() -> None:
    turns = _Turns()
    messages = turns.take_all(_clock(second) for second in range(1, 7))
    assert _named(messages) == [False, False, False, True, True, True]
    cost, begun = _cost_of_a_clock()
    assert messages[-1] == (
        f"rules changed at byte 22; {cost} tokens were computed, from token {begun} on; this place, a date or time, "
        'changed in 4 of the last 4 turns ("10:41:05" became "10:41:06"), '
        f"which has cost {5 * cost} tokens: keep it out of the prefix, or put it last"
    )
    assert "3 of the last 3 turns" in messages[3] and f"cost {3 * cost} tokens" in messages[3]


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["turn 8", "turn 9", "turn 10", "turn 11"], "this place, a counter,"),
        (["id 8f3a9c1d", "id 01bc9e77", "id ed421c4f", "id 5e0d7a21"], "this place, an id,"),
        (["on 2026-11-21 23:58", "on 2026-11-21 23:59", "on 2026-11-22 00:01", "on 2026-11-22 00:02"], "a date or time"),
        (["state: red", "state: blue", "state: gold", "state: pink"], "this place changed"),
        (["count 3", "count 9", "count 2", "count 7"], "this place changed"),
    ],
)  # fmt: skip
def test_it_is_called_what_it_plainly_is(texts: list[str], kind: str) -> None:
    messages = _Turns().take_all(_prefix(rules=f"{text}\nBe brief.\n", code=_CODE) for text in texts)
    assert _named(messages) == [False, False, False, True]
    assert kind in messages[-1]


def test_turns_that_change_nothing_do_not_count() -> None:
    turns = _Turns()
    messages = turns.take_all(_clock(i // 3) for i in range(12))
    assert _named(messages[::3]) == [False, False, False, True]
    assert not any(messages[i] for i in range(12) if i % 3)


def test_three_of_four_are_enough_and_two_are_not() -> None:
    def edited(second: int) -> Prefix:
        return _prefix(rules=f"Be kind. It is 10:41:{second:02}. Be brief.\n", code=f"edited\n{_CODE}")

    turns = _Turns()
    messages = turns.take_all([_clock(0), _clock(1), _clock(2), edited(2), edited(3)])
    assert _named(messages) == [False, False, False, False, True]
    assert "3 of the last 4 turns" in messages[-1]
    messages = turns.take_all([_clock(3), _clock(4), edited(4), edited(5), _clock(5)])
    assert not any(_named(messages))


def test_a_clock_is_named_also_where_other_things_are_edited() -> None:
    """Most of what is computed for it is the same text, in another segment or in its own."""
    turns = _Turns()
    messages = turns.take_all(_clock(i, note=f"edit {i * i}\n") for i in range(4))
    assert _named(messages)[-1]
    texts = (f"It is 10:41:0{i}.\n{_CODE}edit {'x' * i}\n{_CODE}" for i in range(4))
    messages = _Turns().take_all(_prefix(text=text) for text in texts)
    assert '"10:41:02" became "10:41:03"' in messages[-1]


def test_several_files_that_change_at_once_are_an_edit() -> None:
    for count in range(2, 5):
        turns = _Turns()
        versions = (
            _prefix(**{f"f{n}": f"version {version}\n" + _CODE for n in range(count)}) for version in range(8)
        )
        assert not any(_named(turns.take_all(versions)))


def test_edits_of_one_file_here_and_there_are_edits() -> None:
    lines = _CODE.splitlines(keepends=True)
    versions = [
        _prefix(a="".join([*lines[:at], f"{at} was edited\n", *lines[at + 1 :]]), b=_CODE)
        for at in (3, 15, 7, 1, 12, 5, 18)
    ]
    assert not any(_named(_Turns().take_all(versions)))


def test_text_that_is_being_written_is_an_edit() -> None:
    text = "def total(items):\n    return sum(item.price for item in items)\n"
    versions = [_prefix(a=f"import os\n{text[:at]}\n{_CODE}", b=_CODE) for at in range(10, 50, 4)]
    assert not any(_named(_Turns().take_all(versions)))


def test_what_stands_last_is_where_it_belongs() -> None:
    versions = [_prefix(code=_CODE, now=f"It is 10:41:0{i}.") for i in range(8)]
    assert not any(_named(_Turns().take_all(versions)))


def test_other_causes_are_left_alone() -> None:
    turns = _Turns()
    same = _clock(1)
    turns.take_all([same, _clock(2), _clock(3)])
    evicted = explain_miss(turns.last, turns.last, 5, 30)
    assert evicted is not None and evicted.cause == "evicted"
    assert turns.instability.heard(evicted, turns.last, turns.last) is evicted
    messages = turns.take_all([_prefix(new="N", code=_CODE), _prefix(code=_CODE), _prefix(), same])
    assert not any(_named(messages))


def test_what_is_remembered_is_bounded() -> None:
    turns = _Turns()
    turns.take_all(_prefix(a=f"{'x' * 10_000}{i}", b=_CODE * 100) for i in range(20))
    assert len(turns.instability._recent) == 4
    assert sum(len(repr(broke)) for broke in turns.instability._recent) < 4000


def test_hostile_text_breaks_no_message() -> None:
    for nasty in ("\x1b[2J\x07", '"\n\r"', "\u202e\u2066", "\x00" * 5000, "😒" * 5000, "9" * 5000):
        turns = _Turns()
        messages = turns.take_all(_prefix(a=f"{i}{nasty}{i}\n", b="same\n" * 2_000) for i in range(5))
        assert _named(messages)[-1]
        assert all(message.isprintable() and len(message) < 3000 for message in messages)


def test_the_log_is_told_and_not_at_every_turn() -> None:
    with capture_logs() as logs:
        _Turns().take_all(_clock(second) for second in range(40))
    assert {entry["event"] for entry in logs} == {"prefix.unstable"}
    assert 1 < len(logs) < 8
    cost, _ = _cost_of_a_clock()
    assert logs[0] == {
        "event": "prefix.unstable", "log_level": "warning", "session": "sessions/x", "segment": "rules",
        "offset": 22, "kind": "a date or time", "before": "10:41:02", "after": "10:41:03", "cost_tokens": 3 * cost,
    }  # fmt: skip


async def test_a_session_says_so(opened: Opener) -> None:
    session = await opened(prompt_format="raw")

    async def ask(turn: int) -> str:
        texts = {"rules": f"Turn {turn}. Be brief.", "code": "x" * 200}
        segments = tuple(Segment(name, "text", text) for name, text in texts.items())
        await session.ensure_prefix(PrefixRequest(segments), Timings())
        miss = session.report().last_miss
        return "" if miss is None else miss.message

    messages = [await ask(turn) for turn in range(1, 6)]
    assert _named(messages) == [False, False, False, True, True]
    assert 'this place, a counter, changed in 4 of the last 4 turns ("4" became "5")' in messages[-1]
