"""The workspace as segments, in the order in which they stand in the prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sessiond.daemon.workspace import classify
from sessiond.daemon.workspace.beneath import open_root, read_file, root_refused, why_unread
from sessiond.daemon.workspace.segment import LeftOut, Segment
from sessiond.daemon.workspace.select import select

INSTRUCTIONS = "AGENTS.md"
"""At the root: what the workspace's people tell every model. It comes first."""
_EARLY = (INSTRUCTIONS, "README.md")

_MOST_BYTES_PER_TOKEN = 16
"""No text is denser as a whole. A file with more than this for each token that is left is not even counted."""
_BATCH_FILES = 64
_BATCH_BYTES = 1 << 20

TokenCounter = Callable[[Sequence[str]], list[int]]
"""The number of tokens of each text."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """A workspace at one moment."""

    segments: tuple[Segment, ...]
    left_out: tuple[LeftOut, ...]
    """Ordered by path."""


def assemble(root: Path, count_tokens: TokenCounter, max_tokens: int) -> Assembly:
    """Selects, reads and orders the files under `root`; their segments have at most `max_tokens` tokens together.

    Only whole files go in. One that does not fit is left out, and smaller ones behind it may still fit. The same
    tree gives the same answer, byte for byte. `count_tokens` is called for many texts at a time.

    Raises InvalidInput on `workspace_root` if `root` is no absolute path of a folder, and PermissionDenied if it
    may not be read. What happens to a single file raises nothing: it is told in `left_out`.
    """
    with open_root(root) as root_fd:
        try:
            selection = select(root_fd, root)
        except OSError as error:
            raise root_refused(root, error) from error
        filling = _Filling(count_tokens, max_tokens, left_out=list(selection.left_out))
        for batch in _batches(filling.texts(root_fd, _in_order(selection.files))):
            filling.take(batch)
    left_out = sorted(filling.left_out, key=lambda entry: entry.path.encode())
    return Assembly(tuple(filling.segments), tuple(left_out))


def _in_order(files: Sequence[str]) -> list[str]:
    """Those with a place of their own, then the rest as they come."""
    early = [path for path in _EARLY if path in files]
    return early + [path for path in files if path not in early]


def framed(path: str, content: str) -> str:
    """A file's content as it stands in the prompt."""
    return f"=== {path} ===\n{content}\n"


@dataclass(slots=True)
class _Filling:
    """A token budget that is being used up."""

    count_tokens: TokenCounter
    tokens_left: int
    left_out: list[LeftOut]
    segments: list[Segment] = field(default_factory=list[Segment])

    def texts(self, root_fd: int, paths: Iterable[str]) -> Iterator[Segment]:
        """The files that may go in, as far as can be told without counting; the others are left out."""
        for path in paths:
            text = classify.by_name(path) or self._read(root_fd, path)
            if isinstance(text, LeftOut):
                self.left_out.append(text)
                continue
            segment = _segment(path, text)
            if self._hopeless(segment):
                self._does_not_fit(segment)
            else:
                yield segment

    def _read(self, root_fd: int, path: str) -> str | LeftOut:
        if self.tokens_left <= 0:
            return LeftOut(path, "budget", "no token was left for it")
        try:
            content = read_file(root_fd, path.encode(), classify.MAX_BYTES)
        except OSError as error:
            return why_unread(path.encode(), error)
        return classify.by_content(path, content)

    def take(self, batch: Sequence[Segment]) -> None:
        """Takes each segment of the batch that fits."""
        counts = self.count_tokens([segment.text for segment in batch])
        for segment, tokens in zip(batch, counts, strict=True):
            # Asked once more, so that the answer does not depend on where one batch ends and the next begins.
            if self._hopeless(segment):
                self._does_not_fit(segment)
            elif tokens > self.tokens_left:
                self._does_not_fit(segment, tokens)
            else:
                self.segments.append(segment)
                self.tokens_left -= tokens

    def _hopeless(self, segment: Segment) -> bool:
        return len(segment.text.encode()) > self.tokens_left * _MOST_BYTES_PER_TOKEN

    def _does_not_fit(self, segment: Segment, tokens: int | None = None) -> None:
        size = f"{len(segment.text.encode()):,} bytes" if tokens is None else f"{tokens:,} tokens"
        detail = f"its {size} do not fit into the {max(0, self.tokens_left):,} tokens that were left"
        self.left_out.append(LeftOut(segment.path, "budget", detail))


def _segment(path: str, content: str) -> Segment:
    kind = "instructions" if path == INSTRUCTIONS else "file"
    return Segment(id=f"{kind}:{path}", kind=kind, text=framed(path, content), path=path)


def _batches(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Groups of a bounded number of files and bytes: nothing more is read before a group was taken."""
    batch: list[Segment] = []
    size = 0
    for segment in segments:
        batch.append(segment)
        size += len(segment.text)
        if len(batch) >= _BATCH_FILES or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
