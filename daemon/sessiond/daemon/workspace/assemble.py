"""The workspace as segments, in the order in which they stand in the prompt."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sessiond.daemon.workspace import classify
from sessiond.daemon.workspace.beneath import open_root, root_refused
from sessiond.daemon.workspace.config import CONFIG_FILE, INSTRUCTIONS, Config, read_config
from sessiond.daemon.workspace.filling import FileText, Filling, TokenCounter, size_of
from sessiond.daemon.workspace.order import BY_PATH, README, Order
from sessiond.daemon.workspace.paths import path_fault
from sessiond.daemon.workspace.repo_map import repo_map
from sessiond.daemon.workspace.rules import Narrowing
from sessiond.daemon.workspace.segment import LeftOut, Segment
from sessiond.daemon.workspace.select import Selection, select
from sessiond.daemon.workspace.wishes import NO_WISHES, Wishes

__all__ = ["Assembly", "TokenCounter", "assemble", "file_sizes"]

_MAP_HEADING = "=== what the files define ===\n"


@dataclass(frozen=True, slots=True)
class Assembly:
    """A workspace at one moment."""

    segments: tuple[Segment, ...]
    left_out: tuple[LeftOut, ...]
    """Ordered by path."""
    pinned: frozenset[str] = frozenset()
    """Paths of the segments that are pinned, by an editor or by the configuration."""
    buffered: frozenset[str] = frozenset()
    """Paths of the segments whose text is an unsaved buffer."""


def assemble(root: Path, count_tokens: TokenCounter, max_tokens: int, wishes: Wishes = NO_WISHES) -> Assembly:
    """Selects, reads and orders the files under `root`; their segments have at most `max_tokens` tokens together.

    Only whole files go in. One that does not fit is left out, and smaller ones behind it may still fit. The same
    tree and the same wishes give the same answer, byte for byte. `count_tokens` is called for many texts at a time.
    `.sessiond.toml` in the root is obeyed; one with a fault is left out, and told there.

    Raises InvalidInput on `workspace_root` if `root` is no absolute path of a folder, and PermissionDenied if it
    may not be read. What happens to a single file raises nothing: it is told in `left_out`.
    """
    with open_root(root) as root_fd:
        config, fault = read_config(root_fd)
        plan = _plan(config, wishes)
        try:
            selection = _selected(root_fd, root, plan, fault)
        except OSError as error:
            raise root_refused(root, error) from error
        room = config.room(max_tokens)
        map_room = config.map_room(room)
        filling = Filling(root_fd, wishes.buffers, count_tokens, room - map_room)
        filling.fill(plan.offered(selection.files))
    segments = plan.segments(filling.taken, _map(filling, map_room))
    left_out = [*selection.left_out, *plan.missing(selection), *filling.left_out]
    return Assembly(
        tuple(segments),
        tuple(sorted(left_out, key=lambda entry: entry.path.encode())),
        pinned=frozenset(path for path in plan.pinned if path in filling.taken),
        buffered=frozenset(path for path in wishes.buffers if path in filling.taken),
    )


def file_sizes(root: Path, wishes: Wishes = NO_WISHES) -> dict[str, int]:
    """Bytes of each file that may go in, as far as its name and size tell, by path. Raises as `assemble`."""
    with open_root(root) as root_fd:
        config, fault = read_config(root_fd)
        try:
            selection = _selected(root_fd, root, _plan(config, wishes), fault)
        except OSError as error:
            raise root_refused(root, error) from error
        named = (path for path in selection.files if classify.by_name(path) is None)
        sizes = {path: size_of(root_fd, path, wishes.buffers) for path in named}
    return {path: size for path, size in sizes.items() if size <= classify.MAX_BYTES}


@dataclass(frozen=True, slots=True)
class _Plan:
    """Who comes first."""

    config: Config
    wishes: Wishes
    pinned: tuple[str, ...]
    """By an editor or by the configuration, the first one first."""
    order: Order

    def offered(self, files: Collection[str]) -> list[str]:
        """The files in the order in which they are offered room."""
        present = set(files)
        first = dict.fromkeys(
            path for path in (*self.pinned, self.config.instructions, README) if path in present
        )
        return [*first, *self.order.hottest_first(path for path in files if path not in first)]

    def segments(self, taken: Mapping[str, FileText], outline: str) -> Iterator[Segment]:
        """What was taken, and the map if there is one, in the order in which they stand in the prompt."""
        groups: list[list[str]] = [[], [], []]
        pinned = set(self.pinned)
        for path in self.order.calmest_first(taken):
            groups[0 if path == self.config.instructions else 1 if path in pinned else 2].append(path)
        instructions, pins, others = groups
        for path in instructions:
            yield _segment("instructions", taken[path])
        if outline:
            yield Segment(id="map", kind="map", text=outline)
        for path in (*pins, *others):
            yield _segment("file", taken[path])

    def missing(self, selection: Selection) -> Iterator[LeftOut]:
        """What was asked for by its path, and is neither a file of the workspace nor told of yet."""
        asked = dict.fromkeys(self.wishes.buffers, "there is an unsaved buffer of it")
        if self.config.instructions != INSTRUCTIONS:
            asked[self.config.instructions] = f"{CONFIG_FILE} names it as the instructions"
        asked |= dict.fromkeys(self.pinned, "it is pinned")
        told = {entry.path: entry for entry in selection.left_out}
        for path in asked.keys() - told.keys() - set(selection.files):
            yield _why_missing(path, asked[path], told, complete=selection.complete)


def _plan(config: Config, wishes: Wishes) -> _Plan:
    pinned = tuple(dict.fromkeys((*wishes.pinned, *config.pinned)))
    return _Plan(config, wishes, pinned, wishes.order if config.order == "volatility" else BY_PATH)


def _selected(root_fd: int, root: Path, plan: _Plan, fault: LeftOut | None) -> Selection:
    """The walk's selection, with the configuration file in its place among the left out if it has a fault."""
    config = plan.config
    narrowing = Narrowing(config.include, config.exclude, named=(*plan.pinned, config.instructions))
    selection = select(root_fd, root, narrowing, unsaved=plan.wishes.buffers)
    if fault is None:
        return selection
    files = tuple(path for path in selection.files if path != fault.path)
    left_out = (fault, *(entry for entry in selection.left_out if entry.path != fault.path))
    return replace(selection, files=files, left_out=left_out)


