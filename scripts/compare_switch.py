"""One session that goes to and fro between two prefixes: two branches, and an edit that is undone and done again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice

from benchmark.texts import Piece, joined
from benchmark.turns import complete, greedy, sessions
from compare_bench import FROM_SWITCH, Bench
from compare_server import LlamaServer
from compare_verdict import Outcome, median
from sessiond.client import PrefixInput, Session, prefix_input

FIRST_TOKEN = 1.2


@dataclass(slots=True)
class Side:
    """What one side needed, one figure a switch, the first of which is the start on A."""

    switch_ms: list[float] = field(default_factory=list[float])
    """First token of the turn that changes the prefix."""
    prefilled_tokens: list[int] = field(default_factory=list[int])
    """What that turn computed of prefix and suffix together."""
    plain_ms: list[float] = field(default_factory=list[float])
    """First token of the turn after it, which has another suffix and no other prefix."""

    def settled(self, figures: Sequence[float]) -> Sequence[float]:
        """The part of the figures in which nothing should have to be computed."""
        return figures[FROM_SWITCH:]


Branch = Sequence[Piece]


def switch(bench: Bench) -> Outcome:
    """Two branches that part in the middle of the prefix."""
    half = bench.sizes.prefix // 2
    head = bench.texts.take(bench.sizes.prefix - half)
    return _alternate(bench, "switch", [[head, bench.texts.take(half)], [head, bench.texts.take(half)]])


def undo(bench: Bench) -> Outcome:
    """A short piece in the middle of the prefix is edited, and the edit is undone and done again."""
    half, edited = bench.sizes.prefix // 2, bench.sizes.suffix
    head = bench.texts.take(bench.sizes.prefix - half)
    tail = bench.texts.take(half - edited)
    return _alternate(
        bench, "undo", [[head, bench.texts.take(edited), tail], [head, bench.texts.take(edited), tail]]
    )


def _alternate(bench: Bench, name: str, branches: Sequence[Branch]) -> Outcome:
    sizes, ours = bench.sizes, Side()
    with sessions(bench.client, bench.folder / name, 1, sizes.prefix + sizes.suffix) as [session]:
        theirs = {server.flags.name: Side() for server in bench.servers(session)}
        for branch in islice(cycle(branches), sizes.switches + 1):
            suffixes = bench.texts.several(2, sizes.suffix)
            _ours(session, branch, suffixes, ours)
            for server in bench.servers(session):
                _theirs(server, branch, suffixes, theirs[server.flags.name])
    return _verdict(bench, ours, theirs)


def _ours(session: Session, branch: Branch, suffixes: Sequence[Piece], side: Side) -> None:
    switching, plain = suffixes
    turn = complete(session, switching.text, greedy(1), _segments(branch))
    if turn.prefix.prefix_tokens != len(joined(branch)):
        raise RuntimeError("the daemon's prefix is not the one that the others are given")
    side.switch_ms.append(turn.first_token_ms)
    side.prefilled_tokens.append(turn.prefix.prefilled_tokens + turn.suffix.prefilled_tokens)
    side.plain_ms.append(complete(session, plain.text, greedy(1)).first_token_ms)


def _theirs(server: LlamaServer, branch: Branch, suffixes: Sequence[Piece], side: Side) -> None:
    switching, plain = ([*joined(branch), *piece.ids] for piece in suffixes)
    turn = server.complete(switching, 1)
    side.switch_ms.append(turn.first_token_ms)
    side.prefilled_tokens.append(turn.prefilled_tokens)
    side.plain_ms.append(server.complete(plain, 1).first_token_ms)


def _segments(branch: Branch) -> PrefixInput:
    return prefix_input(segments=[(str(index), piece.text) for index, piece in enumerate(branch)])


def _verdict(bench: Bench, ours: Side, theirs: dict[str, Side]) -> Outcome:
    outcome = Outcome()
    pairs = zip(ours.settled(ours.switch_ms), ours.settled(ours.plain_ms), strict=True)
    outcome.figures = {
        "ours": asdict(ours),
        # Tells a slow switch from a machine that was slow for a while.
        "worst_to_the_plain_turn_after_it": max(switching / plain for switching, plain in pairs),
        "llama_server": {name: asdict(side) for name, side in theirs.items()},
        "median_switch_to_llama_server": {
            name: median(ours.settled(ours.switch_ms)) / median(side.settled(side.switch_ms))
            for name, side in theirs.items()
        },
    }
    most = max(ours.settled(ours.prefilled_tokens))
    outcome.at_most("most tokens computed beside the suffix", max(0, most - bench.sizes.suffix), 0)
    worst = max(ours.settled(ours.switch_ms))
    plain = median(ours.settled(ours.plain_ms))
    outcome.at_most("worst first token / median of a plain turn", worst / plain, FIRST_TOKEN)
    return outcome
