"""The tier as the engine uses it: nothing waits, nothing raises, and no answer is wrong."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.daemon.engine.disk.made import IDENTITY, ROOMY, SPACE, TOKEN_KV, Place, kv, tokens

from sessiond.daemon.engine.disk import DiskTier, Found, Space, space, store

_PATIENCE_S = 30.0
_OTHER = space(IDENTITY, "/home/b", "1000")


class _Engine:
    """What an engine does with the tier."""

    def __init__(
        self, path: Path, limit: int = ROOMY, *, retry_s: float = 60.0, queue_bytes: int = 1 << 24
    ) -> None:
        self.said: list[str] = []
        self.tier = DiskTier(
            path,
            limit,
            self.said.append,
            keep_free=0,
            queue_bytes=queue_bytes,
            retry_s=retry_s,
            patience_s=0.0,
        )
        self.tier.wait_open(_PATIENCE_S)

    def keep(self, run: Sequence[int], where: Space = SPACE) -> list[bool]:
        return [
            self.tier.put(each, kv(where, run, each.start, each.end))
            for each in self.tier.missing(where, run)
        ]

    def fetch(self, found: Found) -> bytes | None:
        got, over = list[bytes | None](), threading.Event()

        def hear(payload: bytes | None, _read_s: float) -> None:
            got.append(payload)
            over.set()

        self.tier.fetch(found, hear)
        assert over.wait(_PATIENCE_S)
        return got[0]

    def back(self, run: Sequence[int], where: Space = SPACE) -> int:
        count = 0
        for found in self.tier.ahead(where, run, 0):
            if (payload := self.fetch(found)) is not None:
                if found.matched == found.entry.label.count:
                    assert payload == kv(where, run, found.start, found.end)
                count += found.matched
        return count

    def flush(self) -> None:
        assert self.tier.flush(_PATIENCE_S)

    def chores(self) -> None:
        """Those that the writer does now and then."""
        self.tier._writer.call(self.tier._chores)
        self.flush()

    def close(self) -> None:
        self.tier.close(_PATIENCE_S)


def test_what_was_put_comes_back_in_another_process_life(tmp_path: Path) -> None:
    run, other = tokens(1000), tokens(500, 1)
    engine = _Engine(tmp_path / "tier")
    assert engine.tier.ahead(SPACE, run, 0) == [] and engine.keep(run) == [True] * 4
    assert engine.keep(run) == [], "what is on its way is not missing"
    engine.keep(other, _OTHER)
    engine.flush()
    assert engine.back(run) == 1000 and engine.back(run, _OTHER) == 0
    engine.close()
    engine = _Engine(tmp_path / "tier")
    assert (engine.back(run), engine.back(other, _OTHER)) == (1000, 500)
    facts = engine.tier.facts()
    assert (facts.state, facts.entries, facts.waiting_bytes, facts.counts.read) == ("open", 6, 0, 6)
    assert facts.bytes == sum(path.stat().st_size for path in (tmp_path / "tier" / "entries").iterdir())
    assert engine.said == []
    engine.close()


def test_a_day_of_edits_writes_little_more_than_its_new_kv(tmp_path: Path) -> None:
    """Files are edited at random, mostly near the end. Of KV as large as a small model's, since what a file has beside
    its payload does not grow with it.
    """
    chance, each = random.Random(6), 23_052
    engine = _Engine(tmp_path / "tier", 8 << 30, queue_bytes=1 << 30)
    run, seen, new = tokens(3000), set[bytes](), 0
    for save in range(25):
        if save:
            at = int(len(run) * chance.random() ** 0.25)
            run = [*run[:at], *tokens(chance.randrange(1, 30), save), *run[at + chance.randrange(30) :]]
        prefix = next((end for end in range(len(run), 0, -1) if _key(run[:end]) in seen), 0)
        seen |= {_key(run[:end]) for end in range(prefix + 1, len(run) + 1)}
        new += (len(run) - prefix) * each
        for missing in engine.tier.missing(SPACE, run):
            engine.tier.put(missing, bytes((missing.end - missing.start) * each))
        engine.flush()
    counts = engine.tier.facts().counts
    assert 0.95 < counts.file_bytes / new < 1.02 and counts.dropped == 0
    engine.close()


def _key(run: list[int]) -> bytes:
    return str(hash(tuple(run))).encode()


def test_a_second_one_goes_without_and_takes_over_later(tmp_path: Path) -> None:
    first, second = _Engine(tmp_path / "tier"), _Engine(tmp_path / "tier", retry_s=0.0)
    run = tokens(300)
    assert second.tier.facts().state == "off" and "another process" in second.said[0]
    assert second.keep(run) == [] and second.back(run) == 0 and not second.tier.has_room_for(1)
    assert len(first.keep(run)) == 2
    first.flush()
    second.chores()
    assert not second.tier.is_open and len(second.said) == 1, "it does not say so again and again"
    first.close()
    second.chores()
    assert second.back(run) == 300
    second.close()


@pytest.mark.parametrize("kind", ["a file", "a link", "below a file"])
def test_where_no_folder_can_be_there_is_no_tier(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tier"
    match kind:
        case "a file":
            path.write_bytes(b"")
        case "a link":
            path.symlink_to(tmp_path)
        case _:
            path.write_bytes(b"")
            path /= "folder"
    engine = _Engine(path)
    assert engine.tier.facts().state == "off" and len(engine.said) == 1
    assert engine.keep(tokens(300)) == [] and engine.back(tokens(300)) == 0
    engine.close()


def test_a_removed_folder_is_made_again(tmp_path: Path) -> None:
    engine = _Engine(tmp_path / "tier", retry_s=0.0)
    run = tokens(300)
    engine.keep(run)
    engine.flush()
    found = engine.tier.ahead(SPACE, run, 0)
    shutil.rmtree(tmp_path / "tier")
    assert [engine.fetch(each) for each in found] == [None, None]
    assert engine.tier.ahead(SPACE, run, 0) == []
    assert engine.keep(run) == [True] * 2, "nobody knows yet"
    engine.flush()
    assert engine.tier.is_open and engine.keep(run)
    engine.flush()
    assert engine.back(run) == 300
    assert [line.split(": ")[1] for line in engine.said].count("an entry could not be written") == 1
    engine.close()


def test_an_entry_that_the_backend_refused_is_not_found_again(tmp_path: Path) -> None:
    engine, run = _Engine(tmp_path / "tier"), tokens(700)
    engine.keep(run)
    engine.flush()
    good, bad, _ = engine.tier.ahead(SPACE, run, 0)
    for found, fault in ((good, ""), (bad, "the state ends too early")):
        engine.tier.begin_use(found)
        engine.tier.end_use(found, fault)
    assert [found.start for found in engine.tier.ahead(SPACE, run, 0)] == [0, 512]
    engine.flush()
    assert engine.tier.missing(SPACE, run) == [] and engine.tier.facts().counts.set_aside == 1
    engine.close()


def test_what_the_backend_refused_is_set_aside_also_if_the_end_comes_at_once(tmp_path: Path) -> None:
    engine, run = _Engine(tmp_path / "tier"), tokens(300)
    engine.keep(run)
    engine.flush()
    bad = engine.tier.ahead(SPACE, run, 0)[0]
    with _Stopped(engine.tier):
        engine.tier.end_use(bad, "the state ends too early")
        engine.tier.close(0.0)
    engine.close()
    assert [path.name for path in (tmp_path / "tier" / "aside").iterdir()] == [bad.entry.label.name]


def test_after_the_end_who_asks_hears_none(tmp_path: Path) -> None:
    engine, run = _Engine(tmp_path / "tier"), tokens(300)
    engine.keep(run)
    engine.flush()
    found = engine.tier.ahead(SPACE, run, 0)
    engine.close()
    assert engine.fetch(found[0]) is None
    assert engine.keep(run) == [] == engine.tier.ahead(SPACE, run, 0)


def test_a_folder_that_opens_after_the_end_is_let_go_of(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    tier = DiskTier(tmp_path / "tier", ROOMY, lambda _: None, keep_free=0, patience_s=_PATIENCE_S)
    while _opened_times(tmp_path / "tier" / "lock") < 2:  # until it waits for the lock
        threading.Event().wait(0.001)
    tier.close(0.0)
    place.store.close()
    tier._writer._thread.join(_PATIENCE_S)
    assert not tier.is_open and Place(tmp_path / "tier").keep(tokens(300)) == [True] * 2


def _opened_times(path: Path) -> int:
    """In this process."""
    count = 0
    for file in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += file.readlink() == path
    return count


def test_a_log_that_cannot_be_written_is_no_fault_of_the_engine(tmp_path: Path) -> None:
    def say(_line: str) -> None:
        raise BrokenPipeError

    tier = DiskTier(tmp_path / "tier", 256 * TOKEN_KV, say, keep_free=0)
    assert tier.wait_open(_PATIENCE_S) and tier.ahead(SPACE, [-1], 0) == []
    [run] = tier.missing(SPACE, tokens(256))
    assert tier.put(run, kv(SPACE, tokens(256), 0, 256)), "which finds no room, and says so"
    assert tier.flush(_PATIENCE_S) and tier.missing(SPACE, tokens(256)) == []
    tier.close(_PATIENCE_S)


def test_what_are_no_tokens_are_nothing(tmp_path: Path) -> None:
    engine = _Engine(tmp_path / "tier")
    assert engine.tier.missing(SPACE, [-1] * 100) == [] == engine.tier.ahead(SPACE, [1 << 40] * 100, 0)
    assert engine.tier.edge(SPACE, [-1] * 100, 0) is None
    engine.close()


def test_who_hears_may_fail_and_the_next_one_is_read(tmp_path: Path) -> None:
    engine, run = _Engine(tmp_path / "tier"), tokens(300)
    engine.keep(run)
    engine.flush()
    found = engine.tier.ahead(SPACE, run, 0)

    def fail(_payload: bytes | None, _read_s: float) -> None:
        raise RuntimeError("the job is gone")

    engine.tier.fetch(found[0], fail)
    assert engine.fetch(found[1]) is not None and "the job is gone" in engine.said[0]
    engine.close()


def test_pins_outlive_a_reopening(tmp_path: Path) -> None:
    size = len(kv(SPACE, tokens(100), 0, 100)) + 1000
    engine = _Engine(tmp_path / "tier", 2 * size + size // 2, retry_s=0.0)
    engine.tier.pin([SPACE])
    shutil.rmtree(tmp_path / "tier")
    engine.keep(tokens(100))  # finds out
    engine.flush()
    engine.keep(tokens(100))
    for seed in range(1, 5):
        engine.flush()
        engine.keep(tokens(100, seed), _OTHER)
    engine.flush()
    assert engine.tier.facts().counts.evicted > 0
    assert engine.back(tokens(100)) == 100 == engine.back(tokens(100, 4), _OTHER)
    engine.tier.pin([])
    for seed in range(5, 8):
        engine.keep(tokens(100, seed), _OTHER)
        engine.flush()
    assert engine.back(tokens(100)) == 0
    engine.close()


def test_one_reads_while_another_writes_and_evicts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a budget that holds a third of it, with branches that share beginnings, and some that nobody asks for."""
    monkeypatch.setattr(store, "PAUSE_S", 0.0)
    branches = [[*tokens(600)[: 100 * n], *tokens(400, n)] for n in range(1, 7)]
    engine = _Engine(tmp_path / "tier", 40_000)
    stop, faults = threading.Event(), list[BaseException]()

    def write() -> None:
        chance = random.Random(1)
        try:
            while not stop.is_set():
                engine.keep(branches[chance.randrange(6)])
                engine.keep(tokens(100, chance.randrange(1000)))
                engine.tier.flush(0.01)
        except BaseException as error:  # noqa: BLE001 - told by the thread that asserts
            faults.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    chance, came = random.Random(2), 0
    try:
        while came < 50_000 or not engine.tier.facts().counts.evicted:
            came += engine.back(branches[chance.randrange(6)])
    finally:
        stop.set()
        thread.join(_PATIENCE_S)
    engine.flush()
    facts = engine.tier.facts()
    assert not faults and facts.counts.damaged == 0
    assert (
        facts.bytes
        == sum(path.stat().st_size for path in (tmp_path / "tier" / "entries").iterdir())
        <= 40_000
    )
    engine.close()


