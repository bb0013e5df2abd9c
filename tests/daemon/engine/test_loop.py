"""The loop: what fails fails alone, what is cancelled leaves a branch that works, and what is fresh is not replayed."""

from __future__ import annotations

import threading

import pytest
from tests.daemon.engine.driven import Driven
from tests.daemon.engine.scripted import fresh_answer, fresh_logits, kv_context, load
from tests.daemon.engine.watched import Watched

from sessiond.adapters.base import BackendError, NoRoom, Sampling
from sessiond.daemon.engine.arena import Arena
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.loop import LONG_S, Cancelled, Loop
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.rates import Rates
from sessiond.daemon.engine.schedule import Rank
from sessiond.daemon.engine.work import Finish


def _quiet(_done: int, _total: int) -> None: ...


def _ignored(_token: int) -> Finish | None:
    return None


class Place:
    """An arena with branches, over a context that is watched."""

    def __init__(
        self,
        *branches: str,
        num_ctx: int = 256,
        max_sequences: int = 16,
        no_truncate: bool = False,
        tier: int = 1 << 20,
    ) -> None:
        flag = ",no_truncate" if no_truncate else ""
        model = load(f"scripted-kv:max_sequences={max_sequences}{flag}")
        self.context = Watched(kv_context(model, num_ctx=num_ctx, num_batch=32, num_ubatch=4))
        self.arena = KvArena(model, self.context.as_context(), MemoryTier(tier))
        self.about_to_compute: list[Arena] = []
        self.loop = Driven(Loop(before_computing=self.about_to_compute.append))
        for branch in branches:
            self.arena.open(branch)

    def advance(self, branch: str, tokens: list[int]) -> None:
        self.loop.result(self.arena, self.arena.advance(branch, tokens, _quiet))

    def answer(self, branch: str, tokens: list[int], most: int = 5) -> list[int]:
        found: list[int] = []
        work = self.arena.generate(branch, tokens, Sampling(), most, found.append)
        self.loop.result(self.arena, work, Rank.DECODE)
        return found


def test_answer_after_a_prefill_needs_no_replay() -> None:
    place = Place("it")
    assert place.answer("it", [1] * 6, 1) == fresh_answer([1] * 6, 1)
    assert place.context.batches == [4, 2, 1]


def test_answer_after_an_exact_hit_replays_one_token() -> None:
    place = Place("it", "other")
    place.advance("it", [1] * 6)
    place.advance("other", [2])  # its decode takes the logits away
    place.context.batches.clear()
    assert place.answer("it", [1] * 6, 1) == fresh_answer([1] * 6, 1)
    assert place.context.batches == [1, 1]


def test_a_shared_tip_is_replayed_on_the_side() -> None:
    place = Place("it", "other")
    place.advance("it", [1] * 6)
    place.advance("other", [1] * 6)
    assert place.answer("it", [1] * 6) == fresh_answer([1] * 6, 5)
    assert place.arena.tokens("other") == [1] * 6
    place.arena.check_integrity()


def test_logits_of_an_advance_serve_the_answer_at_once() -> None:
    place = Place("it")
    place.advance("it", [1] * 6)
    place.context.batches.clear()
    assert place.answer("it", [1] * 6, 1) == fresh_answer([1] * 6, 1)
    assert place.context.batches == [1]


def test_logits_are_not_taken_for_those_of_another_path_of_the_same_length() -> None:
    place = Place("it")
    place.advance("it", [1, 2, 3, 4])
    place.advance("it", [1, 2, 9, 9])
    assert place.answer("it", [1, 2, 3, 4]) == fresh_answer([1, 2, 3, 4], 5)


def test_a_failing_backend_fails_its_jobs_alone() -> None:
    place = Place("one", "two")
    elsewhere = Place("far")
    elsewhere.loop = place.loop
    place.context.fail_next = BackendError("as the test wanted")
    _, one = place.loop.submit(place.arena, place.arena.logits("one", [1] * 9))
    _, far = place.loop.submit(elsewhere.arena, elsewhere.arena.logits("far", [2] * 9))
    place.loop.until(lambda: one.over and far.over)
    assert isinstance(one.error, BackendError)
    assert far.value == fresh_logits([2] * 9)
    assert place.loop.result(place.arena, place.arena.logits("two", [3] * 9)) == fresh_logits([3] * 9)
    assert place.loop.result(place.arena, place.arena.logits("one", [1] * 9)) == fresh_logits([1] * 9)
    place.arena.check_integrity()


