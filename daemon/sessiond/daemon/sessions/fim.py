"""Fill in the middle: the texts around a cursor between the tokens that the model was trained to find there.

No frames: what follows is code, and no turn of a conversation. How the texts are cut stands in `window`, and why the layout
is so in ADR 17.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from sessiond.daemon.engine.seat import Texts
from sessiond.daemon.sessions.window import Window, beginning, ending
from sessiond.v1.errors import UnsupportedFeature

ANSWER_TOKENS = 256
"""Room that is left for an answer whose size nobody said, but at most a quarter of what is free."""
AFTER_TOKENS = 256
"""Of the text after the cursor at most, and of all text at most a quarter. With the text before the cursor in front of it, it
is computed again at every key."""
LEAST_TEXT = 16
"""Tokens of text. With less room it is not worth asking a model."""


@dataclass(frozen=True, slots=True)
class FimRequest:
    """The texts on both sides of the cursor."""

    before: str
    after: str
    path: str = ""
    """Of the file that they are; told to models that know of files."""
    suffix_first: bool = False
    """The text after the cursor stands before the one before it."""


@dataclass(frozen=True, slots=True)
class Fill:
    """A window of the texts, as tokens."""

    tokens: list[int]
    before: str
    """What was taken of the text before the cursor."""
    after: str


class NoWindow(Exception):
    """There is no room for a window worth asking about."""

    def __init__(self, tokens: int) -> None:
        super().__init__(f"{tokens} tokens are needed")
        self.tokens = tokens
        """That are needed at least."""


async def build_fim(engine: Texts, request: FimRequest, room: int) -> Fill:
    """The tokens of a window of the request's texts, at most `room`. Raises UnsupportedFeature, NoWindow."""
    marks = engine.facts.vocab.fim
    if marks is None:
        raise UnsupportedFeature("fim", engine.facts.backend)
    tokenize = functools.partial(tokenize_inside, engine)
    head: list[int] = []
    if request.path and marks.file is not None:
        [path] = await tokenize([f"{request.path}\n"])
        head = [marks.file, *path]
    text_room = room - len(head) - 3
    if text_room < LEAST_TEXT:
        raise NoWindow(len(head) + 3 + LEAST_TEXT)
    # What one side leaves of its share is not given to the other: its border would move with every change of the first.
    after_room = min(AFTER_TOKENS, text_room // 4)
    after = await beginning(request.after, after_room, tokenize)
    before = await ending(request.before, text_room - after_room, tokenize)
    parts = [(marks.prefix, before), (marks.suffix, after)]
    if request.suffix_first:
        parts.reverse()
    tokens = [*head, *_marked(parts), marks.middle]
    return Fill(tokens, before.text, after.text)


def _marked(parts: Sequence[tuple[int, Window]]) -> list[int]:
    return [token for mark, window in parts for token in (mark, *window.tokens)]


async def tokenize_inside(engine: Texts, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of texts that go on others: without the space that some tokenizers put before every text."""
    if not engine.facts.vocab.opens_with_space:
        return await engine.tokenize(texts)
    [opening, *runs] = await engine.tokenize(["\n", *(f"\n{text}" for text in texts)])
    cut = len(opening)
    return [
        run[cut:] if run[:cut] == opening else (await engine.tokenize([text]))[0]
        for text, run in zip(texts, runs, strict=True)
    ]
