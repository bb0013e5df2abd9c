"""The files that are asked about: one text for all sides, as files and as tokens, and what edits make of it."""

from __future__ import annotations

import hashlib
from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Literal

from benchmark.texts import Piece, Texts
from sessiond.daemon.workspace import classify
from sessiond.daemon.workspace.assemble import assemble
from sessiond.daemon.workspace.filling import framed
from sessiond.daemon.workspace.segment import LeftOut

Place = Literal["head", "middle", "tail"]

FILES = 16
"""Of a version. Enough that head, middle and tail are far apart, and few enough that frames are a small part."""
LEAST_FILE = 80
"""Tokens. Below it a file would be little but its frame."""
_TRIES = 20
"""Texts that are looked at before one is found that a prompt may hold: a few of the sources look like secrets."""
_KEPT_TOKENIZATIONS = 4096

Tokenize = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True)
class File:
    """One file of a version."""

    path: str
    number: int
    """Of its first line: another one is an edit that moves no token behind it."""
    body: str

    @property
    def content(self) -> str:
        """What the file holds."""
        return f"# {self.path} {self.number:06}\n{self.body}"

    @property
    def framed(self) -> str:
        """As it stands in the prompt."""
        return framed(self.path, self.content)


@dataclass(frozen=True, slots=True)
class Version:
    """The files at one moment, and what stands of them in the prompt."""

    contents: Mapping[str, bytes]
    """Of every file, by path."""
    text: str
    """The whole prefix."""
    ids: tuple[int, ...]
    """Its tokens, those of each file by itself."""
    parts: tuple[File, ...] = ()
    """The files that `Versions` made it of, in the order in which they stand."""

    @property
    def token_hash(self) -> str:
        """SHA-256 of the tokens as little-endian 32-bit numbers, as the contract hashes them."""
        return token_hash(self.ids)


class Versions:
    """Makes versions, none of which has been there before, and questions about them."""

    def __init__(self, texts: Texts, tokenize: Tokenize) -> None:
        self._texts = texts
        self._number = 0
        self._began: defaultdict[str, set[int]] = defaultdict(set)
        """The first tokens of the questions about each version, by the version's hash."""

        def tokens(text: str) -> tuple[int, ...]:
            return tuple(tokenize(text))

        self._tokens = lru_cache(_KEPT_TOKENIZATIONS)(tokens)

    def fresh(self, depth: int) -> Version:
        """So many tokens, or those of the frame of a file if that has more, which share nothing with any other version.
        Raises RuntimeError if there is no text.
        """
        # Names are new, too: else the beginning of the first file would be known.
        name = hashlib.sha256(str(self._next()).encode()).hexdigest()[:6]
        count = max(1, min(FILES, depth // LEAST_FILE))
        files: list[File] = []
        for index in range(count):
            share = depth * (index + 1) // count - depth * index // count
            files.append(self._filled(File(f"{name}-{index:02}.py", self._next(), ""), share))
        return self._of(files)

    def edited(self, version: Version, place: Place) -> Version:
        """One line is another one."""
        last = len(version.parts) - 1
        return self._renumbered(version, {{"head": 0, "middle": last // 2 + last % 2, "tail": last}[place]})

    def branched(self, version: Version) -> Version:
        """Every other file is another one, from a quarter on."""
        return self._renumbered(version, set(range(len(version.parts) // 4, len(version.parts), 2)))

    def question(self, tokens: int, version: Version) -> Piece:
        """A text of exactly so many tokens that nobody has seen after this version. As long as the tokenizer has enough of
        them, it begins with another token than every question before it: else a part of it would be there, and less than
        all of it would be computed.
        """
        began = self._began[version.token_hash]
        found = self._texts.take(tokens, began)
        began.add(found.ids[0])
        return found

    def of_folder(self, root: Path, contents: Mapping[str, bytes], max_tokens: int) -> Version:
        """Files of any origin that lie in a folder, as the daemon assembles them. Raises SessiondError."""
        assembly = assemble(root, lambda texts: [len(self._tokens(text)) for text in texts], max_tokens)
        texts = [segment.text for segment in assembly.segments]
        ids = tuple(token for text in texts for token in self._tokens(text))
        return Version(dict(contents), "".join(texts), ids)

    def _renumbered(self, version: Version, places: set[int]) -> Version:
        return self._of(
            [
                File(file.path, self._next(), file.body) if index in places else file
                for index, file in enumerate(version.parts)
            ]
        )

    def _of(self, files: Sequence[File]) -> Version:
        return Version(
            {file.path: file.content.encode() for file in files},
            "".join(file.framed for file in files),
            tuple(token for file in files for token in self._tokens(file.framed)),
            tuple(files),
        )

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _filled(self, empty: File, tokens: int) -> File:
        """The file with a body, so that it has so many tokens in all: where frame and body meet, there may be more or fewer
        than those of each by itself. Raises RuntimeError if there is no such text.
        """
        room = max(1, tokens - len(self._tokens(empty.framed)))
        whole = len(self._tokens(empty.framed)) + room
        for _ in range(_TRIES):
            filled = replace(empty, body=self._texts.take(room).text)
            over = len(self._tokens(filled.framed)) - whole
            if not over and not isinstance(classify.by_content("a.py", filled.body.encode()), LeftOut):
                return filled
            room = max(1, room - over)
        raise RuntimeError(f"no text of {room} tokens was found that may stand in a prompt")


def token_hash(ids: Sequence[int]) -> str:
    """SHA-256 of tokens as little-endian 32-bit numbers."""
    numbers = array("i", ids)
    if numbers.itemsize != 4:
        raise RuntimeError("this machine's int is not of 32 bits")
    return hashlib.sha256(numbers.tobytes()).hexdigest()
