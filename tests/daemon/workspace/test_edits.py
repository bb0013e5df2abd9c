"""What counts as an edit beside those of commits: real repositories in which work goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.daemon.workspace.repositories import commit, git

from sessiond.daemon.workspace import commits, committed
from sessiond.daemon.workspace.assemble import file_sizes
from sessiond.daemon.workspace.edits import MAX_CHANGES, Edits
from sessiond.daemon.workspace.history import edits_of
from sessiond.daemon.workspace.overlay import Overlay


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One whose commits count nothing: there is but the first."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "a.py", "b.py", "empty.py", "src/c.py")
    (folder / "empty.py").write_bytes(b"")
    commit(folder)
    git(folder, "update-ref", "refs/heads/main", _alone(folder))
    return folder


def _alone(folder: Path) -> str:
    """A commit of what the newest one holds, without those before it."""
    return git(folder, "commit-tree", "-m", "x", "HEAD^{tree}").strip()


def _counted(root: Path) -> dict[str, float]:
    return edits_of(root).counted(file_sizes(root))


def test_what_is_committed_counts_nothing_more(repository: Path) -> None:
    assert _counted(repository) == {}
    commit(repository, "a.py")
    assert _counted(repository) == {"a.py": 1.0}


def test_new_and_changed_files_count_as_edits_of_the_newest_commit(repository: Path) -> None:
    commit(repository, "a.py")
    for path in ("a.py", "empty.py", "new.py", "src/new.py"):
        with (repository / path).open("a") as file:
            file.write("more\n")
    assert _counted(repository) == {"a.py": 2.0, "empty.py": 1.0, "new.py": 1.0, "src/new.py": 1.0}
    assert _counted(repository / "src") == {"new.py": 1.0}
    commit(repository)
    assert _counted(repository).keys() == {"a.py", "empty.py", "new.py", "src/new.py"}


def test_what_is_staged_is_not_committed_yet(repository: Path) -> None:
    (repository / "b.py").write_text("changed\n")
    (repository / "new.py").write_text("new\n")
    git(repository, "add", "-A")
    assert _counted(repository) == {"b.py": 1.0, "new.py": 1.0}
    (repository / "later.py").write_text("later\n")
    git(repository, "add", "--intent-to-add", "later.py")
    assert _counted(repository) == {"b.py": 1.0, "new.py": 1.0, "later.py": 1.0}


def test_an_unsaved_buffer_is_work(repository: Path) -> None:
    overlay = Overlay()
    overlay.set_buffer(repository, "b.py", "unsaved\n" * 9)
    assert edits_of(repository).counted(file_sizes(repository, overlay.wishes())) == {"b.py": 1.0}


def test_a_copy_with_other_times_has_no_edits(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository, tmp_path / "copy", copy_function=shutil.copyfile)
    assert _counted(tmp_path / "copy") == {}


def test_what_the_index_does_not_tell_counts_nothing(repository: Path) -> None:
    (repository / "b.py").write_text("changed\n")
    git(repository, "rm", "-q", "--cached", "b.py")
    assert _counted(repository) == {}
    (repository / ".git" / "index").unlink()
    assert edits_of(repository) == Edits()


def test_a_broken_index_leaves_what_commits_tell(repository: Path) -> None:
    commit(repository, "a.py")
    index = repository / ".git" / "index"
    whole = index.read_bytes()
    for spoilt in (b"", b"DIRC", whole[:60], b"DIRC\0\0\0\2\xff\xff\xff\xff" + whole[12:], b"\0" * 10_000):
        index.write_bytes(spoilt)
        assert edits_of(repository) == Edits({"a.py": 1.0})


def test_a_compressed_index(repository: Path) -> None:
    (repository / "new.py").write_text("new\n")
    git(repository, "update-index", "--index-version", "4")
    assert _counted(repository) == {"new.py": 1.0}


def test_a_repository_without_commits_tells_nothing(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "new.py").write_text("new\n")
    assert _counted(tmp_path) == {}
    git(tmp_path, "add", "-A")
    assert _counted(tmp_path) == {}


def test_of_too_many_files_nothing_is_told(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(commits.edits(repository).committed) == {"a.py", "b.py", "empty.py", "src/c.py"}
    monkeypatch.setattr(committed, "MAX_FILES", 3)
    assert commits.edits(repository).committed == {}


def test_more_than_a_commit_may_have_is_no_work() -> None:
    edits = Edits({"old": 1.0}, {"old": 5})
    new = {f"{number}": 7 for number in range(MAX_CHANGES)}
    assert edits.counted({"old": 5} | new) == {"old": 1.0} | dict.fromkeys(new, 1.0)
    assert edits.counted({"old": 6} | new) == {"old": 1.0}
