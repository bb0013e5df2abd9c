"""One prompt as a turn of a session: what is asked, and what was heard so far."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from sessiond.client import requests
from sessiond.client.prompts.answers import Answer
from sessiond.client.prompts.plan import depth_first
from sessiond.client.prompts.prompt import Piece, Prompt
from sessiond.v1 import context_pb2, session_service_pb2
from sessiond.v1.errors import invalid

Heard = session_service_pb2.CompleteResponse


class Turn:
    """See the module. Raises InvalidInput for a prompt that is none; `field` names it."""

    def __init__(self, prompt: Prompt, index: int = 0, field: str = "prompt") -> None:
        self.prompt = prompt
        self.index = index
        pieces, messages = _parts(prompt, field)
        self.prefix_pieces = pieces
        segments = [_segment(number, piece) for number, piece in enumerate(pieces)]
        self.prefix = requests.prefix_input(segments=segments)
        self.suffix = requests.suffix_input(
            messages=[(piece.role or "user", piece.text) for piece in messages], mode="replace"
        )
        self.way: tuple[Hashable, ...] = (
            *((piece.text, "") for piece in pieces),
            *((piece.text, piece.role or "user") for piece in messages),
        )
        """What makes it share with others what it begins with."""
        self._texts: list[str] = []
        self._token_ids: list[int] = []
        self._logprobs: list[context_pb2.TokenLogprobs] = []
        self._prefix_status = context_pb2.PrefixStatus()
        self._suffix_status = context_pb2.SuffixStatus()
        self._summary: context_pb2.DecodeSummary | None = None

    @property
    def is_over(self) -> bool:
        """Whether the answer has ended."""
        return self._summary is not None

    def heard(self, part: Heard) -> bool:
        """Take the next part of the turn in. Whether it says that the whole prompt has been computed: one of them does."""
        match part.WhichOneof("event"):
            case "prefix_status":
                self._prefix_status = part.prefix_status
            case "suffix_status":
                self._suffix_status = part.suffix_status
                return True
            case _:
                self._texts.append(part.chunk.text)
                self._token_ids += part.chunk.token_ids
                self._logprobs += part.chunk.logprobs
                if part.chunk.HasField("summary"):
                    self._summary = part.chunk.summary
        return False

    def answer(self) -> Answer:
        """The answer, when it is over."""
        assert self._summary is not None
        return Answer(
            self.index,
            self.prompt,
            "".join(self._texts),
            tuple(self._token_ids),
            tuple(self._logprobs),
            self._prefix_status,
            self._suffix_status,
            self._summary,
        )


def planned(prompts: Iterable[Prompt | str], *, raw: bool) -> list[Turn]:
    """The turns of all prompts, in the order in which they are computed. Under `raw` roles make no difference. Raises
    InvalidInput that names the first prompt that is none.
    """
    if isinstance(prompts, str | Prompt):
        raise invalid("prompts", "one prompt was given; give a list of prompts")
    turns = [
        Turn(Prompt(given) if isinstance(given, str) else given, index, f"prompts[{index}]")
        for index, given in enumerate(prompts)
    ]
    ways = [_texts(turn) if raw else turn.way for turn in turns]
    return [turns[index] for index in depth_first(ways)]


def _texts(turn: Turn) -> list[Hashable]:
    return [piece.text for piece in turn.prompt.pieces]


def _parts(prompt: Prompt, field: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """The pieces that are nobody's, and the messages: at the end, and the last piece in any case."""
    pieces = prompt.pieces
    if not pieces:
        raise invalid(field, "is empty")
    first = next((index for index, piece in enumerate(pieces) if piece.role), len(pieces) - 1)
    if any(not piece.role for piece in pieces[first:-1]):
        raise invalid(field, "has a text that is no message between messages")
    return pieces[:first], pieces[first:]


def _segment(number: int, piece: Piece) -> context_pb2.SegmentInput:
    return requests.made(context_pb2.SegmentInput, id=f"piece {number}", text=piece.text, path=piece.path)
