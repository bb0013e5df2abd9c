"""What failed a backend, or killed it, is not used again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.daemon.engine.disk.made import Place, tokens

from sessiond.daemon.engine.disk import store as store_file
from sessiond.daemon.engine.disk.marks import Marks

_RUN = tokens(700)


def test_what_failed_is_set_aside_and_not_written_again(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    bad = place.ahead(_RUN)[1].entry.label.name
    place.store.set_aside(bad, "the backend refused it")
    assert (place.path / "aside" / bad).exists() and place.back(_RUN) == 700 - 256
    assert place.missing(_RUN) == [] and bad in place.said[-1]
    place = place.again()
    assert place.missing(_RUN) == [] and place.back(_RUN) == 700 - 256


def test_what_is_set_aside_is_bounded(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    names = list[str]()
    for seed in range(store_file.ASIDE_MOST + 3):
        place.keep(tokens(32, seed))
        names.append(place.ahead(tokens(32, seed))[0].entry.label.name)
        place.store.set_aside(names[-1], "a test")
    assert sorted(path.name for path in (place.path / "aside").iterdir()) == sorted(names[3:])


_DIE = """
import os, signal, sys
from pathlib import Path
from tests.daemon.engine.disk.made import Place, tokens
place = Place(Path(sys.argv[1]))
found = place.ahead(tokens(700))
if len(found) > 1:
    place.store.begin_use(found[1].entry.label.name)
    if sys.argv[2] != "ill":
        place.store.end_use(found[1].entry.label.name)
    if sys.argv[2] == "both":
        place.store.begin_use(found[1].entry.label.name)
print(sum(each.matched for each in found), flush=True)
os.kill(os.getpid(), signal.SIGSEGV)
"""


def test_what_killed_the_process_twice_is_set_aside(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    place.store.close()

    def die(how: str) -> int:
        told = subprocess.run(
            [sys.executable, "-c", _DIE, place.path, how], stdout=subprocess.PIPE, check=False
        )
        assert told.returncode == -signal.SIGSEGV
        return int(told.stdout)

    # A good use in between clears it of suspicion.
    for how in ("ill", "well", "ill", "both", "ill"):
        assert die(how) == 700
    assert die("ill") == 700 - 256
    assert len(list((place.path / "aside").iterdir())) == 1
    place = Place(place.path)
    assert place.back(_RUN) == 700 - 256 and place.said == [], "it is set aside once"


def test_what_is_condemned_stays_so_until_it_is_set_aside(tmp_path: Path) -> None:
    """However often the process dies while it starts."""
    bad, suspect = "a" * 40 + "-0", "b" * 40 + "-256"
    with (tmp_path / "marks").open("w+b", buffering=0) as file:
        for deaths in range(3):
            marks = Marks(file.fileno())
            assert marks.condemned == ([bad] if deaths == 2 else [])
            marks.begin(bad)
            if not deaths:
                marks.begin(suspect)
        for _ in range(3):
            assert Marks(file.fileno()).condemned == [bad]
        Marks(file.fileno()).end(bad)
        marks = Marks(file.fileno())
        assert marks.condemned == []
        marks.begin(suspect)
        assert Marks(file.fileno()).condemned == [suspect], "its first death was not forgotten either"


def test_a_file_of_marks_may_hold_anything(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    place.keep(_RUN)
    for content in (b"", os.urandom(10000), b"\1\xff" + b"../../etc/passwd".ljust(62, b"\0"), b"\1" * 4096):
        place.store.close()
        (place.path / "marks").write_bytes(content)
        place = Place(place.path)
        assert place.back(_RUN) == 700


def test_more_in_use_than_there_are_marks_is_no_fault(tmp_path: Path) -> None:
    place = Place(tmp_path / "tier")
    names = [f"{number:040x}-0" for number in range(100)]
    for name in names:
        place.store.begin_use(name)
    for name in names:
        place.store.end_use(name)
    assert (place.path / "marks").read_bytes() == bytes(4096)