class _Stopped:
    """The writer's thread, stopped before what it would write next."""

    def __init__(self, tier: DiskTier) -> None:
        self._tier = tier
        self._go_on = threading.Event()

    def __enter__(self) -> None:
        arrived = threading.Event()

        def wait() -> None:
            arrived.set()
            self._go_on.wait(_PATIENCE_S)

        self._tier._writer.call(wait)
        assert arrived.wait(_PATIENCE_S)

    def __exit__(self, *_: object) -> None:
        self._go_on.set()


def _one_entry(tmp_path: Path) -> int:
    """A budget that holds an entry of 256 tokens, and no small one beside it."""
    place = Place(tmp_path / "measured")
    place.keep(tokens(256))
    place.store.close()
    return place.store.catalogue.size + 1000


def test_what_is_asked_for_while_it_waits_is_written_before_what_is_new(tmp_path: Path) -> None:
    """On a disk that is slower than the engine. Aged by when it was first asked for, it would be written behind the other
    one, find that one younger, and not be kept.
    """
    engine = _Engine(tmp_path / "tier", _one_entry(tmp_path))
    with _Stopped(engine.tier):
        engine.keep(tokens(256))
        engine.keep(tokens(64, 1))
        assert engine.keep(tokens(256)) == [], "it is on its way"
    engine.flush()
    assert (engine.back(tokens(256)), engine.back(tokens(64, 1))) == (256, 0)
    assert engine.said == []
    engine.close()


