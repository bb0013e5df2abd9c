"""A disk that is full, a folder that is gone or may not be written: a miss and a line in the log."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest
from tests.daemon.engine.disk.made import Place, tokens

_RUN = tokens(700)


@pytest.fixture
def small(tmp_path: Path) -> Generator[Path, None, None]:
    """A file system of 256 KiB."""
    path = tmp_path / "small"
    path.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", path], check=False).returncode
    ):
        pytest.skip("mounting is not allowed here")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_is_a_miss(small: Path) -> None:
    place = Place(small / "tier", keep_free=-(1 << 30))  # or it would evict in time
    kept = {seed: place.keep(tokens(256, seed)) for seed in range(40)}
    assert [True] in kept.values() and [False] in kept.values()
    assert any("could not be written: No space left" in line for line in place.said)
    assert list((place.path / "new").iterdir()) == []
    back = {seed: place.back(tokens(256, seed)) for seed in kept}
    # The oldest went: the disk may be full by a quota, which is not seen in what is free.
    gone = place.store.counts.evicted
    assert 1 <= gone <= 3
    assert back == {seed: 256 if seed >= gone and answer == [True] else 0 for seed, answer in kept.items()}
    # No write is tried for a while; then it is found out that there is room again.
    assert place.keep(tokens(256, 99)) == [False]
    place.store._paused_until = 0.0
    assert place.keep(tokens(256, 99)) == [True] and place.back(tokens(256, 99)) == 256
    place.store.close()
    place = Place(small / "tier")
    assert place.back(tokens(256, 99)) == 256


def test_a_disk_that_is_nearly_full_shrinks_the_budget(small: Path) -> None:
    place = Place(small / "tier", keep_free=64 << 10)
    for seed in range(40):
        assert place.keep(tokens(256, seed)) == [True] and place.back(tokens(256, seed)) == 256
    told = os.statvfs(small)
    assert told.f_bavail * told.f_frsize > 40 << 10 and place.store.counts.evicted > 10
    assert place.said == []
    assert sum(place.back(tokens(256, seed)) for seed in range(40)) >= 8 * 256, "no more goes than has to"


def test_what_is_there_comes_back_after_a_restart_on_a_full_disk(small: Path) -> None:
    place = Place(small / "tier")
    place.keep(_RUN)
    place.store.begin_use(place.ahead(_RUN)[1].entry.label.name)
    place.store.close()
    with (small / "others").open("wb", buffering=0) as others, contextlib.suppress(OSError):
        while others.write(bytes(4096)):
            pass
    told = os.statvfs(small)
    assert told.f_bavail == 0
    place = Place(place.path, keep_free=-(1 << 30))
    assert place.back(_RUN) == 700
    place.store.begin_use(place.ahead(_RUN)[0].entry.label.name)
    assert not [line for line in place.said if "in use" in line]
    place.store.close()


def test_a_file_that_may_not_grow_is_a_miss(tmp_path: Path) -> None:
    """The kernel's own limit on the size of a file, in a child: it needs no mount."""
    code = """
import sys
from pathlib import Path
from tests.daemon.engine.disk.made import Place, tokens
place = Place(Path(sys.argv[1]))
print(place.keep(tokens(64)), place.keep(tokens(256, 1)), list((place.path / "new").iterdir()))
print(place.back(tokens(64)), place.back(tokens(256, 1)), place.said[-1])
"""
    told = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "tier")],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    first, second = told.stdout.splitlines()
    assert first == "[True] [False] []"
    assert second.startswith("64 0 disk tier: ") and "File too large" in told.stdout


@pytest.mark.parametrize("what", ["tier", "tier/entries", "tier/new"])
def test_a_folder_that_is_removed_is_a_miss(tmp_path: Path, what: str) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    shutil.rmtree(tmp_path / what)
    assert place.back(_RUN) == (700 if what == "tier/new" else 0)
    more = tokens(100, 1)
    assert place.keep(more) == [False] and place.store.lost and not place.store.writable
    assert place.missing(more) != [] and place.back(more) == 0
    place.store.tidy()
    place = place.again()
    assert place.keep(more) == [True] and place.back(more) == 100


_READ_ONLY = """
import os, sys
from pathlib import Path
from tests.daemon.engine.disk.made import Place, tokens
if not os.geteuid():
    os.setuid(65534)  # root may write everywhere
place = Place(Path(sys.argv[1]))
place.keep(tokens(700))
for name in ("entries", "new"):
    (place.path / name).chmod(0o500)
print(place.keep(tokens(100, 1)), place.back(tokens(700)), place.said[-1])
place.store.close()
"""


def test_a_folder_that_became_read_only_is_read() -> None:
    with tempfile.TemporaryDirectory() as folder:
        if not os.geteuid():
            os.chown(folder, 65534, -1)
        told = subprocess.run(
            [sys.executable, "-c", _READ_ONLY, folder], capture_output=True, text=True, check=False
        )
        assert told.stdout.startswith("[False] 700 ") and "Permission denied" in told.stdout, told.stderr
        for name in ("entries", "new"):
            (Path(folder) / name).chmod(0o700)
