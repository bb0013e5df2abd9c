"""A replayed day is the same for the same history, ends where that ends, and is judged rightly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from dulwich.objects import Blob, Commit, ObjectID, Tree
from dulwich.refs import Ref
from dulwich.repo import Repo

from replay_choice import EDITED_SHARE, FRAME, Choice
from replay_git import History, NoHistory, text_path
from replay_hunks import MOST_HUNKS, MOST_LINES, changes, formatted, stages
from replay_plan import MOST_SAVES, Habits, Step, day
from replay_records import Day, Question, Runs, percentile
from replay_scratch import Scratch
from replay_summary import compared, exact, figures, kept_hot, kinds_table, ordered

ROOT = Path(__file__).resolve().parents[2]
ALWAYS = Habits(asks=2, undo=1.0, burst=1.0, switch=1.0)
NEVER = Habits(asks=2, undo=0.0, burst=0.0, switch=0.0)


def lines(*numbers: int) -> bytes:
    return b"".join(b"line %d\n\n" % number for number in numbers)


def question(
    kind: str, ms: float, *, changed: bool = True, early: bool = False, prefilled: int = 10
) -> Question:
    counts = {"prefix_tokens": 100, "reused_tokens": 100 - prefilled, "restored_tokens": 0}
    return Question(
        kind=kind,  # type: ignore[arg-type]  # a word of the plan's
        commit=1,
        first_token_ms=ms,
        prefilled_tokens=prefilled,
        changed=changed,
        early=early,
        **counts,
    )


# ---- from one version to the next


def test_a_file_is_saved_once_for_each_hunk_from_the_top_down() -> None:
    old, new = lines(1, 2, 3, 4, 5), lines(10, 2, 3, 4, 50)
    assert stages(old, new) == [lines(10, 2, 3, 4, 5), new]


@pytest.mark.parametrize(
    ("old", "new", "saves"),
    [(b"a\n", b"a\n", 0), (None, b"a\n", 1), (b"a\n", None, 1), (b"", b"a", 1), (b"a\r\n", b"a\n", 1)],
)
def test_a_file_that_comes_or_goes_is_one_save(old: bytes | None, new: bytes | None, saves: int) -> None:
    assert stages(old, new) == [new] * saves


def test_the_last_save_is_the_new_version_however_long_and_however_many() -> None:
    many = range(0, 4 * MOST_HUNKS, 2)
    old = lines(*range(4 * MOST_HUNKS))
    new = lines(*(number + 1000 * (number in many) for number in range(4 * MOST_HUNKS)))
    assert len(stages(old, new)) == MOST_HUNKS
    assert stages(old, new)[-1] == new
    long = b"x\n" * (MOST_LINES + 1)
    assert stages(long, b"y\n" + long) == [b"y\n" + long]


def test_a_folder_may_come_where_a_file_was() -> None:
    assert list(changes({"a": b"1", "b": b"2"}, {"a/x": b"3", "b": b"2"}).items()) == [
        ("a", None),
        ("a/x", b"3"),
    ]


def test_a_formatter_changes_blank_lines_alone() -> None:
    assert formatted(b"a  \n\n\nb") == b"a\nb\n"
    assert formatted(formatted(lines(1, 2))) == formatted(lines(1, 2))


# ---- what is worked on


def test_the_files_with_the_most_hunks_for_their_size_come_first_and_leave_room_for_others() -> None:
    before = {
        "busy": lines(*range(9)),
        "huge": lines(*range(999)),
        "once": lines(1),
        "poetry.lock": b"1",
        "still": lines(5),
    }
    after = before | {"busy": lines(90, *range(1, 8), 80), "huge": b"", "once": lines(2), "poetry.lock": b"2"}
    choice = Choice([before, after], seed=1)
    assert choice.busiest(1_000) == {"busy", "once", "still"}
    assert choice.busiest(int(40 / EDITED_SHARE)) == {"once", "still"}
    assert choice.busiest(0) == Choice([], 1).busiest(1_000) == frozenset()


def test_a_blind_choice_depends_on_the_seed_alone() -> None:
    files = {f"{number:02}": b"x" * 100 for number in range(50)}
    once, again, other = (Choice([files], seed).any(1_000) for seed in (1, 1, 2))
    assert once == again != other
    assert len(once) == len(other) == 1_000 // (100 + 2 + FRAME)


# ---- the day

VERSIONS = [
    {"a.py": lines(*range(20)), "b.py": lines(1, 2, 3), "gone": b"old\n"},
    {
        "a.py": lines(100, *range(1, 10), 110, *range(11, 19), 190),
        "b.py": lines(1, 2, 3),
        "new/c.py": lines(7),
    },
    {"a.py": lines(0), "b.py": lines(1, 20, 3), "new/c.py": lines(7)},
]
OTHER = {"a.py": lines(3), "old/d.py": lines(4)}


def steps(habits: Habits = ALWAYS, seed: int = 1) -> list[Step]:
    return list(day(VERSIONS, OTHER, habits, seed))


def test_a_day_has_every_kind_of_event_and_is_the_same_again() -> None:
    assert {step.kind for step in steps()} == {"save", "undo", "burst", "switch", "back"}
    assert steps() == steps()


def test_questions_are_spread_over_a_commits_saves_and_one_follows_the_last() -> None:
    saves = [step for step in steps(NEVER) if step.commit == 1]
    assert [step.kind for step in saves] == ["save"] * len(saves)
    assert [step.asked for step in saves] == [False, False, True, False, True]


def test_a_huge_commit_is_saved_as_a_whole_in_the_end() -> None:
    many = {f"{number:05}": b"x" for number in range(MOST_SAVES + 5)}
    made = list(day([{}, many], {}, NEVER, 1))
    assert len(made) == MOST_SAVES + 1
    assert (made[-1].kind, len(made[-1].writes)) == ("burst", 5)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("habits", [ALWAYS, NEVER, Habits()])
def test_the_folder_ends_as_the_last_version(tmp_path: Path, seed: int, habits: Habits) -> None:
    scratch = Scratch(tmp_path / "w", VERSIONS[0])
    for step in steps(habits, seed):
        scratch.apply(step)
        assert all(scratch.read(path) == content for path, content in step.writes.items())
    left = {path.relative_to(scratch.root).as_posix(): path for path in scratch.root.rglob("*")}
    assert {name: path.read_bytes() for name, path in left.items() if path.is_file()} == VERSIONS[-1]
    assert {name for name, path in left.items() if path.is_dir()} == {"new"}


# ---- what is noted, and what it comes to


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 1.0)] == [50, 95, 100]
    assert percentile([3.0], 0.95) == 3
    assert percentile([], 0.5) == 0


def runs() -> Runs:
    found = Runs()
    for at, phase, tokens in [
        (1.1, "started", 0),
        (1.2, "superseded", 30),
        (1.3, "started", 0),
        (1.5, "finished", 70),
        (2.1, "started", 0),
    ]:
        found.heard(at, phase, tokens)
    return found


def test_runs_are_told_apart_by_how_they_ended() -> None:
    assert [run.prefilled_tokens for run in runs().in_phase("superseded")] == [30]
    assert [run.prefilled_tokens for run in runs().in_phase("finished")] == [70]
    assert runs().unfinished_since(2.0)
    assert not runs().unfinished_since(2.2), "one that never ended is no excuse for later ones"


def test_the_lag_is_that_of_the_last_write_before_the_run() -> None:
    assert runs().lags_ms([0.5, 1.0, 1.25, 2.0]) == [pytest.approx(250)]
    assert runs().lags_ms([]) == []


def test_an_event_without_its_beginning_is_passed_over() -> None:
    found = Runs()
    found.heard(1.0, "finished", 5)
    assert found.all == []


def lived(*questions: Question) -> Day:
    return Day(list(questions))


def met(outcome: object) -> list[bool]:
    return [target.met for target in getattr(outcome, "targets")]  # noqa: B009


def test_a_save_is_held_against_a_plain_turn_where_there_was_time() -> None:
    plain = question("plain", 100, changed=False)
    assert met(kept_hot(lived(plain, question("save", 115)), think=5)) == [True]
    assert met(kept_hot(lived(plain, question("save", 116)), think=5)) == [False]
    early = lived(plain, question("save", 900, early=True))
    assert met(kept_hot(early, think=5)) == met(kept_hot(early, think=0)) == []
    assert kept_hot(early, think=5).not_measured


def test_what_changed_nothing_in_the_prefix_is_not_counted() -> None:
    noted = lived(question("plain", 100), question("save", 900, changed=False), question("save", 100))
    assert met(kept_hot(noted, think=5)) == [True]
    told = figures(noted)["kinds"]
    assert isinstance(told, dict)
    assert (told["save"]["turns"], told["save"]["elsewhere"]) == (1, 1)


def test_keep_hot_is_held_against_none_where_nobody_thinks() -> None:
    ours = lived(question("plain", 105, changed=False), question("save", 106))
    theirs = lived(question("plain", 100, changed=False), question("save", 100))
    assert met(compared(ours, theirs, think=0)) == [False, False, True, True]
    assert met(compared(ours, theirs, think=5)) == []


def test_anything_stale_is_a_miss_and_no_check_is_no_target() -> None:
    assert met(exact([Day(checked=3)])) == [True]
    assert met(exact([Day(checked=3, stale=["a"])])) == [False]
    assert met(exact([Day(checked=3, answers_checked=6)])) == [True, True]
    assert met(exact([Day(checked=3, answers_checked=6, unlike=["a"])])) == [True, False]
    assert len(exact([Day()]).not_measured) == 2


def test_the_orders_are_compared_by_what_was_computed_again() -> None:
    cold = question("cold", 1, prefilled=100)
    few, many = (lived(cold, question("save", 1, prefilled=count)) for count in (10, 20))
    assert [target.value for target in ordered(few, many).targets] == [0.5]
    assert ordered(few, lived(cold)).not_measured


def test_the_table_has_a_line_for_each_kind() -> None:
    told = kinds_table({"hot": lived(question("cold", 900), question("plain", 5), question("save", 7))})
    assert [line.split()[:2] for line in told.splitlines()[1:]] == [
        ["hot", "cold"],
        ["hot", "plain"],
        ["hot", "save"],
    ]


# ---- a repository


def git(folder: Path, *arguments: str) -> None:
    environ = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    named = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(
        ["git", "-C", str(folder), *named, *arguments], env=environ, check=True, capture_output=True
    )


def function(name: str, number: int) -> str:
    return f"def {name}(value: int) -> int:\n    total = value + {number}\n\n    return total\n\n\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small project of five commits."""
    folder = tmp_path / "repository"
    (folder / "src").mkdir(parents=True)
    git(folder, "init", "--quiet")
    (folder / "README.md").write_text("# A project\n")
    (folder / "picture.dat").write_bytes(b"\0\1\2")
    (folder / "link").symlink_to("README.md")
    (folder / ".sessiond.toml").write_text("budget = 1\n")
    for commit in range(5):
        for name in ("first", "second"):
            text = "".join(
                function(f"{name}_{number}", number if number % 3 else commit) for number in range(7)
            )
            (folder / f"src/{name}.py").write_text(text)
        if commit == 3:
            (folder / "README.md").unlink()
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", f"commit {commit}")
    return folder


