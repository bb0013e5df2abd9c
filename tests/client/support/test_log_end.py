"""Of a log's line comes through what its form shows to be harmless, and nothing else."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessiond.client.support import log_end as module
from sessiond.client.support.log_end import MOST_LINES, LogEnd, log_end
from sessiond.daemon.settings import load_settings
from sessiond.v1.errors import InvalidInput

MARK = "QuetzalcoatlSleeps"
HEAD = {"timestamp": "2026-01-02T03:04:05.678901Z", "level": "info", "event": "rpc"}


def _of(path: Path, *records: object) -> LogEnd:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return log_end(path)


def _one(path: Path, **more: object) -> dict[str, Any]:
    [told] = _of(path, HEAD | more).records
    return told


def test_what_is_known_comes_through(tmp_path: Path) -> None:
    more = {
        "method": "SessionService/Complete",
        "session": "sessions/0123456789abcdef",
        "code": "OUT_OF_RANGE",
        "reason": "CONTEXT_OVERFLOW",
        "finish": "stop_string",
        "ms": 12.5,
        "prefix_tokens": 3,
        "attached": True,
        "nothing": None,
    }
    assert _one(tmp_path / "log", **more) == HEAD | more


@pytest.mark.parametrize(
    "more",
    [
        {"error": MARK},
        {"model": f"/home/{MARK}/m.gguf"},
        {"root": f"/{MARK}"},
        {"paths": [MARK]},
        {"deep": {"ms": MARK}},
        {MARK: 1},
        {MARK.lower() * 3: 1},
        {"session": f"sessions/{MARK}"},
        {"session": "sessions/0123456789abcdef" + MARK},
        {"method": f"SessionService/{MARK}/x"},
        {"method": MARK},
        {"code": MARK.upper()},
        {"reason": MARK.upper()},
        {"finish": MARK},
        {"ms": MARK},
        {"timestamp_of": MARK},
    ],
    ids=str,
)
def test_what_could_be_content_stays_out_and_is_counted(tmp_path: Path, more: dict[str, object]) -> None:
    told = _one(tmp_path / "log", **more)
    assert told == HEAD | {"left_out": 1}


@pytest.mark.parametrize("name", ["timestamp", "level", "event"])
def test_a_line_that_is_no_record_stays_out_whole(tmp_path: Path, name: str) -> None:
    for wrong in (MARK, 7, None, [MARK], f"{HEAD[name]} {MARK}"):
        assert _of(tmp_path / "log", HEAD | {name: wrong, "ms": 1}) == LogEnd((), 1)
    without = {key: value for key, value in HEAD.items() if key != name}
    assert _of(tmp_path / "log", without, [HEAD], MARK, 5) == LogEnd((), 4)


def test_numbers_that_spell_something_stay_out(tmp_path: Path) -> None:
    assert _one(tmp_path / "log", tokens=10**40) == HEAD | {"left_out": 1}
    (tmp_path / "log").write_text(json.dumps(HEAD)[:-1] + ', "ms": NaN, "b": 1e999, "c": -Infinity}\n')
    assert log_end(tmp_path / "log").records == (HEAD | {"left_out": 3},)


def test_of_a_traceback_come_our_own_places_and_a_known_type(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        load_settings({"num_ctx": MARK}, tmp_path / f"{MARK}.toml")
    text = "".join(traceback.format_exception(raised.value))
    assert MARK in text
    told = _one(tmp_path / "log", exception=text)
    [place] = told["raised_at"]
    assert place.startswith("daemon/settings.py:")
    assert told["raised"] == "FileNotFoundError"
    assert MARK not in str(told)


@pytest.mark.parametrize(
    "text",
    [
        f'  File "/home/{MARK}/sessiond/daemon/{MARK}.py", line 3, in {MARK}\n{MARK}: x',
        f'  File "/x/sessiond/daemon/../../{MARK}.py", line 3, in f\n{MARK}',
        f'  File "/x/sessiond/{MARK}/settings.py", line 3, in f\nsessiond.v1.errors.{MARK}: y',
        f"ValueError\n{MARK}",
        MARK,
        "",
    ],
)
def test_a_forged_traceback_says_nothing(tmp_path: Path, text: str) -> None:
    told = _one(tmp_path / "log", exception=text)
    assert told == HEAD | {"raised_at": [], "left_out": 1}


@given(st.binary(max_size=400))
def test_any_bytes_are_read(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    path = tmp_path_factory.mktemp("log") / "log"
    path.write_bytes(noise + b"\n" + json.dumps(HEAD).encode())
    end = log_end(path)
    assert end.records[-1:] == (HEAD,)
    json.dumps(end.records, allow_nan=False)


def test_the_deepest_nesting_is_one_line_that_stays_out(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("[" * 200_000 + "\n" + json.dumps(HEAD) + "\n")
    assert log_end(tmp_path / "log") == LogEnd((HEAD,), 1)


def test_only_the_end_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [HEAD | {"n": number} for number in range(MOST_LINES + 10)]
    assert _of(tmp_path / "log", *records).records == tuple(records[10:])
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    end = _of(tmp_path / "log", *records)
    assert end.records == tuple(records[-len(end.records) :])
    assert 0 < len(end.records) < 20
    assert end.unreadable == 0  # the part of a line with which the end begins is none


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe"])
def test_what_is_no_log_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(InvalidInput):
        log_end(path)
