"""What the machine has to give, read from files such as the kernel writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from sessiond.daemon.machine import Machine, available_memory, total_memory

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """With 8 GiB left, in the group /a/b, which nothing limits."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:       16777216 kB\nMemAvailable:    8388608 kB\n")
    (tmp_path / "proc/self/cgroup").write_text("0::/a/b\n")
    (tmp_path / "groups/a/b").mkdir(parents=True)
    return Machine(tmp_path / "proc", tmp_path / "groups")


def _limit(machine: Machine, group: str, **files: str) -> None:
    for name, text in files.items():
        (machine.groups / group / f"memory.{name}").write_text(text + "\n")


def test_without_limits_it_is_what_the_machine_has(machine: Machine) -> None:
    assert machine.available() == 8 * GIB
    _limit(machine, "a/b", max="max", high="max", current=str(GIB))
    assert machine.available() == 8 * GIB


@pytest.mark.parametrize("group", ["", "a", "a/b"])
@pytest.mark.parametrize("kind", ["max", "high"])
def test_every_group_above_may_be_the_tightest(machine: Machine, group: str, kind: str) -> None:
    _limit(machine, group, **{kind: str(4 * GIB)}, current=str(3 * GIB))
    assert machine.available() == GIB


def test_the_tighter_of_the_two_limits_of_a_group_counts(machine: Machine) -> None:
    _limit(machine, "a", max=str(4 * GIB), high=str(2 * GIB), current=str(GIB))
    assert machine.available() == GIB
    assert machine.total() <= 4 * GIB  # what is slow is there all the same


def test_file_pages_that_nobody_uses_count_as_left(machine: Machine) -> None:
    _limit(machine, "a", max=str(4 * GIB), current=str(3 * GIB), stat=f"anon 5\ninactive_file {GIB}\nfile 7")
    assert machine.available() == 2 * GIB


def test_a_group_that_is_over_its_limit_has_nothing(machine: Machine) -> None:
    _limit(machine, "a", high=str(GIB), current=str(3 * GIB))
    assert machine.available() == 0


def test_the_machine_counts_where_it_has_less(machine: Machine) -> None:
    _limit(machine, "a", max=str(64 * GIB), current="0")
    assert machine.available() == 8 * GIB


@pytest.mark.parametrize("told", ["", "0::/../elsewhere\n", "1:name=systemd:/x\n", "0::/not/there\n", "\xff"])
def test_a_group_that_cannot_be_followed_leaves_the_topmost(machine: Machine, told: str) -> None:
    (machine.proc / "self/cgroup").write_text(told, encoding="latin-1")
    _limit(machine, "", max=str(4 * GIB), current=str(3 * GIB))
    assert machine.available() == GIB


def test_files_that_say_something_else_are_no_limits(machine: Machine) -> None:
    _limit(machine, "a", max="-1", high="many", current="?", stat="inactive_file\n\ninactive_file x")
    assert machine.available() == 8 * GIB


def test_this_machine_has_something_and_no_more_than_all() -> None:
    assert 0 < available_memory() <= total_memory()
