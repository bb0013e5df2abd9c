"""Who asks the same again has the first token without a computation, and the same one."""

from __future__ import annotations

from tests.daemon.engine.driven import Driven
from tests.daemon.engine.scripted import fresh_answer, kv_context, load
from tests.daemon.engine.watched import Watched

from sessiond.adapters.base import Held, KvContext, Sampling
from sessiond.daemon.engine.beginnings import KEPT, Beginnings
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.loop import Loop
from sessiond.daemon.engine.memory_tier import MemoryTier
from sessiond.daemon.engine.schedule import Rank

ASKED = [1, 2, 3, 4, 5, 6]


class Place:
    """An arena with two branches, over a context that is watched."""

    def __init__(self) -> None:
        self.model = load("scripted-kv:max_sequences=16")
        self.context = self._made()
        self.arena = KvArena(self.model, self.context.as_context(), MemoryTier(1 << 20), self._again)
        self.loop = Driven(Loop())
        for branch in ("it", "other"):
            self.arena.open(branch)

    def _made(self) -> Watched:
        return Watched(kv_context(self.model, num_ctx=256, num_batch=32, num_ubatch=8))

    def _again(self) -> KvContext:
        self.context = self._made()
        return self.context.as_context()

    def answer(self, branch: str, tokens: list[int], most: int = 3, seed: int = 0) -> list[int]:
        found: list[int] = []
        sampling = Sampling(seed=seed, temperature=5.0 if seed else 0.0)
        work = self.arena.generate(branch, tokens, sampling, most, found.append)
        self.loop.result(self.arena, work, Rank.DECODE)
        return found

    def computes(self, branch: str, tokens: list[int], most: int = 3) -> list[int]:
        """What it computes for an answer, which is the right one."""
        self.context.batches.clear()
        assert self.answer(branch, tokens, most) == fresh_answer(tokens, most)
        self.arena.check_integrity()
        return self.context.batches


def test_the_first_token_for_the_same_question_again_takes_no_computation() -> None:
    place = Place()
    assert place.computes("it", ASKED, 1) == [6, 1]
    assert place.computes("it", ASKED, 1) == []
    assert place.computes("other", ASKED, 1) == [], "somebody else's is the same"
    assert place.computes("it", ASKED, 3) == [1, 1], "the logits after the first one are fresh"
    # What follows stands too, and its logits are gone: each token is computed again for the next one.
    assert place.computes("it", ASKED, 3) == [1, 1]


def test_another_answer_to_it_is_what_it_would_be_anyway() -> None:
    drawn = Place().answer("it", ASKED, seed=7)
    assert drawn != fresh_answer(ASKED, 3)
    place = Place()
    place.answer("it", ASKED)
    place.context.batches.clear()
    assert place.answer("it", ASKED, seed=7) == drawn
    assert place.context.batches == [1, 1, 1], "no token of the question"


def test_a_question_of_which_nothing_is_known_is_not_taken_for_one_that_is() -> None:
    place = Place()
    place.answer("it", ASKED)
    for tokens in ([1, 2, 3, 4, 5, 7], ASKED[:5], [*ASKED, 9]):
        assert place.computes("it", tokens), "its last token has to be computed"


def test_they_outlive_the_cells_and_no_doubt() -> None:
    place = Place()
    place.answer("it", ASKED)
    place.arena.park()
    place.computes("it", ASKED)
    place.arena.reset()
    assert place.computes("it", ASKED) == [6, 1, 1, 1]


def test_the_last_ones_are_kept_and_compared_token_by_token() -> None:
    beginnings = Beginnings()
    for number in range(KEPT + 2):
        beginnings.keep([number, 0], bytes([number]))
    assert beginnings.find([0, 0]) is None and beginnings.find([1, 0]) is None
    assert beginnings.find([2, 0]) == Held((b"\x02",))
    beginnings.keep([99], b"99")  # [3, 0] was used least recently
    assert beginnings.find([3, 0]) is None and beginnings.find([2, 0]) is not None
    beginnings.keep([99], b"100")
    assert beginnings.find([99]) == Held((b"100",)), "one for the same tokens"
    beginnings.forget()
    assert beginnings.find([99]) is None
