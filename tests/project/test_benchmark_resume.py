"""A run that goes on keeps what it has, measures what it lacks, and takes in nothing that another run made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.adapters.tiny_models import plain
from tests.project.test_benchmark_results import report, row
from tests.project.test_benchmark_run import bench, rows_of

from benchmark.classes import Scenario, Steps
from benchmark.publish import pages
from benchmark.results import NoResults, Report, read
from benchmark.resume import in_order, missing, resumed
from benchmark.statistics import LEAST_SAMPLES

ENOUGH = [10.0] * LEAST_SAMPLES


def scenario(*labels: str) -> Scenario:
    def steps() -> Steps:
        return iter(())

    return Scenario("x", tuple(row(label, [], []) for label in labels), steps, 1, 1)


def test_what_has_samples_of_both_sides_is_kept() -> None:
    kept, few, half, gone = (scenario(label) for label in ("kept", "few", "half", "gone"))
    there = report(row("kept", ENOUGH, ENOUGH), row("few", ENOUGH, ENOUGH[1:]), row("half", [], ENOUGH))
    assert missing(there, [kept, few, half, gone]) == [few, half, gone]
    assert [each.label for each in there.rows] == ["kept"]


def test_kept_rows_tell_what_they_were_made_of() -> None:
    now = report()
    now.version = "0.2.0"
    whole = resumed(report(row("one", ENOUGH, ENOUGH)), now)
    assert [each.version for each in whole.rows] == ["0.1.0"]
    whole.rows.append(row("two", ENOUGH, ENOUGH))
    assert "sessiond 0.1.0, then 0.2.0." in pages(whole, Path("name"))["README.md"]


def test_rows_of_one_scenario_are_made_together() -> None:
    there = report(row("edit", ENOUGH, ENOUGH), row("undo", ENOUGH, []))
    both = scenario("edit", "undo")
    assert missing(there, [both]) == [both]
    assert there.rows == []


def test_rows_stand_in_the_order_of_the_plan() -> None:
    one, two, other = row("one", [], []), row("two", [], []), row("other", [], [])
    assert in_order([two, other, one], {one.key: 0, two.key: 1}) == [other, one, two]


def change(**found: object) -> Callable[[Report], None]:
    def made(now: Report) -> None:
        for name, value in found.items():
            part, _, field = name.partition("__")
            whole = getattr(now, part)
            setattr(now, part, msgspec.structs.replace(whole, **{field: value}) if field else value)

    return made


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (change(model__digest="another"), "the model"),
        (change(texts_digest="another"), "the texts"),
        (change(machine__cpu="another"), "the processor"),
        (change(machine__cores=64), "the number of cores"),
        (change(sides=[]), "the list of sides"),
    ],
)
def test_another_ones_run_is_refused(changed: Callable[[Report], None], told: str) -> None:
    now = report()
    changed(now)
    with pytest.raises(NoResults, match=told):
        resumed(report(row("one", ENOUGH, ENOUGH)), now)


@pytest.mark.timeout(300)
def test_a_run_goes_on_where_it_ended(tmp_path: Path) -> None:
    plain(tmp_path / "tiny.gguf", layers=1)
    given = ["--quick", "--no-peer", "--depths", "200", "--minutes", "2", "--repeats", str(LEAST_SAMPLES)]
    given += ["--model", str(tmp_path / "tiny.gguf"), "--out", str(tmp_path)]
    assert bench(*given, "--classes", "suffix").returncode == 0
    first = read(tmp_path / "results.json")
    went_on = bench(*given, "--classes", "again,suffix", "--resume")
    assert went_on.returncode == 0, went_on.stderr
    second = read(tmp_path / "results.json")
    assert second.rows[1:] == first.rows, "what is whole is not made anew"
    assert next(iter(rows_of(second))) == "same again"
    assert set(rows_of(second)) == {"same again", *rows_of(first)}
    assert second.began == first.began and second.seconds > first.seconds
    assert all(each.version == second.version for each in second.rows)


def test_nothing_to_go_on_with_is_told(tmp_path: Path) -> None:
    given = ["--quick", "--no-peer", "--model", "scripted-kv:", "--resume", "--out", str(tmp_path / "none")]
    went_on = bench(*given)
    assert went_on.returncode == 2
    assert "cannot be read" in went_on.stderr
