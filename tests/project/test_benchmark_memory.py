"""The memory table: of engines that hold nothing else and share their weights with nobody else, and no more is said than is seen."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.adapters.tiny_models import plain

from benchmark.floor import Floor
from benchmark.memory import fields_of, meaning, measured, of_file, sizes
from benchmark.ours import Ours
from benchmark.peer_python import PythonServer
from benchmark.peer_server import DEFAULT, LlamaServer
from benchmark.results import EngineMemory, MemoryRow
from benchmark.sides import Runtime, Side, Work
from benchmark.took import NotMeasured

SMAPS = """7f0000000000-7f0000001000 r--p 00000000 08:01 42                         /models/a b.gguf
Size:                  4 kB
Rss:                   4 kB
Pss:                   2 kB
7f0000002000-7f0000003000 rw-p 00000000 00:00 0
Rss:                  64 kB
Pss:                  64 kB
7f0000004000-7f0000005000 r--p 00001000 08:01 42                         /models/a b.gguf
Rss:                   2 kB
Pss:                   1 kB
VmFlags: rd mr
"""
MIB = 1 << 20
FILE = 100 * MIB
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="the kernel tells no proportional set sizes"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, for sockets."""
    with tempfile.TemporaryDirectory(prefix="sd-") as name:
        yield Path(name)


@pytest.fixture
def model(folder: Path) -> Path:
    path = folder / "tiny.gguf"
    plain(path, layers=1)
    return path


def test_the_kernels_words_are_read() -> None:
    assert fields_of("Pss:    12 kB\nAnonymous:   3 kB\nnonsense\n") == {"Pss": 12288, "Anonymous": 3072}
    assert of_file(SMAPS, "/models/a b.gguf") == (3 * 1024, 6 * 1024)
    assert of_file(SMAPS, "/models/other") == (0, 0)


# ---- what is said of it


def rows(together: int, *engines: tuple[int, int], alone: int | None = None) -> list[MemoryRow]:
    """Two engines, each with so much of the file resident and so much memory of its own, in MiB."""
    each = [EngineMemory(resident * MIB, own * MIB) for resident, own in engines]
    first = engines[0][0] if alone is None else alone
    return [
        MemoryRow("one", 0, first * MIB, each[0].anonymous_bytes, each[:1]),
        MemoryRow("two", 0, together * MIB, sum(one.anonymous_bytes for one in each), each),
    ]


@pytest.mark.parametrize("own", [10, 300])
def test_a_mapping_is_no_copy_however_large_kv_and_buffers_are(own: int) -> None:
    [told] = meaning(rows(90, (90, 400), (90, own)), FILE)
    assert told.startswith("the weights are mapped once: of their file of 100 MiB, 90 MiB and 90 MiB are")
    assert "90 MiB for all together" in told
    assert f"the last engine has {own} MiB of its own memory" in told
    assert "copied" not in told


def test_weights_that_are_mostly_elsewhere_are_not_called_mapped() -> None:
    """Even if their copy is smaller than half of them, as on a device."""
    [told] = meaning(rows(60, (60, 40), (40, 40)), FILE)
    assert told.startswith("most of the weights is not resident where they are mapped")
    assert "60 MiB and 40 MiB" in told and "the last engine has 40 MiB of its own" in told


def test_other_processes_that_map_the_weights_are_told() -> None:
    assert len(meaning(rows(90, (90, 1), (90, 1)), FILE)) == 1
    assert "other processes" in meaning(rows(60, (90, 1), (90, 1), alone=45), FILE)[1]


def test_nothing_is_said_of_one_engine_of_no_file_or_of_older_rows() -> None:
    two = rows(90, (90, 1), (90, 1))
    assert meaning(two[:1], FILE) == meaning(two, 0) == meaning([], FILE) == []
    assert meaning([MemoryRow("one", 3, 2, 1), MemoryRow("two", 3, 2, 1)], FILE) == []


# ---- real processes


