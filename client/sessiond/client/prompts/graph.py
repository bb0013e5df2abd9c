"""Prompts as a graph: each piece once at each place, what it cost in the last run, and where its KV is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sessiond.client.cli.terminal_text import clean_line
from sessiond.client.prompts.costs import Cost, Costs, Way
from sessiond.client.prompts.prompt import Piece, Prompt
from sessiond.client.prompts.turn import Turn
from sessiond.v1 import context_pb2

LABEL = 40
"""Characters of a piece that are shown."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the KV of a piece is, in tokens."""

    resident: int = 0
    memory: int = 0
    disk: int = 0
    missing: int = 0
    """They would have to be computed."""

    def words(self) -> str:
        """For people."""
        told = {
            "resident": self.resident,
            "in memory": self.memory,
            "on disk": self.disk,
            "not computed": self.missing,
        }
        some = {word: count for word, count in told.items() if count}
        if len(some) == 1:
            return next(iter(some))
        return ", ".join(f"{count:,} {word}" for word, count in some.items()) or "no tokens"


@dataclass(frozen=True, slots=True)
class Node:
    """A piece at one place."""

    way: Way
    """The piece, and all that stands before it."""
    above: Node | None
    prompts: tuple[int, ...]
    """Which prompts end here."""
    cost: Cost | None
    """None for one that was in no run, or one of several messages that are computed as one."""
    places: Places | None
    """None where no session stands on it: it may still be there, and will be walked to if it is."""

    @property
    def piece(self) -> Piece:
        """Its own."""
        return self.way[-1]

    @property
    def label(self) -> str:
        """A file's path, or the beginning of a text."""
        told = clean_line(self.piece.path or self.piece.text)
        told = told if len(told) <= LABEL else f"{told[: LABEL - 1]}…"
        return f"{self.piece.role}: {told}" if self.piece.role else told

    @property
    def state(self) -> str:
        """Where it is, in words."""
        if self.places is not None:
            return self.places.words()
        return "not computed" if self.cost is None else "not held"


@dataclass(frozen=True, slots=True)
class Graph:
    """See the module. As text it is a tree, one piece a line."""

    nodes: tuple[Node, ...]
    """Each after the one above it."""

    @classmethod
    def of(
        cls,
        prompts: Iterable[Prompt],
        costs: Costs,
        held: Sequence[tuple[Turn, context_pb2.ContextReport]],
    ) -> Graph:
        """Of some prompts, given what they cost and what sessions say that stand on some of them."""
        ends: dict[Way, list[int]] = {}
        for index, prompt in enumerate(prompts):
            for beginning in prompt.beginnings():
                ends.setdefault(beginning.pieces, [])
            if prompt.pieces:
                ends[prompt.pieces].append(index)
        places = {way: found for turn, report in held for way, found in _places(turn, report, costs)}
        made: dict[Way, Node] = {}
        for way, prompts_here in ends.items():
            node = Node(way, made.get(way[:-1]), tuple(prompts_here), costs.of(way), places.get(way))
            made[way] = node
        return cls(tuple(made.values()))

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """A tree, with what each piece cost in the last run."""
        rows: list[tuple[str, ...]] = [("PIECE", "TOKENS", "COMPUTED", "KEPT", "MS", "WHERE")]
        rows += [self._row(node, indent) for node, indent in self._down()]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        return "\n".join(
            "  ".join(
                [
                    row[0].ljust(widths[0]),
                    *(row[column].rjust(widths[column]) for column in range(1, 5)),
                    row[5],
                ]
            )
            for row in rows
        )

    def mermaid(self) -> str:
        """A flow chart in the language of Mermaid."""
        names = {node.way: f"p{index}" for index, node in enumerate(self.nodes)}
        lines = ["flowchart TD"]
        for node in self.nodes:
            name = names[node.way]
            told = [node.label, node.state]
            if node.cost is not None:
                told.insert(1, f"{node.cost.tokens:,} tokens, {node.cost.computed_tokens:,} computed")
            lines.append(f'    {name}["{"<br>".join(map(_quoted, told))}"]')
            if node.above is not None:
                lines.append(f"    {names[node.above.way]} --> {name}")
        return "\n".join(lines)

    def _down(self) -> Iterator[tuple[Node, int]]:
        """Depth first, with how deep it is."""
        below: dict[Way, list[Node]] = {}
        for node in self.nodes:
            below.setdefault(node.way[:-1], []).append(node)
        left = list(reversed(below.get((), [])))
        while left:
            node = left.pop()
            yield node, len(node.way) - 1
            left += reversed(below.get(node.way, []))

    @staticmethod
    def _row(node: Node, indent: int) -> tuple[str, ...]:
        name, cost = f"{'  ' * indent}{node.label}", node.cost
        if cost is None:
            return (name, "", "", "", "", node.state)
        figures = (cost.tokens, cost.computed_tokens, cost.kept_tokens)
        return (name, *(f"{figure:,}" for figure in figures), f"{cost.computed_ms:,.1f}", node.state)


def _places(turn: Turn, report: context_pb2.ContextReport, costs: Costs) -> Iterator[tuple[Way, Places]]:
    """Of each piece on which a session stands, where its KV is."""
    told = {residence.segment.id: residence for residence in report.segments}
    pieces = turn.prompt.pieces
    for index, segment in enumerate(turn.prefix.segments.segments):
        residence = told.get(segment.id)
        if residence is not None:
            yield (
                pieces[: index + 1],
                Places(
                    residence.resident_tokens,
                    residence.memory_tokens,
                    residence.disk_tokens,
                    residence.missing_tokens,
                ),
            )
    # The report knows no more of what follows the prefix than how far cells reach.
    cost = costs.of(pieces)
    if cost is not None and report.suffix_tokens:
        resident = min(cost.tokens, max(0, report.resident_tokens - report.prefix_tokens))
        yield pieces, Places(resident=resident, missing=cost.tokens - resident)


def _quoted(text: str) -> str:
    """A label may hold anything: what means something to Mermaid or to HTML is written as an entity."""
    return "".join(char if char.isalnum() or char in " .,:/_-…" else f"#{ord(char)};" for char in text)
