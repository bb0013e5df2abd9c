"""Why more could not be reused: the first token that differs, its segment, and what changed it."""

from __future__ import annotations

import pytest
from tests.daemon.engine.scripted import load
from tests.daemon.engine.tree_facts import common

from sessiond.adapters.base import ContextSettings, ModelSettings
from sessiond.daemon.sessions.difference import CONTEXT, EXCERPT
from sessiond.daemon.sessions.manifest import identify
from sessiond.daemon.sessions.miss import MOST_NAME, Miss, explain_miss
from sessiond.daemon.sessions.prefix import Prefix, _join, empty_prefix
from sessiond.daemon.workspace.segment import Segment

_MODEL = load("scripted-kv:")
_IDENTITY = identify(_MODEL.facts, ModelSettings(), ContextSettings(), "raw", "", disable_bos=True)


def _prefix(**texts: str) -> Prefix:
    segments = [Segment(name, "file", text, f"{name}.py") for name, text in texts.items()]
    runs = [tuple(_MODEL.tokenize(text, parse_special=False)) for text in texts.values()]
    return _join(_IDENTITY, segments, runs, ())


def _told(old: Prefix, new: Prefix, reused: int | None = None) -> Miss | None:
    reused = common(old.tokens, new.tokens) if reused is None else reused
    return explain_miss(old, new, reused, len(new.tokens) - reused)


def _miss(old: Prefix, new: Prefix, reused: int | None = None) -> Miss:
    told = _told(old, new, reused)
    assert told is not None
    assert told.cost_tokens == len(new.tokens) - told.token_index
    assert str(told.cost_tokens) in told.message
    return told


def test_nothing_computed_is_no_miss() -> None:
    same = _prefix(a="xyz")
    assert _told(same, same) is None
    assert _told(same, empty_prefix(_IDENTITY)) is None


def test_first_use() -> None:
    told = _miss(empty_prefix(_IDENTITY), _prefix(a="xyz"))
    assert (told.cause, told.token_index, told.segment_id) == ("first_use", 0, "a")


@pytest.mark.parametrize(
    ("was", "now", "offset"),
    [
        ("xyz", "xYz", 1),
        ("€€x", "€€y", 6),
        ("ab", "abc", 2),
        ("a😒b", "a😒c", 5),
        ("é", "è", 0),
        ("QQ" * 200 + "x", "QQ" * 200 + "y", 400),
    ],
)
def test_changed(was: str, now: str, offset: int) -> None:
    told = _miss(_prefix(first="qq", a=was, last="zz"), _prefix(first="qq", a=now, last="zz"))
    assert (told.cause, told.segment_id, told.path, told.byte_offset) == ("changed", "a", "a.py", offset)
    assert now.encode()[:offset] == was.encode()[:offset]
    assert told.before in was and told.after in now
    assert max(len(told.before), len(told.after)) <= EXCERPT + 2 * CONTEXT
    assert told.before != told.after
    assert f"byte {offset}" in told.message


def test_inserted() -> None:
    told = _miss(_prefix(a="AA", b="BB"), _prefix(a="AA", new="NN", b="BB"))
    assert (told.cause, told.segment_id, told.token_index) == ("inserted", "new", 2)


def test_inserted_at_the_end() -> None:
    told = _miss(_prefix(a="AA"), _prefix(a="AA", new="NN"))
    assert (told.cause, told.segment_id, told.token_index, told.cost_tokens) == ("inserted", "new", 2, 2)


def test_removed() -> None:
    told = _miss(_prefix(a="AA", gone="GG", b="BB"), _prefix(a="AA", b="BB"))
    assert (told.cause, told.path, told.token_index) == ("removed", "gone.py", 2)


def test_reordered() -> None:
    told = _miss(_prefix(a="AA", b="BB", c="CC"), _prefix(a="AA", c="CC", b="BB"))
    assert (told.cause, told.segment_id) == ("reordered", "c")


def test_evicted() -> None:
    same = _prefix(a="AA", b="BBBB")
    told = _miss(same, same, reused=4)
    assert (told.cause, told.segment_id, told.byte_offset) == ("evicted", "b", 2)


def test_what_stands_still_is_not_called_reordered() -> None:
    """Part of an older prefix was resident: what is computed stands behind what changed, in its old place."""
    old, new = _prefix(a="AA", b="BBBB"), _prefix(a="XX", b="BBBB")
    told = explain_miss(old, new, 4, 2)
    assert told is not None
    assert (told.cause, told.segment_id, told.token_index) == ("changed", "a", 0)


def test_empty_segments_are_passed_over() -> None:
    told = _miss(_prefix(none="", a="AA"), _prefix(none="", a="AX"))
    assert (told.cause, told.segment_id) == ("changed", "a")


def test_a_segment_that_only_got_shorter_is_what_changed() -> None:
    """The first token that differs is the next one's; the edit is not."""
    told = _miss(_prefix(a="AAB", b="CC", c="DD"), _prefix(a="AA", b="CC", c="DD"))
    assert (told.cause, told.segment_id, told.byte_offset, told.token_index) == ("changed", "a", 2, 2)
    assert (told.before, told.after) == ("AAB", "AA")


def test_a_segment_that_was_emptied_is_what_changed() -> None:
    told = _miss(_prefix(a="AA", b="BB", c="CC"), _prefix(a="AA", b="", c="CC"))
    assert (told.cause, told.segment_id, told.byte_offset, told.before) == ("changed", "b", 0, "BB")


def test_ids_alone_break_nothing() -> None:
    told = _miss(_prefix(one="AA", b="BB"), _prefix(two="AA", b="BX"))
    assert (told.cause, told.segment_id, told.byte_offset) == ("changed", "b", 1)


def test_what_cost_more_explains_it() -> None:
    """A backend that comes back to checkpoints only computes a little in front of a change."""
    old, new = _prefix(a="AAAA", b="BBBBBBBB"), _prefix(a="AAAX", b="BBBBBBBB")
    told = explain_miss(old, new, 1, 11)
    assert told is not None and (told.cause, told.token_index, told.cost_tokens) == ("changed", 3, 11)
    assert "11 tokens were computed, from token 1 on" in told.message
    told = explain_miss(old, _prefix(a="AAAA", b="BBBBBBBX"), 1, 11)
    assert told is not None and (told.cause, told.token_index) == ("evicted", 1)


def test_the_message_is_one_bounded_line_whatever_the_name_is() -> None:
    for name in ("a\nFAKE: all is well", "\x1b[2Jx", "\u202egnp.exe", "x" * 100_000, "\x00" * 4096, "\ud800"):
        segments = [[Segment(name, "text", text, name)] for text in ("AA", "AB")]
        old, new = (_join(_IDENTITY, given, [tuple(map(ord, given[0].text))], ()) for given in segments)
        told = _miss(old, new)
        assert told.message.isprintable()
        assert len(told.message) < 10 * MOST_NAME + 100
        assert (told.segment_id, told.path) == (name, name), "only people are shielded, not programs"


def test_excerpts_keep_lines_and_escape_the_rest() -> None:
    told = _miss(_prefix(a="first\n\tx\x1b[31m"), _prefix(a="first\n\ty\u202e"))
    assert (told.before, told.after) == ("first\n\tx\\x1b[31m", "first\n\ty\\u202e")
    assert _miss(_prefix(a="\x07A"), _prefix(a="\x07A", b="\x07B")).after == "\\x07B"
    assert _miss(_prefix(a="A", b="\x07B", c="C"), _prefix(a="A", c="C")).before == "\\x07B"
