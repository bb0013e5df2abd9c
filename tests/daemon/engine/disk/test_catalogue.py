"""What is on disk for some tokens, and what is missing."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.daemon.engine.disk.made import IDENTITY, SPACE, tokens

from sessiond.daemon.engine.disk import catalogue
from sessiond.daemon.engine.disk.catalogue import Catalogue, Entry, Found, Run
from sessiond.daemon.engine.disk.folder import Filed
from sessiond.daemon.engine.disk.format import Label
from sessiond.daemon.engine.disk.keys import LEAST, STEP, Chain, space


@dataclass
class _Disk:
    """A catalogue whose entries are written as soon as they are missing."""

    catalogue: Catalogue = field(default_factory=Catalogue)
    written: list[Run] = field(default_factory=list[Run])

    def missing(self, run: list[int]) -> list[Run]:
        return self.catalogue.missing(Chain(SPACE, run), len(run))

    def ahead(self, run: list[int], at: int = 0) -> list[Found]:
        return self.catalogue.ahead(Chain(SPACE, run), at)

    def keep(self, run: list[int]) -> list[Run]:
        missing = self.missing(run)
        for each in missing:
            entry = self.catalogue.reserve(each)
            assert entry is not None and entry.filed is None
            self.catalogue.written(entry, Filed(each.label.count, 0))
        self.written += missing
        return missing

    def forget(self, run: Run) -> None:
        entry = self.catalogue.reserve(run)
        assert entry is not None
        self.catalogue.remove(entry)

    def covered(self, run: list[int]) -> int:
        return sum(found.matched for found in self.ahead(run))

    @property
    def tokens_written(self) -> int:
        return sum(run.label.count for run in self.written)


_EDITS = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 1500), st.integers(0, 300), st.integers(0, 300)), max_size=12
)


@given(st.integers(0, 1500), _EDITS)
@settings(deadline=None, max_examples=60)
def test_after_any_edits_all_is_there_and_nothing_was_written_twice(
    length: int, edits: list[tuple[int, ...]]
) -> None:
    """Branches made of others by cutting tokens out and putting others in, against the set of all their prefixes."""
    disk, branches = _Disk(), [tokens(length)]
    new: set[tuple[int, int]] = set()
    forks = 0
    for number, (which, where, out, put) in enumerate([(0, length, 0, 0), *edits]):
        base = branches[which % len(branches)]
        at = min(where, len(base))
        branch = [*base[:at], *tokens(put, number + 1), *base[at + out :]]
        branches.append(branch)
        forks += 1
        disk.keep(branch)
        assert len(branch) - LEAST < disk.covered(branch) <= len(branch) or not branch
        hashes, rolling = set[tuple[int, int]](), 0
        for position, token in enumerate(branch):
            rolling = hash((rolling, token))
            hashes.add((position, rolling))
        new |= hashes
    # A branch that parts within the first tokens of an entry has these again.
    assert disk.tokens_written <= len(new) + forks * (LEAST - 1)
    for branch in branches:
        assert disk.covered(branch) > len(branch) - LEAST
        assert all(found.entry.label.key for found in disk.ahead(branch))


@given(st.integers(0, 1999), st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_an_insertion_changes_only_what_stands_behind_it(at: int, count: int) -> None:
    disk, old = _Disk(), tokens(2000)
    before = disk.keep(old)
    new = [*old[:at], *tokens(count, 1), *old[at:]]
    after = disk.keep(new)
    same = next(i for i in range(len(old)) if old[i] != new[i])
    assert min((run.start for run in after), default=at) > same - LEAST
    assert sum(run.label.count for run in after) < len(new) - same + LEAST
    kept = [found.entry.label for found in disk.ahead(new) if found.end <= same]
    assert [run.label for run in before if run.end <= same] == kept[
        : len([r for r in before if r.end <= same])
    ]
    assert disk.covered(old) == len(old)


def test_entries_end_at_fixed_cuts_and_begin_where_a_branch_leaves() -> None:
    disk, run = _Disk(), tokens(700)
    assert [(each.start, each.end) for each in disk.keep(run)] == [(0, 256), (256, 512), (512, 700)]
    other = [*run[:600], *tokens(300, 1)]
    assert [(each.start, each.end) for each in disk.keep(other)] == [(600, 768), (768, 900)]
    longer = [*run, *tokens(100, 2)]
    assert [(each.start, each.end) for each in disk.keep(longer)] == [(700, 768), (768, 800)]


def test_too_little_is_no_entry_and_no_crumb_is_left() -> None:
    disk, run = _Disk(), tokens(2 * STEP + LEAST - 1)
    assert [(each.start, each.end) for each in disk.keep(run)] == [(0, 256), (256, 512)]
    assert disk.missing(tokens(LEAST - 1, 5)) == []
    other = [*run[: STEP - LEAST + 1], *tokens(400, 1)]
    assert next((each.start, each.end) for each in disk.keep(other)) == (STEP - LEAST + 1, 2 * STEP)


def test_a_branch_that_parts_at_once_has_these_tokens_again() -> None:
    disk, run = _Disk(), tokens(600)
    disk.keep(run)
    for shared, start in ((LEAST - 1, 256), (LEAST, 256 + LEAST)):
        other = [*run[: 256 + shared], *tokens(300, shared)]
        assert [found.end for found in disk.ahead(other)] == [256, *([start] if start > 256 else [])]
        assert disk.keep(other)[0].start == start


def test_what_is_on_its_way_is_neither_missing_nor_found() -> None:
    disk, run = _Disk(), tokens(300)
    for each in disk.missing(run):
        disk.catalogue.reserve(each)
    assert disk.missing(run) == [] == disk.ahead(run)


def test_what_waits_is_as_young_as_its_last_use_too() -> None:
    disk, run = _Disk(), tokens(600)
    first, *rest = disk.missing(run)
    entry = disk.catalogue.reserve(first)
    assert entry is not None
    disk.catalogue.written(entry, Filed(1, 1))
    waiting = [disk.catalogue.reserve(each) for each in rest]
    for ask in (disk.ahead, disk.missing):
        disk.missing(tokens(300, 1))
        ask(run)
        assert {each.used for each in waiting if each is not None} == {entry.used} != {first.stamp}


def test_forgetting_an_entry_spares_another_one_of_its_name() -> None:
    disk, run = _Disk(), tokens(100)
    [only] = disk.keep(run)
    old = disk.catalogue.oldest()[0]
    disk.catalogue.remove(old)
    disk.keep(run)
    disk.catalogue.remove(old)
    assert disk.covered(run) == 100 and disk.catalogue.holds(only.label.name)
    assert (disk.catalogue.size, disk.catalogue.token_bytes) == (100, 400)
    disk.catalogue.remove(disk.catalogue.oldest()[0])
    assert (disk.catalogue.size, disk.catalogue.token_bytes, len(disk.catalogue)) == (0, 0, 0)
    assert disk.catalogue._by_place == {}, "and no memory is held for it"


def test_behind_a_gap_the_way_goes_on() -> None:
    disk, run = _Disk(), tokens(1000)
    first, second, *_ = disk.keep(run)
    disk.forget(second)
    assert [(found.start, found.end) for found in disk.ahead(run)] == [(0, 256), (512, 768), (768, 1000)]
    assert [found.start for found in disk.ahead(run, 300)] == [512, 768]
    assert [each.label for each in disk.keep(run)] == [second.label]
    disk.forget(first)
    assert [(each.start, each.end) for each in disk.missing(run)] == [(0, 256)]


def test_a_few_tokens_that_fill_a_gap_are_found() -> None:
    disk, run = _Disk(), tokens(600)
    other = [*run[:500], *tokens(400, 1)]
    disk.forget(disk.keep(other)[1])
    disk.keep(run)
    assert [(each.start, each.end) for each in disk.keep(other)] == [(500, 512)]
    assert disk.covered(other) == 900 and disk.missing(other) == []


def test_where_two_go_on_the_longer_one_is_taken() -> None:
    disk, run = _Disk(), tokens(40)
    for length in (20, 40):
        chain = Chain(SPACE, run[:length])
        label = Label(SPACE.salt, chain.key(0), chain.key(length), 0, chain.run(0, length))
        disk.catalogue.add(Entry(label, 1, Filed(1, 1)))
    assert [found.end for found in disk.ahead(run)] == [40]
    assert [found.end for found in disk.ahead([*run[:30], *tokens(20, 1)])] == [30]
    assert [found.end for found in disk.ahead([*run[:22], *tokens(20, 1)])] == [22]


def test_an_entry_that_says_a_wrong_place_is_not_walked_in_circles() -> None:
    disk, run = _Disk(), tokens(600)
    chain = Chain(SPACE, run)
    for start, count in ((0, 256), (17, 16), (256, 0)):
        label = Label(SPACE.salt, chain.key(256), chain.key(512), start, chain.run(256, 256 + count))
        disk.catalogue.add(Entry(label, 1, Filed(1, 1)))
    assert disk.ahead(run) == []


def test_many_that_go_on_from_one_place_are_not_all_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    disk, run = _Disk(), tokens(300)
    for seed in range(200):
        disk.keep([*run, *tokens(100, seed + 1)])
    compared, common = list[bytes](), catalogue._common

    def count(mine: bytes, theirs: bytes) -> int:
        compared.append(mine)
        return common(mine, theirs)

    monkeypatch.setattr(catalogue, "_common", count)
    assert disk.covered([*run, *tokens(100, 77)]) == 400
    assert len(compared) < 20


def test_another_space_finds_nothing() -> None:
    disk, run = _Disk(), tokens(600)
    disk.keep(run)
    for where in (space(IDENTITY, "/home/a/project", "1"), space({}, "/home/a/project", "1000")):
        assert disk.catalogue.ahead(Chain(where, run), 0) == []
        assert len(disk.catalogue.missing(Chain(where, run), 600)) == 3


def test_an_edge_goes_in_whole_right_behind_what_is_there() -> None:
    disk, run = _Disk(), tokens(1200)
    disk.keep(run[:300])
    edge = disk.catalogue.edge(Chain(SPACE, run), 300)
    assert edge is not None and (edge.start, edge.end) == (300, 1200)
    for start in (299, 301, 256, 0, 1199, 1200):
        assert disk.catalogue.edge(Chain(SPACE, run), start) is None
    entry = disk.catalogue.reserve(edge)
    assert entry is not None
    disk.catalogue.written(entry, Filed(1, 1))
    assert disk.covered(run) == 1200 and disk.missing(run) == []
    assert disk.covered([*run[:900], *tokens(99, 1)]) == 900
    assert disk.catalogue.edge(Chain(SPACE, tokens(50, 9)), 0) is not None


def test_what_was_used_stays_and_of_one_way_the_end_goes_first() -> None:
    disk, old, young = _Disk(), tokens(600), tokens(600, 1)
    disk.keep(old)
    disk.keep(young)
    order = [entry.label.key == Chain(SPACE, young).key(entry.label.end) for entry in disk.catalogue.oldest()]
    assert order == [False] * 3 + [True] * 3
    assert [entry.label.start for entry in disk.catalogue.oldest()] == [512, 256, 0] * 2
    disk.ahead(old)
    disk.missing(young[:300])
    starts = [entry.label.start for entry in disk.catalogue.oldest()]
    assert starts == [512, 512, 256, 0, 256, 0]


def test_a_blocked_name_is_neither_found_nor_missing() -> None:
    disk, run = _Disk(), tokens(600)
    second = disk.keep(run)[1]
    disk.catalogue.block(second.label.name)
    assert [found.start for found in disk.ahead(run)] == [0, 512]
    assert disk.missing(run) == [] and disk.catalogue.reserve(second) is None
    assert not disk.catalogue.add(Entry(second.label, 1, Filed(1, 1)))
