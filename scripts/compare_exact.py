"""Whether each of many streams says together with the others what it says alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from benchmark.at_once import at_once
from benchmark.texts import Piece
from benchmark.turns import complete, greedy, sessions
from compare_bench import Bench
from compare_verdict import Outcome
from sessiond.client import prefix_input


def exact(bench: Bench) -> Outcome:
    """Greedy texts in deterministic mode, bit for bit; and, for the record, in the other."""
    sizes, outcome = bench.sizes, Outcome()
    prefix, suffixes = bench.texts.take(sizes.alone), bench.texts.several(sizes.sessions, sizes.suffix)
    differing: dict[bool, int] = {}
    for deterministic in (True, False):
        alone = _texts(bench, 1, prefix, suffixes, deterministic=deterministic)
        crowd = _texts(bench, sizes.sessions, prefix, suffixes, deterministic=deterministic)
        differing[deterministic] = sum(a != b for a, b in zip(alone, crowd, strict=True))
    outcome.figures = {
        "unlike_alone": {"deterministic": differing[True], "default": differing[False]},
        "streams": sizes.sessions,
    }
    outcome.at_most("texts unlike those alone, deterministic", differing[True], 0)
    return outcome


def _texts(
    bench: Bench, crowd: int, prefix: Piece, suffixes: Sequence[Piece], *, deterministic: bool
) -> list[str]:
    """The greedy text after each suffix, `crowd` of them at a time."""
    sizes, config, found = bench.sizes, greedy(bench.sizes.answer), list[str]()
    root = bench.folder / f"exact-{crowd}-{deterministic}"
    window = sizes.alone + sizes.suffix + sizes.answer
    with sessions(bench.client, root, crowd, window, deterministic=deterministic) as opened:
        for start in range(0, len(suffixes), crowd):
            _, turns = at_once(
                [
                    partial(complete, session, piece.text, config, prefix_input(prefix.text))
                    for session, piece in zip(opened, suffixes[start : start + crowd], strict=True)
                ]
            )
            found += [turn.text for turn in turns]
    return found
