"""A run's committed pages are what its results make, and say so when they are not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.project.test_benchmark_results import whole

from benchmark import publish
from benchmark.command import main
from benchmark.results import NoResults
from benchmark.took import Took

ROOT = Path(__file__).resolve().parents[2]
MARKED = "# A project\n\n<!-- figures of docs/benchmarks/one/results.json -->\nold\n<!-- end of figures -->\n\nMore.\n"


def test_the_committed_pages_and_the_readme_are_what_the_results_make() -> None:
    assert publish.stale() == []


def test_the_readme_takes_its_figures_from_the_named_results(tmp_path: Path) -> None:
    publish.publish(whole(), "one", tmp_path)
    readme = publish.excerpted(MARKED, tmp_path)
    assert "old" not in readme
    assert (
        "| suffix of 16 | 21.0 [20.0, 22.0] | 1.11 [1.05, 1.16] | 90.0 [90.0, 90.0] | 50.0 [50.0, 50.0] (fast peer) |"
        in readme
    )
    assert "![suffix growth](docs/benchmarks/one/suffix-growth.svg)" in readme
    assert "edit" not in readme.split("![")[0], "a turn that is not warm"
    assert readme.startswith("# A project\n\n") and readme.endswith("-->\n\nMore.\n")
    assert publish.excerpted(readme, tmp_path) == readme


def test_a_page_says_all_that_the_run_found(tmp_path: Path) -> None:
    folder = publish.publish(whole(), "one", tmp_path)
    page = (folder / publish.PAGE).read_text("utf-8")
    for told in ("| 1,000 | suffix of 64 |", "save state", "two", "undo", "a note", "[notes.md]"):
        assert (told in page) == (told != "[notes.md]")
    (folder / publish.NOTES).write_text("why\n")
    assert publish.stale(tmp_path, _readme(tmp_path)) == ["one/README.md"]


def test_a_page_says_how_long_the_background_took(tmp_path: Path) -> None:
    kept = whole()
    kept.rows[2].samples["sessiond"] = [Took(60.0, ready_ms=12_400.0)] * 5
    page = (publish.publish(kept, "one", tmp_path) / publish.PAGE).read_text("utf-8")
    above, _, below = page.partition("## What falls short")
    assert f"- {kept.rows[2].key}: the background took 12.4 s [12.4, 12.4]\n" in above
    assert "the background took" not in below


def _readme(root: Path) -> Path:
    path = root / "readme.txt"
    path.write_text(publish.excerpted(MARKED, root))
    return path


def test_every_other_file_is_stale(tmp_path: Path) -> None:
    folder, readme = publish.publish(whole(), "one", tmp_path), _readme(tmp_path)
    assert publish.stale(tmp_path, readme) == []
    (folder / "events.svg").unlink()
    (folder / "left-over.svg").write_text("<svg/>")
    readme.write_text(readme.read_text().replace("21.0", "12.0"))
    assert publish.stale(tmp_path, readme) == ["one/events.svg", "one/left-over.svg", "readme.txt"]


def test_figures_of_no_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NoResults):
        publish.excerpted(MARKED, tmp_path)


@pytest.mark.parametrize("name", ["", "../up", "A", "a/b", ".hidden"])
def test_a_name_is_one_folder(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["publish", str(tmp_path / "results.json"), name])
    assert "NAME" in capsys.readouterr().err
