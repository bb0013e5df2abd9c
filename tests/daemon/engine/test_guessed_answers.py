"""An answer is the same with guesses as without, whatever is asked of it; and in fewer batches where it repeats something."""

from __future__ import annotations

import heapq
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.daemon.engine.driven import Driven
from tests.daemon.engine.scripted import kv_context, load
from tests.daemon.engine.tree_facts import check_cells
from tests.daemon.engine.watched import Watched

from sessiond.adapters.base import Held, Likely, Run, Sampler, Sampling
from sessiond.adapters.scripted.kv import ScriptedKv
from sessiond.adapters.scripted.sampler import ScriptedSampler
from sessiond.daemon.engine.arena import Guessing
from sessiond.daemon.engine.kv_arena import KvArena
from sessiond.daemon.engine.loop import Loop
from sessiond.daemon.engine.schedule import Rank
from sessiond.daemon.engine.work import Finish

_MODEL = load("scripted-kv:")
_TEXT = "the quick brown fox jumps over the lazy dog and runs away "


class _Rounded(Watched):
    """A context that rounds the logits of runs with several rows in another way than those of others: by up to `rounding`
    in the distance of two. It says nothing but `letters`, if there are any.
    """

    def __init__(self, context: ScriptedKv, rounding: float, letters: str) -> None:
        super().__init__(context)
        self.rounding = rounding
        self._letters = set(letters.encode())
        self._wide: list[bool] = []

    def decode(self, runs: Sequence[Run]) -> None:
        self._wide = [run.want_logits > 1 for run in runs]
        super().decode(runs)

    def logits(self, run: int | Held, back: int = 0) -> bytes:
        if isinstance(run, Held):
            return run.rows[back]
        exact = self.real.logits(run, back)
        off, most = random.Random(exact), self.rounding * 0.49 * self._wide[run]
        values = array("f", (value + off.uniform(-most, most) for value in array("f", exact)))
        for token in range(len(values)):
            if self._letters and token not in self._letters:
                values[token] -= 100
        return values.tobytes()

    def sample(self, run: int | Held, sampler: Sampler, back: int = 0) -> int:
        return cast("ScriptedSampler", sampler).choose(self.logits(run, back))

    def lead(self, run: int | Held, back: int = 0) -> float:
        first, second = heapq.nlargest(2, array("f", self.logits(run, back)))
        return first - second


@dataclass
class _Side:
    """An arena with some branches, and how many batches it computed."""

    guessing: Guessing | None
    rounding: float = 0.0
    letters: str = ""
    batches: int = 0
    tokens: list[list[int]] = field(default_factory=list[list[int]])
    likely: list[list[Likely]] = field(default_factory=list[list[Likely]])

    def __post_init__(self) -> None:
        context = kv_context(_MODEL, num_ctx=2048, num_batch=64, num_ubatch=64)
        watched = _Rounded(context, self.rounding, self.letters)
        watched.before_decode = self._count
        self.arena = KvArena(_MODEL, watched.as_context())
        self.loop = Driven(Loop(), self._check)

    def _count(self) -> None:
        self.batches += 1

    def _check(self) -> None:
        check_cells(self.arena._tree, self.arena._context)  # type: ignore[arg-type]  # it stands before a scripted one

    def answers(
        self, prompts: list[list[int]], sampling: Sampling, most: int, stop_after: int | None = None
    ) -> list[Finish]:
        """Answers to all prompts at once."""
        outcomes = [
            self.loop.submit(self.arena, self._work(index, prompt, sampling, most, stop_after), Rank.DECODE)[
                1
            ]
            for index, prompt in enumerate(prompts)
        ]
        self.loop.until(lambda: all(outcome.over for outcome in outcomes))
        for outcome in outcomes:
            if outcome.error is not None:
                raise outcome.error
        return [outcome.value for outcome in outcomes]

    def _work(
        self, index: int, prompt: list[int], sampling: Sampling, most: int, stop_after: int | None
    ) -> Any:
        branch, said, likely = f"b{len(self.tokens)}", list[int](), list[Likely]()
        self.arena.open(branch)
        self.tokens.append(said)
        self.likely.append(likely)

        def emit(token: int) -> Finish | None:
            said.append(token)
            return Finish("stop_string", "x") if len(said) == stop_after else None

        told = (sampling, most, emit, likely.append, self.guessing)
        return self.arena.generate(branch, prompt, *told)

    def held(self) -> list[list[int]]:
        """What the branches hold."""
        return [self.arena.tokens(f"b{index}") for index in range(len(self.tokens))]


def _tokens(text: str) -> list[int]:
    return _MODEL.tokenize(text, parse_special=False)


def _literal(text: str) -> str:
    return f'root ::= "{text}"'


