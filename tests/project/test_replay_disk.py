"""What a day writes to the disk is told by what stands there, each token once, and by what the kernel counted."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.daemon.engine.disk.made import SPACE, tokens

from compare_verdict import Target
from replay_disk import LEAST_KV, DiskWatch, Seen, Traffic, distinct_tokens
from sessiond.daemon.engine.disk.format import Label
from sessiond.daemon.engine.disk.keys import Chain, Space, pack, space

RUN = tokens(700)
ANOTHER = space({"another": "model"}, "/", "1")


def label(run: list[int], start: int, end: int, where: Space = SPACE) -> Label:
    chain = Chain(where, run)
    return Label(chain.space.salt, chain.key(start), chain.key(end), start, pack(run[start:end]))


def test_each_token_counts_once_wherever_entries_begin_and_end() -> None:
    whole = [label(RUN, 0, 256), label(RUN, 256, 512), label(RUN, 512, 700)]
    assert distinct_tokens(whole) == 700
    assert distinct_tokens([*whole, label(RUN, 100, 600), label(RUN, 0, 10)]) == 700
    other = [*RUN[:300], *tokens(100, 1)]
    assert distinct_tokens([*whole, label(other, 300, 400)]) == 800
    assert distinct_tokens([*whole, label(other, 256, 400)]) == 800
    assert distinct_tokens([*whole, label(other, 290, 400), label(other, 390, 400)]) == 800


def test_equal_tokens_after_others_or_in_another_space_are_others() -> None:
    same = tokens(50)
    one, other = [1, *same], [2, *same]
    assert distinct_tokens([label(one, 0, 51), label(other, 0, 51)]) == 102
    assert distinct_tokens([label(one, 0, 51), label(one, 0, 51, where=ANOTHER)]) == 102


def test_an_entry_after_what_was_never_seen_counts_too() -> None:
    assert distinct_tokens([label(RUN, 256, 512), label(RUN, 512, 700)]) == 256 + 188
    assert distinct_tokens([label(RUN, 256, 512), label(RUN, 256, 512)]) == 256
    assert distinct_tokens([]) == 0


def traffic(*spans: tuple[int, int], each: int = LEAST_KV, beside: int = 0) -> Traffic:
    """Entries of RUN with so many bytes of KV for each token, and an engine that wrote more than these."""
    entries = [
        Seen(label(RUN, start, end), each * (end - start), each * (end - start)) for start, end in spans
    ]
    return Traffic(entries, sum(seen.payload_bytes for seen in entries) + beside)


def told(day: Traffic) -> list[tuple[float, bool]]:
    def rounded(target: Target) -> tuple[float, bool]:
        return round(target.value, 3), target.met

    return [rounded(target) for target in day.outcome().targets]


def test_what_is_written_twice_and_what_stands_beside_the_kv_is_held_against_what_is_new() -> None:
    assert told(traffic((0, 256), (256, 700))) == [(1.0, True), (1.0, True)]
    assert told(traffic((0, 500), (400, 700))) == [(1.143, False), (1.143, False)]
    assert told(traffic((0, 700), beside=LEAST_KV * 70)) == [(1.0, True), (1.1, True)]
    assert told(traffic((0, 700), beside=LEAST_KV * 71)) == [(1.0, True), (1.101, False)]


def test_what_says_nothing_is_not_held_against_anything() -> None:
    assert told(traffic((0, 700), each=20, beside=10**6)) == [(1.0, True)]
    assert told(Traffic(traffic((0, 700)).entries, None)) == [(1.0, True)]
    nothing = Traffic([], 4096).outcome()
    assert nothing.targets == [] and nothing.not_measured


def test_without_an_engine_there_is_nothing_to_watch(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 engines"):
        DiskWatch(tmp_path)
