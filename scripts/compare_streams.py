"""How fast many streams decode together over one warm prefix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

from benchmark.at_once import at_once
from benchmark.floor_loop import Ask
from benchmark.stamps import together
from benchmark.texts import Piece
from benchmark.turns import TURN_SECONDS, decode, greedy, sessions
from compare_bench import Bench
from compare_server import LlamaServer
from compare_verdict import Outcome, median
from sessiond.client import Session

SPEED = 0.9


@dataclass(slots=True)
class Side:
    """What one side reached, one figure a repeat."""

    tokens_per_second: list[float] = field(default_factory=list[float])
    """Of all streams, while all of them were decoding."""


def streams(bench: Bench) -> Outcome:
    """See the module. Each repeat has new suffixes, and is done by one side after the other."""
    sizes, ours, floor = bench.sizes, Side(), Side()
    prefix = bench.prefix()
    window = sizes.prefix + sizes.suffix + sizes.answer
    with sessions(bench.client, bench.folder / "streams", sizes.sessions, window) as opened:
        for session in opened:
            session.ensure_prefix(text=prefix.text, timeout=TURN_SECONDS)
        theirs = {server.flags.name: Side() for server in bench.servers(opened[0])}
        with bench.bare(opened[0]) as bare:
            for repeat in range(sizes.repeats + 1):
                suffixes = bench.texts.several(sizes.sessions, sizes.suffix)
                speed = _ours(bench, opened, suffixes)
                asked = Ask(prefix.ids, tuple(piece.ids for piece in suffixes), sizes.answer)
                bare_speed = together(bare.ran(asked).streams)
                speeds = {
                    server.flags.name: _theirs(bench, server, prefix, suffixes)
                    for server in bench.servers(opened[0])
                }
                if repeat:  # the first one warms all of them up
                    ours.tokens_per_second.append(speed)
                    floor.tokens_per_second.append(bare_speed)
                    for name, side in theirs.items():
                        side.tokens_per_second.append(speeds[name])
    return _verdict(ours, floor, theirs)


def _ours(bench: Bench, opened: Sequence[Session], suffixes: Sequence[Piece]) -> float:
    for session, piece in zip(opened, suffixes, strict=True):
        session.prefill_suffix(piece.text, mode="replace", timeout=TURN_SECONDS)
    config = greedy(bench.sizes.answer, never=bench.texts.end_tokens)
    _, turns = at_once([partial(decode, session, config) for session in opened])
    return together([turn.stamps for turn in turns])


def _theirs(bench: Bench, server: LlamaServer, prefix: Piece, suffixes: Sequence[Piece]) -> float:
    prompts = [[*prefix.ids, *piece.ids] for piece in suffixes]
    _, turns = at_once([partial(server.complete, prompt, bench.sizes.answer) for prompt in prompts])
    return together([turn.stamps for turn in turns])


def _verdict(ours: Side, floor: Side, theirs: dict[str, Side]) -> Outcome:
    outcome = Outcome()
    speed = median(ours.tokens_per_second)
    outcome.figures = {
        "ours": asdict(ours),
        "bare": asdict(floor),
        "llama_server": {name: asdict(side) for name, side in theirs.items()},
        "speed_to_llama_server": {
            name: speed / median(side.tokens_per_second) if any(side.tokens_per_second) else None
            for name, side in theirs.items()
        },
    }
    outcome.at_least("speed together / a bare batch loop's", speed / median(floor.tokens_per_second), SPEED)
    return outcome
