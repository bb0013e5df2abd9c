"""How often files are edited: real repositories, also hostile ones."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from dulwich.objects import Blob, Commit, ObjectID, ShaFile, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo
from tests.daemon.workspace.repositories import commit, git

from sessiond.daemon.workspace import commits, history
from sessiond.daemon.workspace.edits import MAX_CHANGES
from sessiond.daemon.workspace.history import edits_of


def _weights(root: Path) -> dict[str, float]:
    return edits_of(root).weights


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One with a first commit of three files."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    commit(folder, "calm.py", "hot.py", "src/deep/inner.py")
    return folder


def test_each_edit_counts_and_the_newest_most(repository: Path) -> None:
    for path in ("src/deep/inner.py", "hot.py", "hot.py", "new.py"):
        commit(repository, path)
    weights = _weights(repository)
    once = [2 ** (-age / commits.HALF_LIFE) for age in range(4)]
    assert weights == pytest.approx(
        {"new.py": once[0], "hot.py": once[1] + once[2], "src/deep/inner.py": once[3]}
    )


def test_the_root_may_be_a_folder_of_the_working_tree(repository: Path, tmp_path: Path) -> None:
    commit(repository, "src/deep/inner.py", "srcs", "hot.py")
    assert _weights(repository / "src") == {"deep/inner.py": 1.0}
    assert _weights(repository / "src" / "deep") == {"inner.py": 1.0}
    (tmp_path / "link").symlink_to(repository / "src")
    assert _weights(tmp_path / "link") == {"deep/inner.py": 1.0}


def test_packed_objects_and_refs(repository: Path) -> None:
    commit(repository, "hot.py")
    git(repository, "gc", "-q")
    git(repository, "pack-refs", "--all")
    assert _weights(repository) == {"hot.py": 1.0}


def test_what_was_merged_counts_and_the_merge_does_not(repository: Path) -> None:
    git(repository, "checkout", "-q", "-b", "side")
    commit(repository, "side.py")
    git(repository, "checkout", "-q", "main")
    commit(repository, "hot.py")
    git(repository, "merge", "-q", "--no-ff", "-m", "x", "side")
    assert set(_weights(repository)) == {"side.py", "hot.py"}


def test_huge_commits_deletions_and_the_first_commit_do_not_count(repository: Path) -> None:
    commit(repository, *(f"many/{number}" for number in range(MAX_CHANGES + 1)))
    (repository / "calm.py").unlink()
    commit(repository)
    assert _weights(repository) == {}


def test_a_shallow_clone_counts_what_it_has(repository: Path, tmp_path: Path) -> None:
    for path in ("a", "b", "c"):
        commit(repository, path)
    git(tmp_path, "clone", "-q", "--depth", "2", f"file://{repository}", "clone")
    assert _weights(tmp_path / "clone") == {"c": 1.0}


def test_a_worktree_and_a_detached_head(repository: Path, tmp_path: Path) -> None:
    commit(repository, "hot.py")
    git(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "tree"))
    commit(tmp_path / "tree", "only/here.py")
    assert set(_weights(tmp_path / "tree")) == {"hot.py", "only/here.py"}
    assert set(_weights(tmp_path / "tree" / "only")) == {"here.py"}
    assert set(_weights(repository)) == {"hot.py"}


def test_only_so_many_commits_count(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("old", "new", "newer"):
        commit(repository, path)
    monkeypatch.setattr(commits, "MAX_COMMITS", 2)
    assert set(commits.edits(repository).weights) == {"new", "newer"}
    monkeypatch.setattr(commits, "MAX_SECONDS", -1.0)
    assert commits.edits(repository).weights == {}


def test_no_repository(tmp_path: Path) -> None:
    assert _weights(tmp_path) == {}
    assert _weights(tmp_path / "missing") == {}
    assert _weights(Path("/nul\0byte")) == {}
    git(tmp_path, "init", "-q")
    assert _weights(tmp_path) == {}


def test_settings_of_a_repository_are_not_read(repository: Path, tmp_path: Path) -> None:
    commit(repository, "hot.py")
    os.mkfifo(tmp_path / "pipe")
    ran = tmp_path / "ran"
    with (repository / ".git" / "config").open("a") as config:
        config.write(
            f"[include]\n\tpath = {tmp_path / 'pipe'}\n[core]\n\tworktree = /\n\tfsmonitor = touch {ran}\n"
        )
    assert _weights(repository) == {"hot.py": 1.0}
    assert not ran.exists()


def test_a_module_in_the_workspace_is_not_run(repository: Path, tmp_path: Path) -> None:
    for name in ("dulwich", "json", "sitecustomize", "resource"):
        (repository / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    commit(repository, "hot.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repository)
        assert "hot.py" in _weights(repository)
    assert not (tmp_path / "ran").exists()


def _link_away(git_folder: Path) -> None:
    git_folder.rename(git_folder.with_name("elsewhere"))
    git_folder.symlink_to("elsewhere")


def _head(content: bytes) -> Callable[[Path], None]:
    def spoil(git_folder: Path) -> None:
        (git_folder / "HEAD").write_bytes(content)

    return spoil


def _pipe(git_folder: Path) -> None:
    (git_folder / "HEAD").unlink()
    os.mkfifo(git_folder / "HEAD")


def _spoil_objects(git_folder: Path) -> None:
    for path in (git_folder / "objects").rglob("*/*"):
        if path.is_file():
            path.chmod(0o600)
            path.write_bytes(b"\0\xff" * 50)


@pytest.mark.parametrize(
    "spoil",
    [
        _link_away,
        _head(b""),
        _head(b"ref: HEAD\n"),
        _head(b"ref: ../../../etc/passwd\n"),
        _head(b"f" * 40),
        _head(b"\xff\0" * 10_000),
        _pipe,
        _spoil_objects,
    ],
)
def test_a_broken_repository_has_no_weights(
    repository: Path, spoil: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(repository, "hot.py")
    spoil(repository / ".git")
    monkeypatch.setattr(history, "PATIENCE", 2.0)
    assert _weights(repository) == {}


@pytest.mark.parametrize("content", [b"", b"gitdir: ", b"gitdir: nowhere\n", b"gitdir: a\0b", b"x" * 100_000])
def test_a_git_file_that_leads_nowhere(tmp_path: Path, content: bytes) -> None:
    (tmp_path / ".git").write_bytes(content)
    assert _weights(tmp_path) == {}


def _add(repository: Repo, objects: Iterable[ShaFile]) -> None:
    for each in objects:
        repository.object_store.add_object(each)


def _commit_tree(repository: Repo, tree: Tree, parents: list[ObjectID]) -> ObjectID:
    commit = Commit()
    commit.tree = tree.id
    commit.parents = parents
    commit.author = commit.committer = b"x <x>"
    commit.author_time = commit.commit_time = commit.author_timezone = commit.commit_timezone = 0
    commit.message = b"x"
    _add(repository, [tree, commit])
    return commit.id


def test_a_tree_that_unfolds_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Repo.init(str(tmp_path)) as repository:
        tree = Tree()
        for _ in range(40):
            _add(repository, [tree])
            above = Tree()
            for name in (b"a", b"b", b"c", b"d"):
                above.add(name, 0o40000, tree.id)
            tree = above
        first = _commit_tree(repository, Tree(), [])
        repository.refs[Ref(b"HEAD")] = _commit_tree(repository, tree, [first])
    monkeypatch.setattr(history, "PATIENCE", 2.0)
    assert _weights(tmp_path) == {}


def test_names_that_are_no_text_are_passed_over(tmp_path: Path) -> None:
    blob = Blob.from_string(b"x")
    with Repo.init(str(tmp_path)) as repository:
        tree = Tree()
        for name in (b"caf\xe9", "café".encode(), b"x" * 5_000, b"a\nb"):
            tree.add(name, 0o100644, blob.id)
        first = _commit_tree(repository, Tree(), [])
        _add(repository, [blob])
        repository.refs[Ref(b"HEAD")] = _commit_tree(repository, tree, [first])
    assert _weights(tmp_path) == {"café": 1.0, "a\nb": 1.0}


def test_without_a_repository_no_process_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[object] = []
    real = subprocess.run

    def noted(*args: Any, **named: Any) -> Any:
        started.append(args)
        return real(*args, **named)

    monkeypatch.setattr("sessiond.daemon.workspace.history.subprocess.run", noted)
    (tmp_path / "a").mkdir()
    assert _weights(tmp_path / "a") == {}
    assert started == []
    (tmp_path / ".git").mkdir()
    assert _weights(tmp_path / "a") == {}
    assert len(started) == 1
