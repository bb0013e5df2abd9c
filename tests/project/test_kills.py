"""What the script of kills reckons with: what stood on the disk, what came back, and what a prefix may be."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from tests.daemon.engine.disk.made import SPACE, Place, tokens
from tests.daemon.engine.scripted import fresh_answer

from kills_check import Found, Judge, too_young
from kills_disk import Comeback, Written, remembered
from kills_held import LEDGER_S, Folder, Held, Library, Told, digest
from kills_load import Turn
from kills_oracle import Oracle
from sessiond.daemon.engine.disk.keys import LEAST, space
from sessiond.daemon.sessions.manifest import token_hash
from sessiond.v1.context_pb2 import PrefixStatus

RUN = tokens(700)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A tier where a daemon has it, with the KV of RUN."""
    made = Place(tmp_path / "kv" / "a")
    made.keep(RUN)
    return made


def written(place: Place) -> Written:
    return Written.of(place.path.parents[1], {})


# ---- what stood on the disk


@pytest.mark.parametrize("same", [0, LEAST - 1, LEAST, 100, 256, 300, 700])
def test_tokens_are_written_as_far_as_the_ways_are_one(place: Place, same: int) -> None:
    holds = written(place).holds([*RUN[:same], *tokens(50, 1)])
    # An entry begins at each 256th token, and one that parts at once is of no use.
    assert sum(holds) == (same if same % 256 >= LEAST or same % 256 == 0 else same // 256 * 256)
    assert holds == sorted(holds, reverse=True)
    assert sum(holds) == place.back([*RUN[:same], *tokens(50, 1)])


def test_what_is_missing_in_the_middle_is_missing_there_alone(place: Place) -> None:
    middle = next(path for path in place.files() if path.name.endswith("-256"))
    middle.unlink()
    assert written(place).holds(RUN) == [True] * 256 + [False] * 256 + [True] * 188


def test_nothing_is_put_together_from_two_spaces(place: Place) -> None:
    other = space({"another": "model"}, "/", "1")
    place.keep(RUN[:300], other)
    for path in place.files():
        if path.name.endswith("-256") and len(path.read_bytes()) > 5000:
            path.unlink()  # the longer one of the two: that of the first space
    assert sum(written(place).holds(RUN)) == 256 + 188
    assert place.missing(RUN, SPACE) == []


def test_a_file_that_is_not_whole_was_not_written(place: Place) -> None:
    first = place.files()[0]
    first.write_bytes(first.read_bytes()[:-1])
    assert sum(written(place).holds(RUN)) < len(RUN)
    assert written(Place(place.path.parent / "b")).unfinished == 0
    (place.path / "new" / "1-1").touch()
    assert written(place).unfinished == 1


def test_without_a_ledger_no_name_is_remembered(tmp_path: Path) -> None:
    assert remembered(tmp_path) == set()
    (tmp_path / "sessions.db").write_bytes(b"")
    assert remembered(tmp_path) == set()


# ---- what came back


def test_what_was_written_and_is_computed_is_lost(place: Place) -> None:
    comeback = Comeback(written(place))
    comeback.asked("", [*RUN, *tokens(100, 1)], 0, 100)
    assert (comeback.expected, comeback.unwritten, comeback.lost) == (700, 100, 0)
    comeback = Comeback(written(place))
    comeback.asked("", [*RUN, *tokens(100, 1)], 0, 350)
    assert (comeback.expected, comeback.lost) == (700, 250)
    comeback.asked("another", RUN, 0, 700)
    assert (comeback.expected, comeback.lost) == (1400, 950)


def test_what_another_one_had_asked_for_counts_once(place: Place) -> None:
    comeback = Comeback(written(place))
    comeback.asked("", RUN[:400], 0, 400)
    comeback.asked("", RUN, 400, 0)
    assert (comeback.expected, comeback.lost, comeback.unseen) == (700, 400, 0)


def test_what_nobody_saw_coming_proves_nothing(place: Place) -> None:
    comeback = Comeback(written(place))
    comeback.asked("", RUN, 500, 200)
    assert (comeback.expected, comeback.lost, comeback.unseen) == (200, 200, 500)


# ---- what clients hold


def test_a_prefix_may_be_any_that_the_ledger_need_not_have_replaced() -> None:
    now = time.monotonic()
    held = Held("a", workspace=False)
    assert held.may_be(now) == {""}
    held.told = [Told("old", now - 3 * LEDGER_S), Told("mid", now - 2 * LEDGER_S), Told("new", now - 1)]
    assert held.may_be(now) == {"mid", "new"}
    held.told.append(Told("asked"))
    assert held.may_be(now) == {"mid", "new", "asked"}
    held.told[1].acked = None
    assert held.may_be(now) == {"old", "mid", "new", "asked"}


def test_a_name_has_to_survive_once_it_is_in_the_ledger_or_old_enough() -> None:
    held = Held("a", workspace=False, since=100.0)
    assert too_young(held, set(), 100.0 + LEDGER_S / 2)
    assert not too_young(held, {"a"}, 100.0 + LEDGER_S / 2)
    assert not too_young(held, set(), 101.0 + LEDGER_S)


def test_each_content_of_the_folder_is_known_by_its_hash(tmp_path: Path) -> None:
    library = Library()
    folder = Folder(tmp_path / "w", library, Random(1))
    seen = [folder.served()]
    for _ in range(10):
        folder.edit()
        seen.append(folder.served())
    assert all(library.find(each.values()) for each in seen)
    assert all(sum(one[path] != other[path] for path in one) == 1 for one, other in pairwise(seen))
    assert library.find([digest("never written")]) is None


# ---- what is right


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle("scripted-kv:step_ms=1000,load_ms=100000", 2048)


def test_an_answer_is_that_of_a_fresh_context(oracle: Oracle) -> None:
    asked = tuple(each % 200 for each in range(500))
    assert list(oracle.answer(asked, 20)) == fresh_answer(asked, 20) != fresh_answer(asked[1:], 20)


def test_an_answer_is_judged_as_far_as_it_came(oracle: Oracle) -> None:
    found, library = Found(), Library()
    judge = Judge(oracle, library, found)
    held, text = Held("a", workspace=False), "x = 1\n"
    library.add(text)
    prefix = oracle.tokens(text)
    answers = {f"y{n} = ": list(oracle.answer((*prefix, *oracle.tokens(f"y{n} = ")), 9)) for n in range(50)}
    question, right = next((asked, answer) for asked, answer in answers.items() if len(answer) == 9)
    told = PrefixStatus(stable_token_hash=token_hash(prefix))

    def turn(got: list[int], *, whole: bool, status: PrefixStatus = told) -> Turn:
        return Turn(held, question, 9, text, status=status, got=got, whole=whole)

    judge.turns([turn(right, whole=True), turn(right[:4], whole=False), turn([], whole=False)], None, 0)
    assert (found.right, found.wrong, found.other_prefix) == (3, [], [])
    judge.turns([turn(right[:4], whole=True), turn([*right[:4], -1], whole=False)], None, 0)
    assert (found.right, len(found.wrong)) == (3, 2)
    judge.turns([turn(right, whole=True, status=PrefixStatus(stable_token_hash="another"))], None, 0)
    assert len(found.other_prefix) == 1
