"""Many sessions over one warm prefix, each with a suffix of its own, all asking at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TypeVar

from benchmark.at_once import at_once
from benchmark.floor_loop import Ask
from benchmark.floor_process import FloorProcess
from benchmark.llama_server import ServerTurn
from benchmark.texts import Piece
from benchmark.turns import TURN_SECONDS, Turn, complete, greedy, sessions
from compare_bench import Bench
from compare_server import LlamaServer
from compare_verdict import Outcome, median
from sessiond.client import Session, prefix_input

AnyTurn = TypeVar("AnyTurn", Turn, ServerTurn)

PREFILLED, FIRST_TOKENS = 1.02, 1 / 15


@dataclass(slots=True)
class Side:
    """What one side needed, one figure a round."""

    wall_ms: list[float] = field(default_factory=list[float])
    """Until every session had its first token, while the prefix was warm and the sessions were new to it."""
    again_ms: list[float] = field(default_factory=list[float])
    """The same once more with new suffixes: every session has had this prefix."""
    prefilled_tokens: list[int] = field(default_factory=list[int])
    """All that was computed for a round, the warming included; not that of `again_ms`."""


@dataclass(frozen=True, slots=True)
class Round:
    """The work of one round."""

    prefix: Piece
    first: Sequence[Piece]
    second: Sequence[Piece]


def eight(bench: Bench) -> Outcome:
    """See the module. Each round has a new prefix, and is done by one side after the other. The variants of llama-server
    beside the first, which take minutes, take part in the last round only.
    """
    sizes, ours, bare_ms = bench.sizes, Side(), list[float]()
    window = sizes.prefix + sizes.suffix
    with sessions(bench.client, bench.folder / "eight", sizes.sessions, window) as opened:
        servers = bench.servers(opened[0])
        theirs = {server.flags.name: Side() for server in servers}
        with bench.bare(opened[0]) as bare:
            for number in range(1, sizes.rounds + 1):
                work = Round(
                    bench.texts.take(sizes.prefix),
                    bench.texts.several(sizes.sessions, sizes.suffix),
                    bench.texts.several(sizes.sessions, sizes.suffix),
                )
                _ours(opened, work, ours)
                bare_ms.append(_bare(bare, work))
                for server in servers if number == sizes.rounds else servers[:1]:
                    _theirs(server, work, theirs[server.flags.name])
                bench.share(work.prefix)
    return _verdict(bench, ours, bare_ms, theirs)


def _ours(opened: Sequence[Session], work: Round, side: Side) -> None:
    warming = opened[0].ensure_prefix(text=work.prefix.text, timeout=TURN_SECONDS).status
    if warming.prefix_tokens != len(work.prefix.ids):
        raise RuntimeError("the daemon's prefix is not the one that the others are given")
    prefix, config = prefix_input(work.prefix.text), greedy(1)

    def asking(pieces: Sequence[Piece]) -> list[Callable[[], Turn]]:
        pairs = zip(opened, pieces, strict=True)
        return [partial(complete, session, piece.text, config, prefix) for session, piece in pairs]

    first, turns = _wall_ms(asking(work.first))
    again, _ = _wall_ms(asking(work.second))
    computed = sum(turn.prefix.prefilled_tokens + turn.suffix.prefilled_tokens for turn in turns)
    side.wall_ms.append(first)
    side.again_ms.append(again)
    side.prefilled_tokens.append(warming.prefilled_tokens + computed)


def _theirs(server: LlamaServer, work: Round, side: Side) -> None:
    warming = server.complete(work.prefix.ids, 1)

    def asking(pieces: Sequence[Piece]) -> list[Callable[[], ServerTurn]]:
        return [partial(server.complete, [*work.prefix.ids, *piece.ids], 1) for piece in pieces]

    first, turns = _wall_ms(asking(work.first))
    again, _ = _wall_ms(asking(work.second))
    side.wall_ms.append(first)
    side.again_ms.append(again)
    side.prefilled_tokens.append(warming.prefilled_tokens + sum(turn.prefilled_tokens for turn in turns))


def _bare(bare: FloorProcess, work: Round) -> float:
    """The bare work: all suffixes in one batch."""
    return bare.ran(Ask(work.prefix.ids, tuple(piece.ids for piece in work.first), 1)).first_ms


def _wall_ms(acts: Sequence[Callable[[], AnyTurn]]) -> tuple[float, list[AnyTurn]]:
    """From when all ask until the last of them has its first token."""
    begun, turns = at_once(acts)
    return (max(turn.first_at for turn in turns) - begun) * 1e3, turns


def _verdict(bench: Bench, ours: Side, bare_ms: Sequence[float], theirs: dict[str, Side]) -> Outcome:
    sizes, outcome = bench.sizes, Outcome()
    needed = sizes.prefix + sizes.sessions * sizes.suffix
    outcome.figures = {
        "needed_tokens": needed,
        "ours": asdict(ours),
        "bare_ms": list(bare_ms),
        "llama_server": {name: asdict(side) for name, side in theirs.items()},
        "wall_to_bare": median(ours.wall_ms) / median(bare_ms),
    }
    outcome.at_most("prefilled / (prefix + suffixes)", max(ours.prefilled_tokens) / needed, PREFILLED)
    name = "time of all first tokens / llama-server's"
    if not theirs:
        outcome.not_measured.append(name)
        return outcome
    best = min(median(side.wall_ms) for side in theirs.values())
    best_again = min(median(side.again_ms) for side in theirs.values())
    outcome.figures["again_to_llama_server"] = median(ours.again_ms) / best_again
    outcome.at_most(name, median(ours.wall_ms) / best, FIRST_TOKENS)
    return outcome
