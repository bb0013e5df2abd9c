"""What one more session, one more workspace and one more engine on the same file take: proportional set sizes.

A page that two processes map counts half for each of them, so what weights cost is seen as it is: mapped weights are
there once for all engines, and weights that were repacked when they were loaded are in every engine's own memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmark.ours import Ours
from benchmark.results import MemoryRow
from benchmark.took import NotMeasured
from benchmark.turns import sessions
from demo_daemon import own_daemon

PROC = Path("/proc")
WINDOW = 2048
"""Tokens of the sessions' windows. Cells that nobody has used take no memory."""
PREFIX = "def value(number: int) -> int:\n    return number\n" * 40
"""So that each session has some cells in use."""
REPACKED = 0.5
"""Of the weights, what an engine's own memory holds at least if they were copied when they were loaded."""
_FIELD = re.compile(r"^(\w+): +(\d+) kB$", re.MULTILINE)
_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)$", re.MULTILINE)


def measured(ours: Ours, folder: Path, model: str) -> tuple[list[MemoryRow], list[str]]:
    """Rows in the order in which things were added, and what they mean. Raises NotMeasured without /proc."""
    if not (PROC / "self/smaps_rollup").exists():
        raise NotMeasured("this system tells no proportional set sizes")
    weights = Path(ours.client.model().absolute_path)
    rows: list[MemoryRow] = []
    with ExitStack() as stack:
        first = engine(folder)

        def note(name: str, engines: Sequence[int]) -> None:
            rows.append(sizes(name, engines, weights))

        for name, root, number in (
            ("one session", "memory a", 1),
            ("two sessions of one workspace", "memory a", 2),
            ("and a second workspace", "memory b", 1),
        ):
            for session in stack.enter_context(sessions(ours.client, folder / root, number, WINDOW, room=64)):
                session.ensure_prefix(text=f"# {root}\n{PREFIX}")
            note(name, [first])
        other = folder / "second"
        other.mkdir()
        client = stack.enter_context(own_daemon(other, model))
        client.model()
        [session] = stack.enter_context(sessions(client, folder / "memory c", 1, WINDOW, room=64))
        session.ensure_prefix(text=PREFIX)
        note("and a second engine on the same file", [first, engine(other)])
    return rows, meaning(rows, weights.stat().st_size if weights.is_file() else 0)


def engine(folder: Path) -> int:
    """The process of the engine that the daemon of this folder runs. Raises NotMeasured if there is not exactly one."""
    try:
        daemon = psutil.Process(int((folder / "d.sock.lock").read_text("utf-8")))
        children = daemon.children()
    except (OSError, ValueError, psutil.Error) as error:
        raise NotMeasured(f"the daemon's engine is not found: {error}") from error
    if len(children) != 1:
        raise NotMeasured(f"the daemon has {len(children)} engines")
    return children[0].pid


def sizes(name: str, engines: Iterable[int], weights: Path) -> MemoryRow:
    """Of these processes together. Raises NotMeasured if one is gone."""
    pss = anonymous = mapped = 0
    try:
        for pid in engines:
            fields = fields_of((PROC / str(pid) / "smaps_rollup").read_text("utf-8"))
            pss += fields.get("Pss", 0)
            anonymous += fields.get("Anonymous", 0)
            mapped += mapped_pss((PROC / str(pid) / "smaps").read_text("utf-8", "replace"), str(weights))
    except OSError as error:
        raise NotMeasured(f"an engine's memory cannot be read: {error.strerror}") from error
    return MemoryRow(name, pss, mapped, anonymous)


def fields_of(text: str) -> dict[str, int]:
    """Bytes by name, from the form that the kernel writes."""
    return {name: int(kilobytes) * 1024 for name, kilobytes in _FIELD.findall(text)}


def mapped_pss(smaps: str, path: str) -> int:
    """Proportional bytes of all mappings of one file."""
    total = 0
    heads = list(_MAPPING.finditer(smaps))
    ends = [head.start() for head in heads[1:]] + [len(smaps)]
    for head, end in zip(heads, ends, strict=True):
        if head[1] == path:
            total += fields_of(smaps[head.end() : end]).get("Pss", 0)
    return total


def meaning(rows: Sequence[MemoryRow], weights_bytes: int) -> list[str]:
    """Whether the weights are there once or in every engine."""
    if len(rows) < 2 or not weights_bytes:
        return []
    last, before = rows[-1], rows[-2]
    copied = max(0, last.anonymous_bytes - before.anonymous_bytes)
    own = f"a second engine has {_mib(copied)} of its own memory, for weights of {_mib(weights_bytes)}"
    if copied >= REPACKED * weights_bytes:
        return [f"the weights are copied (repacked when they are loaded, or not mapped): {own}"]
    return [f"the weights are mapped once, {_mib(last.weights_bytes)} for both engines together: {own}"]


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