def test_what_nobody_edits_as_text_is_no_part_of_the_history(repository: Path) -> None:
    history = History(repository / "src")
    commits = history.first_parents(100)
    assert len(commits) == 5
    assert list(history.files(commits[-1])) == ["README.md", "src/first.py", "src/second.py"]
    assert list(history.files(commits[0])) == ["src/first.py", "src/second.py"]
    newer, older = (history.files(commit)["src/first.py"] for commit in commits[:2])
    assert len(stages(older, newer)) == 3
    history.close()


@pytest.mark.parametrize(
    "path",
    [
        b"../a",
        b"a/../b",
        b"/a",
        b"a//b",
        b".git/config",
        b"a/.GIT/x",
        b"a\\b",
        b"\xff",
        b"a/./b",
        b"",
        b"x" * 300,
    ],
)
def test_a_path_that_leads_elsewhere_is_left_out(path: bytes) -> None:
    assert text_path(path) is None


def committed(folder: Path, *trees: Tree, top: Tree) -> History:
    """A history of one commit, made of these objects as they are."""
    repo = Repo.init(folder, mkdir=True)
    commit = Commit()
    commit.tree, commit.author, commit.committer, commit.message = top.id, b"A <a>", b"A <a>", b"m"
    commit.author_time = commit.commit_time = commit.author_timezone = commit.commit_timezone = 0
    blob = Blob.from_string(b"text\n")
    for each in (blob, *trees, top, commit):
        repo.object_store.add_object(each)
    repo.refs[Ref(b"refs/heads/master")] = commit.id
    repo.refs.set_symbolic_ref(Ref(b"HEAD"), Ref(b"refs/heads/master"))
    repo.close()
    return History(folder)


