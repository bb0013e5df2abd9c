"""The comparison counts and judges rightly, and fails where a target is missed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.adapters.tiny_models import plain

from benchmark.at_once import at_once
from benchmark.llama_server import ServerTurn
from benchmark.load import OtherLoad
from benchmark.stamps import together
from benchmark.turns import Turn, greedy
from benchmark.unix_http import ServerError, event_of
from compare_bench import Sizes
from compare_server import Flags
from compare_verdict import Outcome, missed, rounded, table

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "prefix": 4000,
    "suffix": 16,
    "answer": 64,
    "sessions": 8,
    "rounds": 3,
    "repeats": 5,
    "switches": 11,
    "alone": 1000,
    "neighbour": 8000,
}


def outcome() -> Outcome:
    found = Outcome({"figure": 1.0})
    found.at_most("a cost", 1.5, 1.0)
    found.at_least("a speed", 1.5, 1.0)
    found.at_most("a limit itself", 1.0, 1.0)
    return found


def test_a_target_is_met_up_to_its_limit() -> None:
    assert [target.met for target in outcome().targets] == [False, True, True]


def test_what_was_missed_is_named() -> None:
    assert missed({"eight": outcome()}) == ["eight: a cost is 1.500, which should be at most 1"]
    assert missed({"eight": Outcome()}) == []


def test_a_scenario_that_did_not_end_fails() -> None:
    broken = {"exact": Outcome(fault="TimeoutError: no end")}
    assert missed(broken) == ["exact: TimeoutError: no end"]
    assert table(broken).splitlines()[-1].endswith("FAILED")


def test_the_table_has_every_target_and_what_was_not_measured() -> None:
    found = outcome()
    found.not_measured.append("a ratio")
    lines = table({"eight": found}).splitlines()
    assert [line.split("  ")[-1].strip() for line in lines[1:]] == ["MISSED", "met", "met", "not measured"]


def test_the_speed_together_counts_only_while_all_decode() -> None:
    early = [(0.0, 1), (1.0, 1), (2.0, 2), (3.0, 1)]
    late = [(1.0, 1), (2.0, 1), (3.0, 2), (9.0, 1)]
    assert together([early, late]) == (2 + 1 + 1 + 2) / 2.0


def test_what_is_told_at_once_was_not_made_at_once() -> None:
    one_by_one = [(float(at), 1) for at in range(10)]
    in_chunks = [(0.5, 1), (4.5, 4), (8.5, 4)]
    assert together([one_by_one, in_chunks]) == pytest.approx(2.0)


@pytest.mark.parametrize("streams", [[[(0.0, 1)], [(1.0, 1), (2.0, 1)]], [[], [(0.0, 1), (1.0, 1)]]])
def test_streams_that_never_decode_together_have_no_speed(streams: list[list[tuple[float, int]]]) -> None:
    assert together(streams) == 0.0


def test_figures_are_rounded_in_any_shape() -> None:
    assert rounded({"a": [1.23456, 2], "b": {"c": None}}) == {"a": [1.235, 2], "b": {"c": None}}


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"switches": 2}, {"prefix": 30}])
def test_sizes_that_measure_nothing_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sizes(**SIZES | wrong)


def test_a_turn_is_timed_from_its_request() -> None:
    turn = Turn(1.0, stamps=[(1.5, 1), (1.6, 2), (1.9, 2)])
    assert turn.first_token_ms == pytest.approx(500)
    assert turn.token_ms == pytest.approx(100)


def test_a_turn_without_a_token_ends_with_the_word_for_it() -> None:
    turn = Turn(1.0, ended=1.25)
    assert turn.first_token_ms == pytest.approx(250)
    assert turn.token_ms == 0.0


def test_tokens_that_must_not_come_are_biased() -> None:
    assert [bias.token_id for bias in greedy(8, never=(2, 0)).logit_bias] == [2, 0]


def test_acts_at_once_keep_their_order_and_raise() -> None:
    _, results = at_once([lambda: 1, lambda: 2, lambda: 3])
    assert results == [1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        at_once([lambda: 1, lambda: 1 // 0])


def test_the_servers_stream_is_read() -> None:
    lines = [
        b'data: {"content": "a", "tokens": [7], "stop": false}\n',
        b"\n",
        b": a comment\n",
        b'data: {"content": "", "tokens": [], "stop": true, "timings": {"prompt_n": 16, "cache_n": 4000}}\n',
        b"data: [DONE]\n",
    ]
    turn = ServerTurn(0.0)
    for event in filter(None, map(event_of, lines)):
        turn.take(event)
    assert [count for _, count in turn.stamps] == [1]
    assert (turn.prefilled_tokens, turn.reused_tokens) == (16, 4000)


@pytest.mark.parametrize(
    "line", [b'error: {"message": "no room"}\n', b'data: {"error": {"message": "no room"}}\n']
)
def test_an_error_in_the_servers_stream_is_raised(line: bytes) -> None:
    with pytest.raises(ServerError, match="no room"):
        event_of(line)


@pytest.mark.parametrize("flash_attn", [True, False])
def test_the_server_gets_its_best_flags(flash_attn: bool) -> None:
    told = " ".join(Flags(flash_attn, slots=8, cells=36736, threads=2).arguments())
    assert "-np 8" in told
    assert "--kv-unified" in told
    assert f"-fa {'on' if flash_attn else 'off'}" in told


def test_what_we_and_our_children_use_is_not_the_load_of_others() -> None:
    load = OtherLoad()
    before = load._own()
    spinning = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", spinning], check=True)
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    assert load._own() - before >= 0.5
    assert 0.0 <= load.share() <= 1.0


def compare(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts/compare.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_it_runs_against_a_daemon_and_says_what_it_found() -> None:
    sizes = ["--prefix", "200", "--switches", "4", "--neighbour", "300", "--repeats", "2", "--answer", "8"]
    done = compare("--no-peer", "--model", "scripted-kv:", "--only", "switch,undo,neighbour", *sizes)
    found = json.loads(done.stdout)
    assert [target["scenario"] for target in found["targets"]] == [
        "switch",
        "switch",
        "undo",
        "undo",
        "neighbour",
    ]
    # A scripted backend's times mean nothing, its counts do.
    counts = [target for target in found["targets"] if "computed" in target["name"]]
    assert [target["met"] for target in counts] == [True, True]
    assert done.returncode == any(not target["met"] for target in found["targets"])
    assert [each["scenario"] for each in found["not_measured"]] == ["hot"]


def test_many_sessions_run_beside_the_bare_loop(tmp_path: Path) -> None:
    plain(tmp_path / "tiny.gguf", layers=1)
    sizes = ["--prefix", "200", "--sessions", "3", "--rounds", "2", "--repeats", "2", "--answer", "8"]
    given = ["--no-peer", "--model", str(tmp_path / "tiny.gguf"), "--only", "eight,streams"]
    done = compare(*given, *sizes)
    found = json.loads(done.stdout)
    assert found["faults"] == {}
    [computed, _] = found["targets"]
    assert (computed["name"], computed["met"]) == ("prefilled / (prefix + suffixes)", True)
    eight, streams = (found["scenarios"][name] for name in ("eight", "streams"))
    assert [ms > 0 for ms in eight["bare_ms"]] == [True] * 2
    assert [speed > 0 for speed in streams["bare"]["tokens_per_second"]] == [True] * 2


def test_without_a_model_file_there_is_no_bare_loop() -> None:
    done = compare("--no-peer", "--model", "scripted-kv:", "--only", "streams", "--prefix", "200")
    assert done.returncode == 1
    assert json.loads(done.stdout)["faults"] == {"streams": "NotMeasured: the model cannot be loaded"}


@pytest.mark.parametrize("wrong", [["--only", "nine"], ["--switches", "2"]])
def test_wrong_usage_is_told_before_anything_starts(wrong: list[str]) -> None:
    done = compare(*wrong)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage:" in done.stderr
