"""What each piece of some prompts cost in the last run: tokens that were computed for it, tokens that stood, and time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sessiond.client.prompts.prompt import Piece, Prompt
from sessiond.client.prompts.turn import Turn
from sessiond.v1 import context_pb2

Way = tuple[Piece, ...]
"""A piece, and all that stands before it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one piece, over all prompts of a run that have it at this place."""

    tokens: int
    """It has so many. What frames a message, or opens the prompt, counts with the piece it comes before; what several
    messages have stands at the last of them.
    """
    computed_tokens: int = 0
    kept_tokens: int = 0
    """Tokens that were there already, or came back from memory or disk, instead of being computed; once for each use."""
    computed_ms: float = 0.0
    """Time in which they were computed: that of a turn, shared out by tokens."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            other.tokens,
            self.computed_tokens + other.computed_tokens,
            self.kept_tokens + other.kept_tokens,
            self.computed_ms + other.computed_ms,
        )


class Costs:
    """Of every piece that a run has had, by its way."""

    def __init__(self) -> None:
        self._by_way: dict[Way, Cost] = {}
        self.prompts: tuple[Prompt, ...] = ()
        """Of the last run, in the order given."""

    def of(self, way: Way) -> Cost | None:
        """None if it has not been run."""
        return self._by_way.get(way)

    def begin(self, turns: Iterable[Turn]) -> None:
        """A run of these begins: what its pieces cost before counts no more."""
        self.prompts = tuple(turn.prompt for turn in sorted(turns, key=lambda turn: turn.index))
        for prompt in self.prompts:
            for count in range(1, len(prompt.pieces) + 1):
                self._by_way.pop(prompt.pieces[:count], None)

    def heard(
        self,
        turn: Turn,
        prefix: context_pb2.PrefixStatus,
        suffix: context_pb2.SuffixStatus,
        report: context_pb2.ContextReport,
        prefill_ms: float,
    ) -> None:
        """A turn is over; the report says where its segments are."""
        pieces, ends = turn.prompt.pieces, _ends(turn, report)
        computed = [*_tail(ends, prefix.prefilled_tokens), suffix.prefilled_tokens]
        tokens = [*_sizes(ends), suffix.suffix_tokens]
        # The messages are one suffix; its tokens stand at the last one.
        places = [*range(1, len(turn.prefix_pieces) + 1), len(pieces)]
        per_token = prefill_ms / max(1, sum(computed))
        for place, size, new in zip(places, tokens, computed, strict=True):
            cost = Cost(size, new, size - new, new * per_token)
            before = self._by_way.get(pieces[:place])
            self._by_way[pieces[:place]] = cost if before is None else before + cost


def _ends(turn: Turn, report: context_pb2.ContextReport) -> list[int]:
    """Where the tokens of each piece of the prefix end."""
    by_id = {told.id: told.token_end for told in report.manifest.segments}
    return [by_id.get(segment.id, 0) for segment in turn.prefix.segments.segments]


def _sizes(ends: Sequence[int]) -> list[int]:
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def _tail(ends: Sequence[int], computed: int) -> list[int]:
    """How many of each piece's tokens are among the last `computed` ones: what stands is where a prefix begins."""
    first = (ends[-1] if ends else 0) - computed
    return [max(0, end - max(start, first)) for start, end in zip([0, *ends], ends, strict=False)]