def test_a_tree_with_a_file_and_a_folder_of_one_name_can_be_written(tmp_path: Path) -> None:
    text = Blob.from_string(b"text\n").id
    sub, top = Tree(), Tree()
    sub.add(b"x", 0o100644, text)
    top.add(b"a", 0o100644, text)
    top.add(b"a/", 0o100644, text)
    top.add(b"b", 0o40000, sub.id)
    top.add(b"b/x/y", 0o100644, text)
    top.add(b"missing", 0o40000, ObjectID(b"1" * 40))
    history = committed(tmp_path / "r", sub, top=top)
    files = history.files(history.first_parents(1)[0])
    assert list(files) == ["a", "b/x"]
    Scratch(tmp_path / "w", files)
    history.close()


def test_a_tree_that_only_grows_is_left_in_time(tmp_path: Path) -> None:
    trees = [Tree()]
    for _ in range(10):
        wider = Tree()
        for number in range(100):
            wider.add(b"%03d" % number, 0o40000, trees[-1].id)
        trees.append(wider)
    history = committed(tmp_path / "r", *trees[:-1], top=trees[-1])
    assert history.files(history.first_parents(1)[0]) == {}
    history.close()


def test_where_there_is_nothing_to_replay_that_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoHistory, match="no git repository"):
        History(tmp_path)
    git(tmp_path, "init", "--quiet")
    with pytest.raises(NoHistory, match="no commit"):
        History(tmp_path).first_parents(2)
    done = replay("--repo", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")


def test_the_scratch_copy_has_the_history_up_to_where_the_day_begins(
    repository: Path, tmp_path: Path
) -> None:
    history = History(repository)
    newest, _, begins, *_ = history.first_parents(5)
    scratch = Scratch(tmp_path / "w", history.files(begins))
    scratch.with_history(history.objects, begins)
    copied = History(scratch.root)
    assert copied.first_parents(9) == history.first_parents(5)[2:]
    assert copied.files(newest) == history.files(newest)
    for each in (history, copied):
        each.close()


def replay(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/replay.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


SMALL = [
    "--commits",
    "2",
    "--asks",
    "2",
    "--num-ctx",
    "4096",
    "--max-tokens",
    "3000",
    "--model",
    "scripted-kv:",
]


def lived_day(repository: Path, *options: str) -> dict[str, Any]:
    """A small day at two daemons, and what has to hold of any."""
    day = ["--think", "0", "--compare", "--check-exact", "1", "--seed", "3"]
    done = replay("--repo", str(repository), *SMALL, *day, *options)
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["faults"] == {}
    assert found["scenarios"]["exact"]["stale"] == []
    assert found["scenarios"]["exact"]["checked"] >= 4
    for turns in (found["turns"]["hot"], found["turns"]["not-hot"]):
        assert [turn["kind"] for turn in turns[:2]] == ["cold", "plain"]
        assert all(after["kind"] == "plain" for before, after in pairwise(turns) if before["kind"] != "plain")
        tiers = ("reused_tokens", "restored_tokens", "prefilled_tokens")
        assert all(sum(turn[tier] for tier in tiers) == turn["prefix_tokens"] > 0 for turn in turns)
        assert not any(turn["prefilled_tokens"] for turn in turns if turn["kind"] == "plain")
    # A scripted backend's times mean nothing.
    assert done.returncode == any(not target["met"] for target in found["targets"])
    return found


def test_a_days_answers_are_those_of_cold_sessions(repository: Path) -> None:
    exactly = lived_day(repository, "--deterministic")["scenarios"]["exact"]
    assert exactly["unlike"] == []
    assert exactly["answers_checked"] >= 12


def test_a_day_writes_no_kv_twice(repository: Path) -> None:
    found = lived_day(repository, "--disk")
    disk = found["scenarios"]["disk"]
    assert disk["written_tokens"] >= disk["new_tokens"] > 3_000
    assert (
        disk["process_bytes"] is None
        or disk["process_bytes"] == 0
        or disk["process_bytes"] > disk["kv_bytes"]
    )
    targets = [target for target in found["targets"] if target["scenario"] == "disk"]
    assert [target["met"] for target in targets] == [True], "no KV is written twice"


def test_both_orders_see_the_same_edits(repository: Path) -> None:
    done = replay("--repo", str(repository), *SMALL, "--order")
    found = json.loads(done.stdout)
    volatility, path = found["turns"]["volatility"], found["turns"]["path"]
    assert [turn["kind"] for turn in volatility] == [turn["kind"] for turn in path]
    assert [turn["prefix_tokens"] for turn in volatility] == [turn["prefix_tokens"] for turn in path]
    assert done.returncode == any(not target["met"] for target in found["targets"])


@pytest.mark.parametrize(
    "wrong",
    [["--commits", "0"], ["--max-tokens", "9000"], ["--compare", "--order"], ["--disk", "--deterministic"]],
)
def test_wrong_usage_is_told_before_anything_starts(wrong: list[str]) -> None:
    done = replay(*wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage:" in done.stderr
