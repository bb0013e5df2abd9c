"""The kinds of turn that are measured, as scenarios: events that are repeated. No two kinds share a row.

A scenario goes on from the files as the one before it left them, so that the prefix is there and nothing is computed
twice for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from benchmark.results import MOST_SAMPLES, Limit, Row
from benchmark.sides import Event
from benchmark.statistics import LEAST_SAMPLES
from benchmark.texts import Piece
from benchmark.versions import Place, Version, Versions

SUFFIX = 16
"""Tokens of a question, where its length is not what is asked about."""
SUFFIXES = (1, 16, 64, 256, 1000, 4000)
QUICK_SUFFIX = 256
"""The longest that a quick run tries."""
DEPTHS = (1000, 4000)
"""A full run's, if nobody says otherwise: at 8,000 and more, peers that compute all again take hours."""
TURN_COST = 50
"""Tokens whose prefill takes about as long as what else belongs to a turn, for sharing out the time."""
LEAST_OF_WARM = 8
"""Samples of a warm row with a short suffix: of 5, one that is far off makes the interval too wide; of 8, it is left out of
it.
"""
SHORT_SUFFIX = 256
"""Tokens. What computes more takes so long that little is far off."""
WARM_UP_COST = 600
"""Tokens. A scenario that costs less in a repeat can spare its first one."""

WARM = Limit(floor_ratio=1.10, floor_extra_ms=5.0)
GROWS = Limit(floor_ratio=1.10, floor_extra_ms=5.0, peer_ratio=1.0)
COMES_BACK = Limit(floor_ratio=1.10, floor_extra_ms=5.0, peer_ratio=2.0)
SPEED = Limit(floor_ratio=1.11)
"""Nine tenths of the bare loop's."""
NEED_NOT_WAIT = Limit(floor_ratio=1.10, floor_extra_ms=5.0, peer_ratio=10.0)

Steps = Iterator[tuple[Row | None, Event]]


