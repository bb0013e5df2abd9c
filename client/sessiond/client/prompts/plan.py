"""In which order prompts are computed, so that what they share is computed once.

Prompts that begin alike are the ways through a tree of their pieces. Depth first, whatever two of them share is done with
before anything else is begun: so it is enough that the way to the prompt at hand stays in the cells, and no order computes
fewer tokens. Of what two neighbours in this order share, more stands than of any earlier one: so a prompt may begin as soon as
the one before it has been computed, while that is still being answered.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Node:
    ends: list[int] = field(default_factory=list[int])
    """The ways that end here."""
    below: dict[Hashable, _Node] = field(default_factory=dict[Hashable, "_Node"])
    """By the next step, in the order in which they were first seen."""


def depth_first(ways: Sequence[Sequence[Hashable]]) -> list[int]:
    """The indices of the ways in the order in which they are gone: those that are alike beside each other, one that is the
    beginning of others before these, and else as they were given.
    """
    root = _Node()
    for index, way in enumerate(ways):
        node = root
        for step in way:
            node = node.below.setdefault(step, _Node())
        node.ends.append(index)
    order: list[int] = []
    left = [root]
    while left:  # no recursion: a prompt may have more pieces than a stack has frames
        node = left.pop()
        order += node.ends
        left += reversed(node.below.values())
    return order