def test_one_without_room_waits_until_there_is_some() -> None:
    """Each would fit alone; the batch of both does not, and the second one waits for the end of the first."""
    place = Place("one", "two", num_ctx=16)
    place.advance("one", [1] * 12)
    work = place.arena.generate("one", [1] * 12, Sampling(), 1, _ignored)
    _, one = place.loop.submit(place.arena, work, Rank.DECODE)
    _, two = place.loop.submit(place.arena, place.arena.advance("two", [2] * 4, _quiet))
    place.loop.until(lambda: one.over and two.over)
    assert (one.error, two.error) == (None, None)
    assert place.arena.tokens("one") == [1] * 12 + fresh_answer([1] * 12, 1)
    assert place.arena.residence("one") == (0, 13)  # idle then, and in memory
    place.arena.check_integrity()


def test_two_that_come_back_from_memory_at_once_do_not_take_each_other_s_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is one sequence, and each needs it, twice: others part their runs."""
    monkeypatch.setattr(Rates, "restoring_pays", lambda *_: True)
    place = Place("one", "two", "beside one", "beside two", "busy", max_sequences=1)
    held = {"one": [1] * 12, "two": [2] * 12}
    for branch, tokens in held.items():
        place.advance(branch, tokens)
        place.advance(f"beside {branch}", tokens[:6])
    place.advance("busy", [3])
    place.context.batches.clear()
    outcomes = [
        place.loop.submit(place.arena, place.arena.logits(branch, tokens))[1]
        for branch, tokens in held.items()
    ]
    place.loop.until(lambda: all(outcome.over for outcome in outcomes))
    assert [outcome.value for outcome in outcomes] == [fresh_logits(tokens) for tokens in held.values()]
    assert place.context.batches == [1, 1], "what memory kept was computed again"
    place.arena.check_integrity()


def test_what_stands_beside_leaves_before_a_branch_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rates, "restoring_pays", lambda *_: True)
    place = Place("one", "two")
    held = {"one": [1] * 8 + [2] * 20, "two": [1] * 8 + [3] * 20}
    for branch, tokens in held.items():
        place.advance(branch, tokens)
    assert place.arena.shed()
    assert [place.arena.residence(branch) for branch in held] == [(8, 20), (28, 0)]
    computed = len(place.context.batches)
    assert place.about_to_compute == [place.arena] * computed != []
    place.advance("one", held["one"])
    assert [place.arena.residence(branch) for branch in held] == [(28, 0), (8, 20)]
    assert len(place.about_to_compute) == len(place.context.batches) == computed, "nothing was to compute"
    place.arena.check_integrity()


def test_what_may_wait_is_told_before_what_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Rates, "seconds", lambda _rates, tokens: LONG_S * tokens / 3)
    place, told = Place("it"), list[bool]()
    place.loop = Driven(Loop(say=told.append))
    place.advance("it", [1] * 10)
    assert place.context.batches == [4, 4, 2]
    # A command came, which may take long; then two batches that do, and one that does not.
    assert told[:4] == [True, True, True, False]


def test_without_memory_what_a_branch_holds_is_not_taken() -> None:
    place = Place("one", "two", num_ctx=16, tier=0)
    place.advance("one", [1] * 13)
    with pytest.raises(NoRoom):
        place.advance("two", [2] * 4)
    assert place.arena.residence("one") == (13, 0)
    place.advance("two", [2] * 3)
    place.arena.check_integrity()


def test_what_cannot_be_made_ready_leaves_no_sequence_behind() -> None:
    """One wish of a batch cannot be fulfilled for another reason than room."""
    place = Place("good", "bad", max_sequences=4)
    work = place.arena.generate("good", [1] * 3, Sampling(), 3, _ignored)
    _, good = place.loop.submit(place.arena, work, Rank.DECODE)
    _, bad = place.loop.submit(place.arena, place.arena.logits("bad", []))
    place.loop.until(lambda: good.over and bad.over)
    assert bad.error is not None
    place.arena.check_integrity()
    assert good.error is None


def test_a_cancel_that_comes_before_the_loop_took_the_job_in_is_not_lost() -> None:
    """The loop may be inside another arena's decode then."""
    place = Place("it")
    job_id, outcome = place.loop.submit(place.arena, place.arena.advance("it", [1] * 100, _quiet))
    place.loop.loop.cancel(job_id)
    place.loop.until(lambda: outcome.over)
    assert isinstance(outcome.error, Cancelled)