@dataclass(slots=True)
class Desk:
    """What scenarios of one depth share: the files as they stand, and texts that nobody has seen."""

    depth: int
    versions: Versions
    suffixes: tuple[int, ...]
    """Lengths of suffixes that are tried."""
    clients: int
    answer: int
    """Tokens of answers whose speed is measured."""
    version: Version = field(default_factory=lambda: Version({}, "", ()))
    """That everybody was asked about last."""
    deeper: bool = False
    """Whether there is a lesser depth, too: what takes longest is measured there alone."""

    def question(self, tokens: int = SUFFIX) -> Piece:
        """One that nobody has seen, about the version that stands."""
        return self.versions.question(tokens, self.version)

    def event(
        self, version: Version | None = None, *, client: int = 0, think: bool = False, keep: bool = False
    ) -> Event:
        """A short question about this version, or about the one that stands. It stands from then on."""
        self.version = version or self.version
        return Event(self.version, (self.question(),), client=client, think=think, keep=keep)

    def row(self, kind: str, label: str, limit: Limit | None = None, *, warm: bool = False) -> Row:
        """An empty one."""
        return Row(kind, label, self.depth, SUFFIX, warm=warm, limit=limit or Limit())


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is repeated. Each call of `steps` is one repeat."""

    kind: str
    rows: tuple[Row, ...]
    steps: Callable[[], Steps]
    cost: int
    """About so many tokens are computed by every side in one repeat."""
    most: int
    """Repeats that are enough, however wide the intervals are."""

    @property
    def least(self) -> int:
        """Repeats that are made in any case, if there is time: more where a row is short and noisy."""
        noisy = any(row.warm and row.suffix <= SHORT_SUFFIX for row in self.rows)
        return min(self.most, LEAST_OF_WARM if noisy else LEAST_SAMPLES)

    @property
    def wanted(self) -> int:
        """Repeats that it is given time for: all where they cost little."""
        return self.most if self.warms_up else min(self.most, LEAST_OF_WARM)

    @property
    def warms_up(self) -> bool:
        """Whether its first repeat is only to get everybody going: where one costs little."""
        return self.cost < WARM_UP_COST


def cold(desk: Desk) -> Scenario:
    """Nothing of the prefix is there. Then the others come to it, one after the other."""
    row = desk.row("cold", "cold")
    others = desk.row("client", "second and later clients", NEED_NOT_WAIT, warm=True)

    def steps() -> Steps:
        yield row, desk.event(desk.versions.fresh(desk.depth), keep=True)
        for client in range(1, desk.clients):
            yield others, desk.event(client=client)

    return Scenario("cold", (row, others), steps, desk.depth + TURN_COST * desk.clients, 7)


def again(desk: Desk) -> Scenario:
    """The same prefix and the same suffix once more."""
    row = desk.row("again", "same again", WARM, warm=True)

    def steps() -> Steps:
        event = desk.event()
        yield None, event
        yield row, event

    return Scenario("again", (row,), steps, 2 * TURN_COST, 25)


def suffix(desk: Desk, tokens: int) -> Scenario:
    """Another suffix over the same prefix."""
    row = Row("suffix", f"suffix of {tokens:,}", desk.depth, tokens, warm=True, limit=GROWS)

    def steps() -> Steps:
        if not row.samples:
            # About these files nobody has asked: there are enough tokens that a question can begin with.
            yield None, desk.event(desk.versions.edited(desk.version, "tail"))
        yield row, Event(desk.version, (desk.question(tokens),))

    return Scenario("suffix", (row,), steps, tokens + TURN_COST, 25 if tokens <= SHORT_SUFFIX else 9)


def edit(desk: Desk, place: Place, *, think: bool) -> Scenario:
    """A line of a file changes. Asked at once about the middle, it is then taken back: that is undo."""
    told = "then thinking" if think else "asked at once"
    where = {"head": "at the head", "middle": "in the middle", "tail": "at the tail"}[place]
    row = desk.row("edit", f"edit {where}, {told}", NEED_NOT_WAIT if think else None, warm=think)
    undo = desk.row("undo", "undo", COMES_BACK, warm=True)
    undone = place == "middle" and not think

    def steps() -> Steps:
        before = desk.version
        if undone:
            yield None, desk.event(keep=True)
        yield row, desk.event(desk.versions.edited(before, place), think=think)
        if undone:
            yield undo, desk.event(before)

    share = {"head": 1.0, "middle": 0.5, "tail": 1 / 16}[place]
    rows = (row, undo) if undone else (row,)
    return Scenario("edit", rows, steps, int(desk.depth * share) + 2 * TURN_COST, 15)


def branch(desk: Desk) -> Scenario:
    """Another branch is looked at for the first time, and then both once more."""
    first = desk.row("branch", "other branch, first look")
    back = desk.row("branch", "branch switch back", COMES_BACK, warm=True)
    there = desk.row("branch", "branch switch there again", COMES_BACK, warm=True)

    def steps() -> Steps:
        home = desk.version
        other = desk.versions.branched(home)
        yield None, desk.event(keep=True)
        yield first, desk.event(other, keep=True)
        yield back, desk.event(home)
        yield there, desk.event(other)
        yield None, desk.event(home)

    return Scenario("branch", (first, back, there), steps, desk.depth * 3 // 4 + 5 * TURN_COST, 15)


def crowd(desk: Desk) -> Scenario:
    """All clients ask at one moment about a prefix that only the first has had."""
    row = desk.row("crowd", f"{desk.clients} clients at once")

    def steps() -> Steps:
        yield None, desk.event(desk.versions.fresh(desk.depth), keep=True)
        yield row, Event(desk.version, tuple(desk.question() for _ in range(desk.clients)))

    return Scenario("crowd", (row,), steps, desk.depth * desk.clients, 5)


def decode_alone(desk: Desk) -> Scenario:
    """How fast one answer comes."""
    row = desk.row("decode", "each token, alone", SPEED, warm=True)
    row.metric = "token_ms"

    def steps() -> Steps:
        yield row, Event(desk.version, (desk.question(),), answer=desk.answer)

    return Scenario("decode", (row,), steps, TURN_COST + 8 * desk.answer, 15)


def decode_together(desk: Desk) -> Scenario:
    """How fast all answers come together, over one prefix."""
    row = desk.row("decode", f"each token, {desk.clients} together", SPEED)
    row.metric = "token_ms"

    def steps() -> Steps:
        questions = tuple(desk.question() for _ in range(desk.clients))
        yield row, Event(desk.version, questions, answer=desk.answer)

    # The first time, llama-server computes the prefix for every client.
    return Scenario("decode", (row,), steps, desk.clients * (TURN_COST + 8 * desk.answer), 11)


def restart(desk: Desk) -> Scenario:
    """The program ended, and is there again."""
    row = desk.row("restart", "after a restart")

    def steps() -> Steps:
        yield None, desk.event(keep=True)
        yield row, Event(desk.version, (desk.question(),), restart=True)

    return Scenario("restart", (row,), steps, desk.depth + 20 * TURN_COST, 5)


PLACES: tuple[Place, ...] = ("head", "middle", "tail")

CLASSES: dict[str, Callable[[Desk], list[Scenario]]] = {
    "cold": lambda desk: [cold(desk)],
    "again": lambda desk: [again(desk)],
    "suffix": lambda desk: [suffix(desk, tokens) for tokens in desk.suffixes],
    "edit": lambda desk: [edit(desk, place, think=think) for place in PLACES for think in (False, True)],
    "branch": lambda desk: [branch(desk)],
    "decode": lambda desk: [decode_alone(desk), decode_together(desk)],
    "crowd": lambda desk: [] if desk.deeper else [crowd(desk)],
    "restart": lambda desk: [restart(desk)],
}
"""By the names of `--classes`, in the order in which they are measured. The first makes the prefix, and is always done at
least once."""

QUICK: dict[str, Callable[[Desk], list[Scenario]]] = {
    "cold": CLASSES["cold"],
    "again": CLASSES["again"],
    "suffix": CLASSES["suffix"],
    "edit": lambda desk: [edit(desk, "middle", think=False), edit(desk, "middle", think=True)],
    "branch": CLASSES["branch"],
    "decode": lambda desk: [decode_alone(desk)],
}
"""What fits into some minutes."""


def scenarios(desk: Desk, chosen: list[str], *, quick: bool, most: int = MOST_SAMPLES) -> list[Scenario]:
    """Those of one depth, in their order, each repeated `most` times at most. Without "cold" its one repeat that makes the
    prefix is not kept.
    """
    known = QUICK if quick else CLASSES
    found = [scenario for name in known if name in chosen for scenario in known[name](desk)]
    return [replace(scenario, most=min(most, scenario.most)) for scenario in found]


def fitting(depth: int, window: int, answer: int, suffixes: Sequence[int] = SUFFIXES) -> tuple[int, ...]:
    """The lengths of suffixes that fit behind a prefix of that depth into a model's window; none if nothing does."""
    return tuple(tokens for tokens in suffixes if window_of(depth, (tokens,), answer) <= window)


def window_of(depth: int, suffixes: Sequence[int], answer: int) -> int:
    """Tokens that one client needs at most. The files come to about the depth: a few hundredths more at most."""
    return depth + depth // 32 + max(*suffixes, SUFFIX + answer) + 8