def test_what_was_outlived_while_it_waited_is_dropped_and_stops_no_other_write(tmp_path: Path) -> None:
    engine = _Engine(tmp_path / "tier", _one_entry(tmp_path))
    with _Stopped(engine.tier):
        engine.keep(tokens(256))
        engine.keep(tokens(64, 1))
    engine.flush()
    assert (engine.back(tokens(256)), engine.back(tokens(64, 1))) == (0, 64)
    assert engine.tier.facts().counts.dropped == 1 and engine.said == []
    assert engine.keep(tokens(256)) == [True], "asked for again, it is the younger one"
    engine.flush()
    assert engine.back(tokens(256)) == 256
    engine.close()


def test_no_more_waits_than_the_budget_holds(tmp_path: Path) -> None:
    size = 256 * TOKEN_KV
    engine = _Engine(tmp_path / "tier", 3 * size)
    with _Stopped(engine.tier):
        for seed in range(10):
            assert engine.keep(tokens(256, seed)) == [True]
            assert engine.tier.facts().waiting_bytes == min(seed + 1, 3) * size
        assert engine.tier.facts().counts.dropped == 7 and not engine.tier.has_room_for(1)
        assert len(engine.tier.missing(SPACE, tokens(256, 0))) == 1, "what was dropped is asked for again"
    engine.flush()
    assert engine.back(tokens(256, 9)) == 256
    engine.close()