def _map(filling: Filling, room: int) -> str:
    """The map of what was taken; empty if there is nothing to map, or no room for it."""

    def count(outlines: Sequence[str]) -> list[int]:
        return filling.count_tokens([_MAP_HEADING + outline for outline in outlines])

    outline = repo_map([(file.path, file.content) for file in filling.taken.values()], count, room)
    return _MAP_HEADING + outline if outline else ""


def _segment(kind: str, file: FileText) -> Segment:
    return Segment(id=f"{kind}:{file.path}", kind=kind, text=file.framed, path=file.path)


def _why_missing(path: str, asked: str, told: Mapping[str, LeftOut], *, complete: bool) -> LeftOut:
    shown = path.encode(errors="backslashreplace").decode()
    fault = path_fault(path)
    if fault is not None:
        return LeftOut(shown, "missing", f"{asked}, but the path {fault}")
    folder = next((told[folder] for folder in _folders(path) if folder in told), None)
    if folder is not None:
        return LeftOut(shown, folder.reason, f"{asked}, but it is in {folder.path}: {folder.detail}")
    if not complete:
        return LeftOut(shown, "budget", f"{asked}, but the walk ended before it came there")
    return LeftOut(shown, "missing", f"{asked}, but there is no such file")


def _folders(path: str) -> Iterable[str]:
    """The folders that a file is in, outermost first."""
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))