@needs_proc
def test_a_files_pages_count_whole_as_resident_and_shared_as_proportional(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(MIB))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as pages:
        assert pages[:].count(b"\0")
        alone = sizes("", [os.getpid()], path.resolve())
        code = "import mmap,sys; f=open(sys.argv[1],'rb'); m=mmap.mmap(f.fileno(),0,prot=1); m[:]; print(flush=True); sys.stdin.read()"
        with subprocess.Popen(
            [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            other.stdout.readline()
            shared = sizes("", [os.getpid()], path.resolve())
            both = sizes("", [os.getpid(), other.pid], path.resolve())
            other.communicate()
    assert (alone.weights_bytes, alone.engines[0].resident_weights_bytes) == (MIB, MIB)
    assert (shared.weights_bytes, shared.engines[0].resident_weights_bytes) == (MIB // 2, MIB)
    assert both.weights_bytes == MIB
    assert both.anonymous_bytes == sum(each.anonymous_bytes for each in both.engines)


@needs_proc
def test_a_process_that_is_gone_is_not_measured(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    with pytest.raises(NotMeasured, match="cannot be read"):
        sizes("", [gone.pid], tmp_path)


@needs_proc
def test_fresh_engines_are_measured_and_share_the_file(folder: Path, model: Path) -> None:
    link = folder / "link.gguf"
    link.symlink_to(model)  # as caches of models have them: the kernel tells the other name
    found, notes = measured(folder, str(link))
    assert [(row.name, len(row.engines)) for row in found] == [
        ("an engine without a session", 1),
        ("one session", 1),
        ("two sessions of one workspace", 1),
        ("and a second workspace", 1),
        ("and a second engine on the same file", 2),
    ]
    file = model.stat().st_size
    for row in found[:-1]:
        assert row.weights_bytes == row.engines[0].resident_weights_bytes >= 0.9 * file
    first, second = found[-1].engines
    assert found[-1].weights_bytes < 0.6 * (first.resident_weights_bytes + second.resident_weights_bytes)
    # What a second session of a workspace takes is not its prefix anew.
    one, two, three = (row.pss_bytes for row in found[1:4])
    assert two - one < max(MIB, (three - two) / 2)
    assert len(notes) == 1 and notes[0].startswith("the weights are mapped once")


# ---- everybody else is away meanwhile, and comes back


def maps(path: Path) -> set[int]:
    """Processes that map the file, by the name that the kernel tells."""
    found: set[int] = set()
    for each in Path("/proc").glob("[0-9]*/maps"):
        try:
            if str(path.resolve()) in each.read_text("utf-8", "replace"):
                found.add(int(each.parent.name))
        except OSError:
            continue
    return found


def unmapped(path: Path) -> bool:
    """Whether soon nobody maps the file: an engine ends a moment after its daemon."""
    until = time.monotonic() + 30
    while maps(path) and time.monotonic() < until:
        time.sleep(0.05)
    return not maps(path)


@needs_proc
def test_a_paused_daemon_maps_nothing_and_serves_again(folder: Path, model: Path) -> None:
    ours = Ours(folder, str(model), 1.0)
    try:
        ours.begin(Work("before", 512, 1))
        ours.config()
        assert maps(model)
        with ours.paused():
            assert unmapped(model)
            assert not ours.client.healthy(timeout=0.2)
            time.sleep(2.0)  # so long that the connection has been given up
        ours.begin(Work("after", 512, 1))
        assert ours.config().num_ctx == 512
        with pytest.raises(NotMeasured), ours.paused():
            raise NotMeasured("no table")
        ours.begin(Work("at last", 512, 1))
        assert ours.config().num_ctx == 512
    finally:
        ours.close()


def sides(folder: Path) -> list[Side]:
    """The floor, and a peer of each kind with a program that never serves."""
    return [Floor(), LlamaServer(folder / "none", DEFAULT, folder), PythonServer(folder, cached=True)]


def test_a_side_can_be_closed_before_it_began_after_it_could_not_and_twice(folder: Path) -> None:
    for side in sides(folder):
        side.close()
        with pytest.raises(NotMeasured):
            side.begin(Work("none", 256, 1))
        side.close()
        side.close()


@needs_proc
def test_the_floor_begins_again_after_it_was_closed(folder: Path, model: Path) -> None:
    floor = Floor()
    floor.like(Runtime(str(model), 512, 128, 1, 2, flash_attn=False, gpu_layers=None))
    floor.begin(Work("one", 256, 1))
    assert maps(model)
    floor.close()
    floor.close()
    assert unmapped(model)
    floor.begin(Work("two", 256, 1))
    assert maps(model)
    floor.close()
