"""What one more session, one more workspace and one more engine on the same file take: proportional set sizes.

A page that two processes map counts half for each of them, so mapped weights are there once for all engines together, and
what an engine copied of them is in its own memory. From outside, such copies cannot be told from KV and buffers: what is
known is how much of the file stays mapped, and how much memory of its own an engine has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import psutil

from benchmark.quiet import wait_until_still
from benchmark.results import EngineMemory, MemoryRow
from benchmark.took import NotMeasured
from benchmark.turns import sessions
from demo_daemon import daemon_pid, own_daemon
from sessiond.client import Client

PROC = Path("/proc")
REST_SECONDS = 30.0
WINDOW = 2048
"""Tokens of the sessions' windows. Cells that nobody has used take no memory."""
PREFIX = "def value(number: int) -> int:\n    return number\n" * 40
"""So that each session has some cells in use."""
MAPPED = 0.5
"""Of the weights' file, what an engine has resident at least if it runs from the mapping."""
ALONE = 0.99
"""Of an engine's resident part of the file, what all engines together must account for: if it is less, others map it too."""
_FIELD = re.compile(r"^(\w+): +(\d+) kB$", re.MULTILINE)
_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)$", re.MULTILINE)


def measured(folder: Path, model: str) -> tuple[list[MemoryRow], list[str]]:
    """Rows in the order in which things were added, and what they mean. Raises NotMeasured without /proc.

    It starts fresh daemons: one that has worked still holds what it kept. No other process may map the weights meanwhile, as
    its part of every page would be missing here.
    """
    if not (PROC / "self/smaps_rollup").exists():
        raise NotMeasured("this system tells no proportional set sizes")
    rows: list[MemoryRow] = []
    with ExitStack() as stack:
        client, first = _fresh(stack, folder / "first", model)
        # The kernel tells where a link leads to.
        weights = Path(client.model().absolute_path).resolve()

        def note(name: str, engines: Sequence[int]) -> None:
            for pid in engines:  # what they write to the disk they hold twice meanwhile
                wait_until_still(pid, REST_SECONDS)
            rows.append(sizes(name, engines, weights))

        note("an engine without a session", [first])
        # The first session of a workspace is still open when two are asked for: it is one of the two.
        for name, root, number in (
            ("one session", "memory a", 1),
            ("two sessions of one workspace", "memory a", 2),
            ("and a second workspace", "memory b", 1),
        ):
            _with_prefix(stack, client, folder / root, number)
            note(name, [first])
        client, second = _fresh(stack, folder / "second", model)
        _with_prefix(stack, client, folder / "memory c", 1)
        note("and a second engine on the same file", [first, second])
    return rows, meaning(rows, weights.stat().st_size if weights.is_file() else 0)


def _fresh(stack: ExitStack, folder: Path, model: str) -> tuple[Client, int]:
    """A daemon that knows nothing yet, with its model loaded; and the process of its engine."""
    folder.mkdir()
    client = stack.enter_context(own_daemon(folder, model))
    client.model()
    return client, engine(folder)


def _with_prefix(stack: ExitStack, client: Client, root: Path, number: int) -> None:
    """So many sessions on one workspace, all with the same prefix."""
    for session in stack.enter_context(sessions(client, root, number, WINDOW, room=64)):
        session.ensure_prefix(text=f"# {root.name}\n{PREFIX}")


def engine(folder: Path) -> int:
    """The process of the engine that the daemon of this folder runs. Raises NotMeasured if there is not exactly one."""
    try:
        children = psutil.Process(daemon_pid(folder)).children()
    except (OSError, ValueError, psutil.Error) as error:
        raise NotMeasured(f"the daemon's engine is not found: {error}") from error
    if len(children) != 1:
        raise NotMeasured(f"the daemon has {len(children)} engines")
    return children[0].pid


def sizes(name: str, engines: Iterable[int], weights: Path) -> MemoryRow:
    """Of these processes together, and of each. Raises NotMeasured if one is gone."""
    pss = shares = 0
    each: list[EngineMemory] = []
    try:
        for pid in engines:
            fields = fields_of((PROC / str(pid) / "smaps_rollup").read_text("utf-8"))
            share, resident = of_file((PROC / str(pid) / "smaps").read_text("utf-8", "replace"), str(weights))
            pss += fields.get("Pss", 0)
            shares += share
            each.append(EngineMemory(resident, fields.get("Anonymous", 0)))
    except OSError as error:
        raise NotMeasured(f"an engine's memory cannot be read: {error.strerror}") from error
    return MemoryRow(name, pss, shares, sum(one.anonymous_bytes for one in each), each)


def fields_of(text: str) -> dict[str, int]:
    """Bytes by name, from the form that the kernel writes."""
    return {name: int(kilobytes) * 1024 for name, kilobytes in _FIELD.findall(text)}


def of_file(smaps: str, path: str) -> tuple[int, int]:
    """Of all mappings of one file: proportional bytes, and resident ones."""
    share = resident = 0
    heads = list(_MAPPING.finditer(smaps))
    ends = [head.start() for head in heads[1:]] + [len(smaps)]
    for head, end in zip(heads, ends, strict=True):
        if head[1] == path:
            fields = fields_of(smaps[head.end() : end])
            share += fields.get("Pss", 0)
            resident += fields.get("Rss", 0)
    return share, resident


def meaning(rows: Sequence[MemoryRow], weights_bytes: int) -> list[str]:
    """How much of the weights is there once for all engines, and what stands beside that."""
    if not rows or len(rows[-1].engines) < 2 or not weights_bytes:
        return []
    last = rows[-1]
    resident = [each.resident_weights_bytes for each in last.engines]
    mapped = (
        f"of their file of {_mib(weights_bytes)}, {' and '.join(map(_mib, resident))} are resident in the engines' "
        f"mappings, {_mib(last.weights_bytes)} for all together"
    )
    own = f"the last engine has {_mib(last.engines[-1].anonymous_bytes)} of its own memory"
    if min(resident) >= MAPPED * weights_bytes:
        told = f"the weights are mapped once: {mapped}; beside that {own}, for KV, buffers, and whatever it repacked"
    else:
        told = (
            f"most of the weights is not resident where they are mapped: {mapped}; the rest was copied when it was loaded "
            f"(repacked, or to a device), or not read; {own}, for such copies, KV and buffers"
        )
    return [told, *_others(rows)]


def _others(rows: Sequence[MemoryRow]) -> list[str]:
    """A word about processes that are not measured, if they have a part of the mapped weights."""
    for row in rows:
        if row.weights_bytes < ALONE * max((each.resident_weights_bytes for each in row.engines), default=0):
            return [
                "other processes map the weights too: their parts of them are missing in the memory table"
            ]
    return []


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
