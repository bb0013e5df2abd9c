"""A prompt: pieces of text, one after the other. A value: building one asks nobody, and none is ever changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from sessiond.client.requests import PathLike
from sessiond.v1.errors import invalid

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Piece:
    """A text that is tokenized by itself."""

    text: str
    path: str = ""
    """The file it came from, relative, with slashes; empty if none."""
    role: str = ""
    """Whose message it is; empty for a text that is nobody's: then it stands where it is put."""


class Prompt:
    """Pieces, joined with `+`: with other prompts, and with texts.

    What is asked is the last piece: under the model's own template, or another format that has messages, it is a turn of the
    user, and the pieces before it are what the system message says. Under "raw" all is one text. Messages of a conversation
    (`message`, `user`, `assistant`) may stand after the pieces that are nobody's.

    An empty text is no piece: `Prompt()` joined with a prompt is that prompt.
    """

    __slots__ = ("_pieces",)

    def __init__(self, text: str = "", *, path: str = "") -> None:
        self._pieces: tuple[Piece, ...] = (Piece(text, path),) if text else ()

    @classmethod
    def file(cls, path: PathLike, *, name: str = "") -> Prompt:
        """The text of a file as it is now. `name` is how it is called where a prompt is explained; without one it is the
        path, or the file's own name where that leads out of the current folder. Raises InvalidInput if it is no text.
        """
        place = Path(path)
        try:
            text = place.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise invalid("path", f"{place} is no text: {error}") from error
        return cls(text, path=name or _called(place))

    @classmethod
    def message(cls, role: str, text: str) -> Prompt:
        """A message of a conversation, also an empty one. Raises InvalidInput for an unknown role."""
        if role not in ROLES:
            raise invalid("role", f"{role!r} is none of {', '.join(ROLES)}")
        return cls._of((Piece(text, role=role),))

    @classmethod
    def user(cls, text: str) -> Prompt:
        """A message of the user."""
        return cls.message("user", text)

    @classmethod
    def assistant(cls, text: str) -> Prompt:
        """A message of the model."""
        return cls.message("assistant", text)

    @classmethod
    def _of(cls, pieces: tuple[Piece, ...]) -> Prompt:
        made = cls()
        made._pieces = pieces
        return made

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """From the first to the last."""
        return self._pieces

    def beginnings(self) -> Iterator[Prompt]:
        """The prompts that it begins with, the shortest first and itself last: each is a node of a graph."""
        return (self._of(self._pieces[:count]) for count in range(1, len(self._pieces) + 1))

    def __add__(self, other: Prompt | str) -> Prompt:
        added = _prompt(other)
        return NotImplemented if added is None else self._of(self._pieces + added._pieces)

    def __radd__(self, other: str) -> Prompt:
        added = _prompt(other)
        return NotImplemented if added is None else added + self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prompt) and self._pieces == other._pieces

    def __hash__(self) -> int:
        return hash(self._pieces)

    def __str__(self) -> str:
        return "".join(piece.text for piece in self._pieces)

    def __repr__(self) -> str:
        return " + ".join(map(_shown, self._pieces)) or "Prompt()"


def _prompt(other: object) -> Prompt | None:
    """A prompt, or a text as one; None for what is neither."""
    if isinstance(other, str):
        return Prompt(other)
    return other if isinstance(other, Prompt) else None


def _called(place: Path) -> str:
    """A file's path, if it can be one in a workspace."""
    pure = PurePath(place)
    return place.name if pure.is_absolute() or ".." in pure.parts else pure.as_posix()


def _shown(piece: Piece) -> str:
    text = piece.text if len(piece.text) <= 40 else f"{piece.text[:39]}…"
    if piece.role:
        return f"Prompt.message({piece.role!r}, {text!r})"
    return f"Prompt({text!r}, path={piece.path!r})" if piece.path else f"Prompt({text!r})"