_SAMPLING = st.builds(
    Sampling,
    seed=st.integers(0, 1000),
    temperature=st.sampled_from([0.0, 0.7, 2.0]),
    repeat_penalty=st.sampled_from([0.0, 1.3]),
    logprobs=st.sampled_from([0, 2]),
    grammar=st.sampled_from(["", 'root ::= ("ab" | "abc " | "the ")*', _literal(_TEXT)]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.lists(st.sampled_from(["ab", "abc ", "the ", "the quick "]), min_size=2), min_size=1, max_size=3
    ),
    _SAMPLING,
    st.integers(0, 40),
    st.one_of(st.none(), st.integers(1, 20)),
)
def test_an_answer_is_the_same_with_guesses(
    prompts: list[list[str]], sampling: Sampling, most: int, stop_after: int | None
) -> None:
    asked = [_tokens("".join(words)) for words in prompts]
    plain, guessed = _Side(None), _Side(Guessing([(0, 4)]))
    one = plain.answers(asked, sampling, most, stop_after)
    other = guessed.answers(asked, sampling, most, stop_after)
    assert guessed.tokens == plain.tokens
    assert guessed.likely == plain.likely
    assert guessed.held() == plain.held() == [p + said for p, said in zip(asked, plain.tokens, strict=True)]
    assert [(f.reason, f.stop_string) for f in other] == [(f.reason, f.stop_string) for f in one]
    assert all(finish.drafted == 0 for finish in one)
    assert all(finish.accepted <= finish.drafted for finish in other)


@pytest.mark.parametrize("rounding", [0.1, 0.5, 2.0])
def test_a_batch_that_rounds_in_another_way_changes_no_likeliest_token(rounding: float) -> None:
    prompts = [_tokens(f"{index} {'abba' * index}") for index in range(12)]
    plain, guessed = _Side(None, letters="ab"), _Side(Guessing(), rounding, "ab")
    for prompt in prompts:
        plain.answers([prompt], Sampling(), 60)
    finishes = [guessed.answers([prompt], Sampling(), 60)[0] for prompt in prompts]
    assert guessed.tokens == plain.tokens
    assert guessed.held() == [p + said for p, said in zip(prompts, plain.tokens, strict=True)]
    assert sum(finish.accepted for finish in finishes), "nothing was guessed"


def test_what_is_in_doubt_is_computed_by_itself_and_goes_on_from_there() -> None:
    prompts, sampling = [_tokens(f"{_TEXT}{_TEXT}")], Sampling(grammar=_literal(_TEXT * 3))
    plain, sure = _Side(None), _Side(Guessing())
    doubtful, hopeless = _Side(Guessing(), 0.002), _Side(Guessing(), 50.0)
    for side in (plain, sure, doubtful, hopeless):
        side.answers(prompts, sampling, 1000)
        assert side.tokens == plain.tokens
    assert max(sure.batches, doubtful.batches) < plain.batches
    # That each of them is computed once more is noticed, and guessing ends.
    assert hopeless.batches < plain.batches * 1.1


@pytest.mark.parametrize("streams", [1, 3])
def test_what_repeats_takes_fewer_batches(streams: int) -> None:
    prompts = [_tokens(f"{index} {_TEXT}{_TEXT}") for index in range(streams)]
    sampling = Sampling(grammar=_literal(_TEXT * 3))
    plain, guessed = _Side(None), _Side(Guessing())
    plain.answers(prompts, sampling, 1000)
    finishes = guessed.answers(prompts, sampling, 1000)
    assert guessed.tokens == plain.tokens
    assert guessed.batches < plain.batches / (3 if streams == 1 else 2)  # rows of logits are shared
    assert all(finish.accepted > len(plain.tokens[0]) / 2 for finish in finishes)


def test_the_same_answer_by_two_at_once_is_the_same() -> None:
    prompt = _tokens(_TEXT * 2)
    sampling = Sampling(grammar=_literal(_TEXT * 2))
    plain, guessed = _Side(None), _Side(Guessing())
    plain.answers([prompt] * 3, sampling, 1000)
    guessed.answers([prompt] * 3, sampling, 1000)
    assert guessed.tokens == plain.tokens


def test_an_answer_that_was_given_before_is_the_same() -> None:
    prompt = _tokens(_TEXT * 2)
    sampling = Sampling(grammar=_literal(_TEXT * 2))
    guessed = _Side(Guessing())
    for _ in range(3):
        guessed.answers([prompt], sampling, 1000)
    assert guessed.tokens[0] == guessed.tokens[1] == guessed.tokens[2]


@pytest.mark.parametrize(("temperature", "rounding"), [(2.0, 0.0), (0.0, 0.01)])
def test_nothing_is_left_of_guesses_that_were_wrong(temperature: float, rounding: float) -> None:
    guessed, wrong = _Side(Guessing(), rounding), 0
    for number in range(12):
        sampling = Sampling(grammar='root ::= ("ab" | "cd")+', temperature=temperature, seed=number)
        [finish] = guessed.answers([_tokens(f"{number:03}" + "abcdab" * 20)], sampling, 30)
        wrong += finish.drafted - finish.accepted
    assert wrong, "nothing was guessed wrongly"
    # A beginning that several have in common is there once.
    distinct = {tuple(held[:end]) for held in guessed.held() for end in range(1, len(held) + 1)}
    assert guessed.arena._tree.cells.used == len(distinct)


def test_a_full_window_leaves_no_room_for_guesses_and_the_answer_is_whole() -> None:
    prompt = _tokens(_TEXT * 2)
    room = len(_tokens(_TEXT))
    context = kv_context(_MODEL, num_ctx=len(prompt) + room, num_batch=64, num_ubatch=64)
    arena, loop, said = KvArena(_MODEL, context), Driven(Loop()), list[int]()
    arena.open("branch")
    work = arena.generate(
        "branch", prompt, Sampling(grammar=_literal(_TEXT)), room, said.append, guessing=Guessing()
    )
    loop.result(arena, work, Rank.DECODE)
    text = b"".join(_MODEL.pieces(said))
    assert len(said) == room or text == _TEXT.encode()
    assert _TEXT.encode().startswith(text)