def test_a_refused_write_is_not_asked_for_again_at_once(tmp_path: Path) -> None:
    engine = _Engine(tmp_path / "tier", 256 * TOKEN_KV)  # not for what a file has beside it
    assert engine.keep(tokens(256)) == [True]
    engine.flush()
    assert engine.tier.missing(SPACE, tokens(256)) == [] and len(engine.said) == 1
    engine.close()


_WRITE = """
import random, sys
from pathlib import Path
from sessiond.daemon.engine.disk import DiskTier
from tests.daemon.engine.disk.made import SPACE, kv, tokens
tier = DiskTier(Path(sys.argv[1]), 150_000, keep_free=0)
tier.wait_open(30)
chance = random.Random(int(sys.argv[2]))
print("begun", flush=True)
while True:
    shared = chance.randrange(0, 600)
    run = [*tokens(600)[:shared], *tokens(chance.randrange(1, 400), chance.randrange(20))]
    for each in tier.missing(SPACE, run):
        tier.put(each, kv(SPACE, run, each.start, each.end))
    for found in tier.ahead(SPACE, run, 0):
        tier.begin_use(found)
        tier.end_use(found)
    tier.flush(0.002)
"""


def test_killed_at_any_moment_what_is_left_is_whole(tmp_path: Path) -> None:
    """Twenty lives of a process that writes, uses and evicts, each ended by SIGKILL at a moment of chance."""
    path, chance, found = tmp_path / "tier", random.Random(6), 0
    for life in range(20):
        child = subprocess.Popen([sys.executable, "-c", _WRITE, path, str(life)], stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline() == b"begun\n"
        threading.Event().wait(chance.random() * 0.15)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        place = Place(path, 150_000)
        assert place.said == [], "nothing that has a name may be damaged"
        assert list((path / "new").iterdir()) == []
        assert place.store.catalogue.size == sum(each.stat().st_size for each in place.files()) <= 150_000
        for seed in range(20):
            for shared in (0, 300, 600):
                run = [*tokens(600)[:shared], *tokens(400, seed)]
                back = place.back(run)
                assert back <= len(run)
                found += back
        assert place.store.counts.damaged == 0 == place.store.counts.missed
        place.store.close()
    assert found > 0


def test_what_was_flushed_outlives_a_kill(tmp_path: Path) -> None:
    code = (
        _WRITE.split("chance =", maxsplit=1)[0]
        + """
import os, signal
for seed in range(5):
    run = tokens(700, seed)
    for each in tier.missing(SPACE, run):
        tier.put(each, kv(SPACE, run, each.start, each.end))
assert tier.flush(30)
os.kill(os.getpid(), signal.SIGKILL)
"""
    )
    told = subprocess.run([sys.executable, "-c", code, str(tmp_path / "tier"), "0"], check=False)
    assert told.returncode == -signal.SIGKILL
    place = Place(tmp_path / "tier")
    assert [place.back(tokens(700, seed)) for seed in range(5)] == [700] * 5
    assert place.store.catalogue.size > 700 * TOKEN_KV * 5
