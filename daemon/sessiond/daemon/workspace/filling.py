"""Files that are read and taken as long as a token budget lasts."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sessiond.daemon.workspace import classify
from sessiond.daemon.workspace.beneath import TooLargeError, open_folder, read_file, why_unread
from sessiond.daemon.workspace.segment import LeftOut

_MOST_BYTES_PER_TOKEN = 16
"""No text is denser as a whole. A file with more than this for each token that is left is not even counted."""
_BATCH_FILES = 64
_BATCH_BYTES = 1 << 20

TokenCounter = Callable[[Sequence[str]], list[int]]
"""The number of tokens of each text."""


def framed(path: str, content: str) -> str:
    """A file's content as it stands in the prompt."""
    return f"=== {path} ===\n{content}\n"


def size_of(root_fd: int, path: str, buffers: Mapping[str, str]) -> int:
    """Bytes of a file, or of the unsaved text that stands in for it; 0 if that cannot be told."""
    if path in buffers:
        return len(buffers[path].encode("utf-8", "surrogatepass"))
    parent, _, name = path.encode().rpartition(b"/")
    try:
        with open_folder(root_fd, parent) as parent_fd:
            return os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_size
    except OSError:
        return 0


@dataclass(frozen=True, slots=True)
class FileText:
    """A file that may go in."""

    path: str
    content: str

    @property
    def framed(self) -> str:
        """As it stands in the prompt."""
        return framed(self.path, self.content)


@dataclass(slots=True)
class Filling:
    """A token budget that is being used up."""

    root_fd: int
    buffers: Mapping[str, str]
    """Unsaved text, by path."""
    count_tokens: TokenCounter
    tokens_left: int
    taken: dict[str, FileText] = field(default_factory=dict[str, FileText])
    """By path."""
    left_out: list[LeftOut] = field(default_factory=list[LeftOut])

    def fill(self, paths: Iterable[str]) -> None:
        """Takes each of these files that may go in and fits. An earlier one has the better chance."""
        for batch in _batches(self._texts(paths)):
            self._take(batch)

    def _texts(self, paths: Iterable[str]) -> Iterator[FileText]:
        """The files that may go in, as far as can be told without counting; the others are left out."""
        for path in paths:
            text = classify.by_name(path) or self._read(path)
            if isinstance(text, LeftOut):
                self.left_out.append(text)
            else:
                yield FileText(path, text)

    def _read(self, path: str) -> str | LeftOut:
        """The text of a file; or why it stays out. One that is hopeless by its size is not read, let alone searched."""
        if self.tokens_left <= 0:
            return LeftOut(path, "budget", "no token was left for it")
        try:
            content = self._content(path, min(classify.MAX_BYTES, self._room(path)))
        except TooLargeError as error:
            if error.size <= classify.MAX_BYTES:
                return self._does_not_fit(path, f"{error.size + _frame(path):,} bytes")
            return why_unread(path.encode(), error)
        except OSError as error:
            return why_unread(path.encode(), error)
        return classify.by_content(path, content)

    def _content(self, path: str, limit: int) -> bytes:
        """What a file says now. Raises as `read_file`."""
        if path not in self.buffers:
            return read_file(self.root_fd, path.encode(), limit)
        # Whatever is no text on the disk is none in an editor either, and a secret is one in both.
        content = self.buffers[path].encode("utf-8", "surrogatepass")
        if len(content) > limit:
            raise TooLargeError(len(content), f"{len(content):,} bytes")
        return content

    def _take(self, batch: Sequence[FileText]) -> None:
        counts = self.count_tokens([file.framed for file in batch])
        for file, tokens in zip(batch, counts, strict=True):
            size = len(file.content.encode())
            # Asked once more, so that what goes in does not depend on where one batch ends and the next begins.
            if size > self._room(file.path):
                self.left_out.append(self._does_not_fit(file.path, f"{size + _frame(file.path):,} bytes"))
            elif tokens > self.tokens_left:
                self.left_out.append(self._does_not_fit(file.path, f"{tokens:,} tokens"))
            else:
                self.taken[file.path] = file
                self.tokens_left -= tokens

    def _room(self, path: str) -> int:
        """Bytes that the content of this file may have at most; below 0 if its frame alone is too much."""
        return self.tokens_left * _MOST_BYTES_PER_TOKEN - _frame(path)

    def _does_not_fit(self, path: str, size: str) -> LeftOut:
        detail = f"its {size} do not fit into the {max(0, self.tokens_left):,} tokens that were left"
        return LeftOut(path, "budget", detail)


def _frame(path: str) -> int:
    """Bytes that stand around a file's content in the prompt."""
    return len(framed(path, "").encode())


def _batches(files: Iterable[FileText]) -> Iterator[list[FileText]]:
    """Groups of a bounded number of files and bytes: nothing more is read before a group was taken."""
    batch: list[FileText] = []
    size = 0
    for file in files:
        batch.append(file)
        size += len(file.content)
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
