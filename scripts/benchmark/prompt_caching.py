"""The table of older demonstrations of prompt caching: one prompt is computed and saved, and each question restores it.

It shows what the floor's functions cost one by one: reset, eval, save state, load state, eval prompt, main sample.
"""

from __future__ import annotations

import statistics

from benchmark.floor import Floor
from benchmark.floor_loop import Caching, Phase
from benchmark.results import CachingRow
from benchmark.texts import Texts

QUESTIONS, QUESTION, ANSWER = 7, 16, 32
"""How many; tokens of each, and of each answer."""
ROOM = QUESTION + ANSWER + 64
"""Tokens of the window behind the prompt."""
STEPS = ("reset", "eval", "save state", "load state", "eval prompt", "main sample")


def measured(floor: Floor, texts: Texts, depth: int) -> list[CachingRow]:
    """The table, with medians of what is done for each question. Raises NotMeasured."""
    prompt = texts.take(depth)
    questions = tuple(piece.ids for piece in texts.several(QUESTIONS, QUESTION))
    return summed(floor.caching(Caching(prompt.ids, questions, ANSWER)))


def summed(phases: list[Phase]) -> list[CachingRow]:
    """One line for each step, in their order."""
    found: list[CachingRow] = []
    for name in STEPS:
        of_name = [phase for phase in phases if phase.name == name]
        if of_name:
            last = of_name[-1]
            ms = statistics.median(phase.ms for phase in of_name)
            found.append(CachingRow(name, ms, last.tokens, last.size_bytes, len(of_name)))
    return found
