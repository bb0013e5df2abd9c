"""Who goes into a batch, and that everybody does in the end."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.adapters.base import ContextSettings
from sessiond.daemon.engine.arena import Arena
from sessiond.daemon.engine.rates import Rates
from sessiond.daemon.engine.schedule import PATIENCE_S, STRETCH, Batch, Rank, Waiting, due, next_batch
from sessiond.daemon.engine.work import Compute, Restore, Waited, Wish

_NONE = 0
"""The id of no arena."""


def _arena(num_batch: int = 64, num_ubatch: int = 16, rate: float = 1e4) -> Arena:
    rates = Rates()
    rates.computed(1000, 1000 / rate)
    settings = ContextSettings(num_batch=num_batch, num_ubatch=num_ubatch)
    return cast("Arena", SimpleNamespace(settings=settings, rates=rates))


def _job(job_id: int, arena: Arena, rank: Rank, tokens: int, at: float = 0.0) -> Waiting:
    return Waiting(job_id, f"b{job_id}", arena, rank, at, Compute(f"b{job_id}", 0, [1] * tokens))


def _sizes(batch: Batch) -> dict[int, int]:
    return {job_id: len(wish.tokens) for job_id, wish in batch.wishes.items() if isinstance(wish, Compute)}


def test_every_answer_gets_its_token_and_prefill_the_rest_by_due_time() -> None:
    arena = _arena(num_ubatch=16)
    jobs = [
        _job(1, arena, Rank.PREFILL, 100, at=9),
        _job(2, arena, Rank.PREFILL, 5, at=3),
        _job(3, arena, Rank.DECODE, 1, at=8),
        _job(4, arena, Rank.PREFILL, 7, at=5),
        _job(5, arena, Rank.DECODE, 1, at=2),
    ]
    batch = next_batch(jobs, _NONE)
    assert _sizes(batch) == {5: 1, 3: 1, 2: 5, 4: 7, 1: 4}
    assert list(batch.wishes) == [5, 3, 2, 4, 1]
    assert batch.standing == ["b5", "b3", "b2", "b4", "b1"]


def test_a_batch_says_how_long_it_takes() -> None:
    arena = _arena(num_batch=512, num_ubatch=200, rate=1000.0)
    batch = next_batch([_job(1, arena, Rank.PREFILL, 10_000), _job(2, arena, Rank.PREFILL, 5)], _NONE)
    assert sum(_sizes(batch).values()) == 200
    assert batch.seconds == pytest.approx(0.2)
    back = Waiting(1, "b1", arena, Rank.PREFILL, 0.0, Restore("b1", [1]))
    assert next_batch([back], _NONE).seconds == 0


def test_an_answer_that_has_much_to_compute_first_waits_as_a_prefill_does() -> None:
    arena = _arena(num_ubatch=16)
    jobs = [_job(1, arena, Rank.DECODE, 100, at=9), _job(2, arena, Rank.PREFILL, 100, at=3)]
    assert _sizes(next_batch(jobs, _NONE)) == {2: 16}


@pytest.mark.parametrize(("rate", "most"), [(1e6, 64), (200.0, 20), (1.0, 8)])
def test_a_prefill_beside_answers_is_kept_short_enough_for_them_to_go_on(rate: float, most: int) -> None:
    here, elsewhere = _arena(256, 64, rate), _arena()
    prefill = _job(1, here, Rank.PREFILL, 500)
    assert _sizes(next_batch([prefill], _NONE)) == {1: 64}
    for answer in (_job(2, here, Rank.DECODE, 1), _job(2, elsewhere, Rank.DECODE, 1)):
        batch = next_batch([prefill, answer], id(elsewhere) if here is not answer.arena else _NONE)
        if batch.arena is not here:
            batch = next_batch([prefill, answer], id(batch.arena))
        assert _sizes(batch)[1] == most


def test_keep_hot_has_its_turn_when_nobody_waits_anywhere() -> None:
    one, two = _arena(), _arena()
    hot, waited_for = _job(1, one, Rank.KEEP_HOT, 30), _job(2, two, Rank.PREFILL, 30, at=99)
    beside = _job(3, one, Rank.PREFILL, 3, at=99)
    for after in (_NONE, id(one), id(two)):
        assert list(next_batch([hot, waited_for], after).wishes) == [2]
        assert _sizes(next_batch([hot, beside], after)) == {3: 3}
        assert _sizes(next_batch([hot], after)) == {1: 16}
    assert next_batch([hot, beside], _NONE).standing == ["b3", "b1"]


@pytest.mark.parametrize(("rate", "most"), [(1e6, 256), (200.0, 50), (1.0, 32)])
def test_a_batch_of_keep_hot_is_short_so_that_who_comes_need_not_wait(rate: float, most: int) -> None:
    arena = _arena(512, 256, rate)
    assert _sizes(next_batch([_job(1, arena, Rank.KEEP_HOT, 500)], _NONE)) == {1: most}
    assert _sizes(next_batch([_job(1, arena, Rank.PREFILL, 500)], _NONE)) == {1: 256}


def test_restores_go_along_whatever_the_room() -> None:
    arena = _arena(num_batch=2)
    wish = Restore("b9", [1] * 1000)
    jobs = [
        *(_job(index, arena, Rank.DECODE, 1) for index in range(4)),
        Waiting(9, "b9", arena, Rank.PREFILL, 0, wish),
    ]
    assert next_batch(jobs, _NONE).wishes[9] is wish


def test_a_job_is_due_by_its_work_or_its_deadline() -> None:
    assert due(10.0, None, 0.0) == 10.0 + PATIENCE_S
    assert due(10.0, None, 5.0) == 10.0 + PATIENCE_S + 5.0 * STRETCH
    assert due(10.0, 11.0, 5.0) == 11.0
    assert due(10.0, 99.0, 5.0) == due(10.0, None, 5.0)


def test_who_gives_up_sooner_goes_first() -> None:
    arena = _arena()
    patient = _job(1, arena, Rank.PREFILL, 100, due(0.0, None, 1.0))
    hurried = _job(2, arena, Rank.PREFILL, 100, due(1.0, 2.0, 1.0))
    assert _sizes(next_batch([patient, hurried], _NONE)) == {2: 16}


_WISHES = st.one_of(
    st.integers(1, 100).map(lambda count: Compute("", 0, list(range(count)))),
    st.just(Compute("", 0, [0])),
    st.just(Restore("", [0])),
    st.just(Waited()),
)
_WAITING = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(Rank), st.floats(0, 10), _WISHES), min_size=1, max_size=12
)
_ROOM = st.sampled_from([(1, 1), (2, 1), (4, 2), (8, 64), (64, 16)])


@given(_WAITING, _ROOM, st.integers(0, 3), st.sampled_from([1.0, 1e6]))
def test_whatever_waits_a_batch_keeps_the_rules(
    waiting: list[tuple[int, Rank, float, Wish]], room: tuple[int, int], last: int, rate: float
) -> None:
    arenas = [_arena(*room, rate) for _ in range(3)]
    jobs = [Waiting(i, f"b{i}", arenas[a], rank, at, wish) for i, (a, rank, at, wish) in enumerate(waiting)]
    batch = next_batch(jobs, id(arenas[last]) if last < 3 else _NONE)
    by_id = {job.id: job for job in jobs}
    taken = [by_id[job_id] for job_id in batch.wishes]
    here = [job for job in jobs if job.arena is batch.arena]
    assert taken and all(job in here for job in taken)
    assert sorted(batch.standing) == sorted(job.branch for job in here)
    order = [batch.standing.index(job.branch) for job in taken]
    assert order == sorted(order) and order[0] == 0, "the foremost always goes, so that somebody gets on"
    for job in taken:
        wish, asked = batch.wishes[job.id], job.wish
        if isinstance(wish, Compute) and isinstance(asked, Compute):
            assert wish.tokens == asked.tokens[: len(wish.tokens)] and wish.tokens
        else:
            assert wish is asked
    sizes = _sizes(batch)
    assert sum(sizes.values()) <= room[0]
    steps = {j.id for j in here if j.rank is Rank.DECODE and j.wish == Compute("", 0, [0])}
    assert sum(size for job_id, size in sizes.items() if job_id not in steps) <= room[1]
    if len(steps) < room[0]:
        assert steps <= sizes.keys(), "an answer that stands still"
    if any(job.rank is not Rank.KEEP_HOT for job in jobs):
        assert all(job.rank is not Rank.KEEP_HOT for job in taken)


@dataclass
class _Worked:
    """A job of the simulation."""

    id: int
    arena: Arena
    rank: Rank
    left: int
    due: float
    began: int
    answer: int
    """Of what is left, how many tokens come one by one."""
    got: list[int] = field(default_factory=list[int])
    """The turns in which it got on."""

    def waiting(self) -> Waiting:
        return _job(self.id, self.arena, self.rank, max(1, self.left - self.answer), self.due)


class _Load:
    """Jobs over arenas, turn by turn. A turn takes a tenth of a second."""

    TURN_S = 0.1

    def __init__(self) -> None:
        self.turns = 0
        self.jobs: dict[int, _Worked] = {}
        self._ids = itertools.count()
        self._after = _NONE

    def add(self, arena: Arena, rank: Rank, tokens: int, answer: int | None = None) -> _Worked:
        """All of a decode is its answer, unless somebody says otherwise."""
        answer = (tokens if rank is Rank.DECODE else 0) if answer is None else answer
        at = due(self.turns * self.TURN_S, None, (tokens - answer) / arena.rates.tokens_a_second)
        job = _Worked(next(self._ids), arena, rank, tokens, at, self.turns, answer)
        self.jobs[job.id] = job
        return job

    def turn(self) -> Batch:
        batch = next_batch([job.waiting() for job in self.jobs.values()], self._after)
        self._after = id(batch.arena)
        self.turns += 1
        for job_id, size in _sizes(batch).items():
            job = self.jobs[job_id]
            job.left -= size
            job.got.append(self.turns)
            if job.left <= 0:
                del self.jobs[job_id]
        return batch


def _longest_wait(job: _Worked, until: int) -> int:
    """Most turns in which the job did not get on."""
    at = [job.began, *job.got] if job.left <= 0 else [job.began, *job.got, until]
    return max(b - a for a, b in itertools.pairwise(at))


def test_a_long_prefill_ends_under_a_steady_load_of_short_ones() -> None:
    """A new short one comes with each turn, as long as the batch: alone they would take all of it."""
    load, arena = _Load(), _arena(num_ubatch=16, rate=160.0)
    long = load.add(arena, Rank.PREFILL, 160 * 4)
    shorts: list[_Worked] = []
    while long.left > 0 and load.turns < 2000:
        shorts.append(load.add(arena, Rank.PREFILL, 16))
        load.turn()
    # Once it is due, it goes before all that came later.
    assert load.turns * load.TURN_S < PATIENCE_S + (STRETCH + 1) * 4.0 + 1
    assert all(_longest_wait(short, load.turns) * load.TURN_S < PATIENCE_S + 4.0 + 1 for short in shorts)


def test_short_ones_do_not_wait_behind_a_long_one() -> None:
    load, arena = _Load(), _arena(num_ubatch=16, rate=160.0)
    load.add(arena, Rank.PREFILL, 160 * 60)
    for _ in range(50):
        short = load.add(arena, Rank.PREFILL, 16)
        load.turn()
        assert short.left == 0
        load.turn()


@pytest.mark.parametrize("answers", [1, 4, 8, 12])
def test_a_prefill_ends_under_a_steady_load_of_answers(answers: int) -> None:
    """As one answer ends the next begins; a batch has eight tokens."""
    load, arena = _Load(), _arena(num_batch=8, num_ubatch=8)
    running = [load.add(arena, Rank.DECODE, 30) for _ in range(answers)]
    prefill = load.add(arena, Rank.PREFILL, 100)
    every = list(running)
    while prefill.left > 0 and load.turns < 3000:
        load.turn()
        for ended in [job for job in running if job.left <= 0]:
            running.remove(ended)
            running.append(load.add(arena, Rank.DECODE, 30))
            every.append(running[-1])
    assert prefill.left == 0
    assert all(_longest_wait(answer, load.turns) <= (1 if answers < 8 else 150) for answer in every)


@pytest.mark.parametrize("num_batch", [1, 2, 8])
def test_answers_go_on_under_a_steady_load_of_prefills(num_batch: int) -> None:
    load, arena = _Load(), _arena(num_batch, num_batch)
    answers = [load.add(arena, Rank.DECODE, 20) for _ in range(2)]
    while any(answer.left > 0 for answer in answers) and load.turns < 500:
        load.add(arena, Rank.PREFILL, 10)
        load.turn()
    assert all(answer.left == 0 for answer in answers)
    if num_batch > 2:
        assert all(_longest_wait(answer, load.turns) == 1 for answer in answers)


def test_a_prefill_is_not_starved_by_answers_that_compute_their_prompts_first() -> None:
    load, arena = _Load(), _arena(num_ubatch=16, rate=160.0)
    prefill = load.add(arena, Rank.PREFILL, 160)
    while prefill.left > 0 and load.turns < 500:
        load.add(arena, Rank.DECODE, 16 + 2, answer=2)
        load.turn()
    assert prefill.left == 0


@given(st.lists(st.lists(st.integers(0, 3), max_size=3), min_size=20, max_size=60))
def test_every_arena_has_its_turn_whoever_comes_and_goes(coming: list[list[int]]) -> None:
    load, arenas = _Load(), [_arena() for _ in range(4)]
    load.add(arenas[0], Rank.PREFILL, 10_000)
    waits = dict.fromkeys(range(4), 0)
    for these in coming:
        for index in these:
            load.add(arenas[index], Rank.PREFILL, 16)
        waiting = {id(job.arena) for job in load.jobs.values()}
        served = load.turn().arena
        for index, arena in enumerate(arenas):
            waits[index] = 0 if arena is served or id(arena) not in waiting else waits[index] + 1
        assert max(waits.values()) < 4


def test_what_one_answer_guesses_takes_no_place_of_another_ones_step() -> None:
    arena = _arena(num_batch=10)
    guessing = Waiting(1, "b1", arena, Rank.DECODE, 0.0, Compute("b1", 0, [0] * 17, rows=17))
    steps = [_job(index, arena, Rank.DECODE, 1, at=float(index)) for index in range(2, 6)]
    batch = next_batch([guessing, *steps], _NONE)
    assert _sizes(batch) == {1: 6, 2: 1, 3: 1, 4: 1, 5: 1}
    assert batch.wishes[1] == Compute("b1", 0, [0] * 6, rows=6)


def test_an_answer_that_guesses_is_as_fluent_as_one_that_does_not() -> None:
    arena = _arena(num_batch=512, num_ubatch=256, rate=100.0)
    guessing = Waiting(1, "b1", arena, Rank.DECODE, 0.0, Compute("b1", 0, [0] * 5, rows=5))
    assert _sizes(next_batch([guessing, _job(2, arena, Rank.PREFILL, 400)], _NONE)) == {1: 5, 2: 10}


@pytest.mark.parametrize(("room", "answers"), [(16, 1), (32, 2), (64, 4), (128, 8)])
def test_what_answers_guess_leaves_room_for_who_waits(room: int, answers: int) -> None:
    arena = _arena(num_batch=room, num_ubatch=room, rate=1e6)
    steps = [
        Waiting(index, f"b{index}", arena, Rank.DECODE, 0.0, Compute(f"b{index}", 0, [0] * 17, rows=17))
        for index in range(answers)
    ]
    sizes = _sizes(next_batch([*steps, _job(99, arena, Rank.PREFILL, 400)], _NONE))
    assert sizes[99] >= 8
    assert all(sizes[index] >= 1 for index in range(answers))
    assert sum(sizes.values()) <= room