@pytest.mark.parametrize("turns", range(1, 8))
def test_a_cancelled_job_leaves_a_branch_that_works(turns: int) -> None:
    place = Place("it")
    work = place.arena.generate("it", [1] * 10, Sampling(), 5, _ignored)
    job_id, outcome = place.loop.submit(place.arena, work, Rank.DECODE)
    for _ in range(turns):
        place.loop.loop.turn()
    place.loop.loop.cancel(job_id)
    place.loop.until(lambda: outcome.over)
    assert isinstance(outcome.error, Cancelled)
    place.arena.check_integrity()
    held = place.arena.tokens("it")
    whole = [1] * 10 + fresh_answer([1] * 10, 5)
    assert held == whole[: len(held)]
    assert place.answer("it", [1] * 10) == fresh_answer([1] * 10, 5)


def test_a_cancel_reaches_into_the_decode() -> None:
    place = Place("it", "other")
    job_id, outcome = place.loop.submit(place.arena, place.arena.advance("it", [1] * 10, _quiet))

    def cancel() -> None:
        place.loop.loop.cancel(job_id)

    place.context.before_decode = cancel
    place.loop.until(lambda: outcome.over)
    assert isinstance(outcome.error, Cancelled)
    assert place.context.batches == [4]
    assert place.arena.tokens("it") == []  # the first micro-batch saw it
    place.context.before_decode = lambda: None
    place.advance("other", [1] * 10)  # and the flag is down again
    place.arena.check_integrity()


def test_two_that_begin_alike_compute_what_they_share_once() -> None:
    place = Place("one", "two")
    outcomes = [
        place.loop.submit(place.arena, place.arena.logits(name, tokens))[1]
        for name, tokens in (("one", [1, 2, 3, 4]), ("two", [1, 2, 3, 5]))
    ]
    place.loop.until(lambda: all(outcome.over for outcome in outcomes))
    assert [outcome.value for outcome in outcomes] == [fresh_logits([1, 2, 3, 4]), fresh_logits([1, 2, 3, 5])]
    assert place.context.batches == [4, 1]
    place.arena.check_integrity()


def test_jobs_that_end_in_many_threads_sight() -> None:
    """`call` and `cancel` come from other threads while `run` works."""
    place = Place("it")
    runner = threading.Thread(target=place.loop.loop.run)
    runner.start()
    over = threading.Event()
    try:
        for round_ in range(40):
            tokens = [round_ % 3 + 1] * 12
            job_id, outcome = place.loop.submit(place.arena, place.arena.advance("it", tokens, _quiet))
            if round_ % 2:
                place.loop.loop.cancel(job_id)
            for _ in range(2000):
                if outcome.over:
                    break
                over.wait(0.001)
            assert outcome.over
            assert outcome.error is None or isinstance(outcome.error, Cancelled)
    finally:
        place.loop.loop.stop()
        runner.join(5)
    assert not runner.is_alive()
    place.arena.check_integrity()


def test_decodes_of_several_branches_share_a_batch_and_one_prefill_goes_along() -> None:
    place = Place("a", "b", "c", "d")
    for name in ("a", "b"):
        place.advance(name, [ord(name)] * 5)
    place.context.batches.clear()
    outcomes = [
        place.loop.submit(
            place.arena, place.arena.generate(n, [ord(n)] * 5, Sampling(), 4, _ignored), Rank.DECODE
        )[1]
        for n in ("a", "b")
    ]
    outcomes += [
        place.loop.submit(place.arena, place.arena.advance(n, [ord(n)] * 8, _quiet))[1] for n in ("c", "d")
    ]
    place.loop.loop.turn()
    assert place.context.batches == [1 + 1 + 4]
    place.loop.until(lambda: all(outcome.over for outcome in outcomes))
    assert all(outcome.error is None for outcome in outcomes)
