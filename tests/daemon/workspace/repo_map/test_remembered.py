"""Outlines are parsed once, and forgotten in time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from sessiond.daemon.workspace.repo_map.definitions import Outline, outline
from sessiond.daemon.workspace.repo_map.remembered import Memory, _size


class _Parsing:
    """Parses, and remembers what."""

    def __init__(self) -> None:
        self.parsed: list[tuple[str, bytes]] = []

    def outline(self, language: str, source: bytes) -> Outline:
        self.parsed.append((language, source))
        return outline(language, source)


def test_the_same_text_is_parsed_once_in_each_language() -> None:
    parsing = _Parsing()
    memory = Memory(1_000_000)
    first = memory.outline_of("c", b"int f(void);", parsing.outline)
    assert memory.outline_of("c", b"int f(void);", parsing.outline) is first
    assert memory.outline_of("cpp", b"int f(void);", parsing.outline) == outline("cpp", b"int f(void);")
    assert parsing.parsed == [("c", b"int f(void);"), ("cpp", b"int f(void);")]


def test_what_was_not_used_lately_goes_first() -> None:
    parsing = _Parsing()
    texts = [f"def f{number}(): g()\n".encode() for number in range(4)]
    memory = Memory(1_000_000)
    memory.outline_of("python", texts[0], parsing.outline)
    memory.max_bytes = memory.used * 3
    for text in (texts[1], texts[2], texts[0], texts[3]):
        memory.outline_of("python", text, parsing.outline)
    assert memory.used == memory.max_bytes
    parsing.parsed.clear()
    memory.outline_of("python", texts[0], parsing.outline)
    memory.outline_of("python", texts[1], parsing.outline)
    assert parsing.parsed == [("python", texts[1])]


def test_what_is_larger_than_the_memory_is_not_kept() -> None:
    memory = Memory(10)
    assert memory.outline_of("python", b"def f(): pass", outline).definitions[0].name == "f"
    assert memory.used == 0


def test_what_fails_is_not_remembered() -> None:
    def fail(language: str, source: bytes) -> Outline:
        raise OSError("no process")

    memory = Memory(1_000_000)
    with pytest.raises(OSError, match="no process"):
        memory.outline_of("python", b"def f(): pass", fail)
    assert memory.outline_of("python", b"def f(): pass", outline).definitions


def test_threads_share_it() -> None:
    memory = Memory(20_000)
    texts = [f"def f{number % 40}(): pass\n".encode() for number in range(800)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda text: memory.outline_of("python", text, outline), texts))
    assert [outline.definitions[0].name for outline in found] == [f"f{number % 40}" for number in range(800)]
    assert 0 < memory.used <= 20_000
    assert memory.used == sum(_size(kept) for kept in memory._outlines.values())
