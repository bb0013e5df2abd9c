"""The metrics of a real daemon, as Prometheus scrapes them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.daemon import Daemon, eventually, run_daemon, sentence_of, short_folder
from tests.e2e.fresh import window
from tests.e2e.scraped import FLAGS, port_of, request, scrape
from tests.e2e.turns import RAW, in_background, never_ending, wait_for_stage

from sessiond.client import ContextOverflow, Session
from sessiond.v1 import session_service_pb2 as pb

TOKEN = "token-of-the-scrape"
SCRIPTED = "scripted-kv:num_ctx=2048"


@pytest.fixture
def daemon(folder: Path) -> Iterator[Daemon]:
    """One that counts from nothing."""
    with Daemon(folder, SCRIPTED, *FLAGS, token=TOKEN) as running:
        yield running


@pytest.fixture(scope="module")
def lasting() -> Iterator[Daemon]:
    """One for tests of the endpoint alone."""
    with short_folder() as folder, Daemon(folder, SCRIPTED, *FLAGS, token=TOKEN) as running:
        yield running


def _grown(daemon: Daemon, before: dict[str, float]) -> dict[str, float]:
    """What grew since then."""
    now = scrape(daemon)
    return {name: value - before.get(name, 0.0) for name, value in now.items() if value != before.get(name)}


def _raw(daemon: Daemon, key: str) -> Session:
    return daemon.client.open_session(key=key, config=RAW)


def _turn(session: Session, prefix: str | None) -> None:
    assert list(session.complete("yy", prefix=prefix, mode="replace", max_tokens=3))


def _first(kind: str) -> str:
    return f"sessiond_first_token_seconds_count{{kind={kind}}}"


def test_turns_are_told_apart_by_what_was_there(daemon: Daemon) -> None:
    session = _raw(daemon, "kinds")
    for prefix, kind, sources in (
        ("x" * 100, "cold", {"prefilled": 100}),
        ("x" * 100, "warm", {"reused": 100}),
        ("x" * 60 + "z" * 40, "edited", {"reused": 60, "prefilled": 40}),
        (None, "continued", {}),
    ):
        before = scrape(daemon)
        _turn(session, prefix)
        grown = _grown(daemon, before)
        assert {name: value for name, value in grown.items() if "first_token_seconds_count" in name} == {
            _first(kind): 1
        }
        told = {f"sessiond_prefix_tokens_total{{source={source}}}": n for source, n in sources.items()}
        assert {n: v for n, v in grown.items() if n.startswith("sessiond_prefix_tokens_total")} == told
        assert grown["sessiond_turns_total{method=Complete,outcome=ok}"] == 1
        assert grown["sessiond_generated_tokens_total"] == 3
        assert grown["sessiond_queue_wait_seconds_count"] == 1


def test_a_backend_that_does_not_say_is_unknown(folder: Path) -> None:
    with Daemon(folder, "scripted-prompt:silent", *FLAGS, token=TOKEN) as daemon:
        _turn(_raw(daemon, "silent"), "x" * 30)
        told = scrape(daemon)
    assert told[_first("unknown")] == 1
    assert told["sessiond_prefix_tokens_total{source=unknown}"] == 30
    assert told["sessiond_prefix_tokens_total{source=prefilled}"] == 0


def test_errors_and_cancels_are_outcomes(daemon: Daemon) -> None:
    session = _raw(daemon, "ends")
    with pytest.raises(ContextOverflow):
        session.ensure_prefix("x" * 5000)
    session.ensure_prefix("xx")
    stream = session.decode(logit_bias=never_ending(daemon.client))
    next(iter(stream))
    stream.close()
    cancelled = "sessiond_turns_total{method=Decode,outcome=cancelled}"
    told = eventually(lambda: now if (now := scrape(daemon)).get(cancelled) else None, "the cancel counts")
    assert told["sessiond_turns_total{method=EnsurePrefix,outcome=context_overflow}"] == 1
    assert told["sessiond_turns_total{method=EnsurePrefix,outcome=ok}"] == 1
    assert told["sessiond_generated_tokens_total"] >= 1


def test_what_stands_is_told(daemon: Daemon) -> None:
    first, second = _raw(daemon, "one"), _raw(daemon, "two")
    first.ensure_prefix("xyz" * 50)
    told = scrape(daemon)
    assert told["sessiond_sessions{state=ready}"] == 2
    assert told["sessiond_engines"] == told["sessiond_engine_starts_total"] == 1
    [arena] = daemon.client.runtime().arenas
    assert told["sessiond_cells"] == arena.cells > 0
    assert told["sessiond_cells_bytes"] == arena.kv_bytes > 0
    second.close()
    assert scrape(daemon)["sessiond_sessions{state=ready}"] == 1


def test_a_batch_that_takes_long_delays_no_scrape(folder: Path) -> None:
    """The engine answers while it computes: the scrape comes back before the turn does."""
    with Daemon(folder, "scripted-kv:num_ctx=2048,step_ms=2000", *FLAGS, token=TOKEN) as daemon:
        session = _raw(daemon, "slow")
        with in_background(lambda: session.ensure_prefix("x" * 1500, timeout=60)) as running:
            wait_for_stage(session, "prefix", done=0)
            told = eventually(
                lambda: now if (now := scrape(daemon))["sessiond_engine_jobs{rank=prefill}"] else None,
                "the job is seen",
            )
            assert not running.done()
            assert told["sessiond_sessions{state=busy}"] == 1


def test_keep_hot_counts_once_however_many_sessions_hear_of_it(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 200)
    for key in ("one", "two"):
        session = daemon.client.open_session(workspace_root=tmp_path, key=key, config=window(1024))
        session.ensure_prefix(workspace=True)
    (tmp_path / "a.txt").write_text("x" * 100 + "y" * 100)
    eventually(lambda: daemon.records("keep_hot.finished"), "it ran")

    def agrees() -> bool:
        ran = daemon.records("keep_hot.finished")
        told = scrape(daemon)
        return (
            told["sessiond_keep_hot_runs_total{outcome=finished}"] == len(ran)
            and told["sessiond_keep_hot_tokens_total{outcome=finished}"] == sum(r["prefilled"] for r in ran)
            and told["sessiond_keep_hot_lag_seconds_count"] == len(ran)
        )

    eventually(agrees, "the counts are those of the log")


def test_what_a_newer_save_made_of_no_use_is_the_waste(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("x" * 20)
    with Daemon(folder, "scripted-kv:step_ms=200", *FLAGS, token=TOKEN) as daemon:
        session = daemon.client.open_session(workspace_root=tmp_path, config=window(4000))
        session.ensure_prefix(workspace=True)
        seen: list[pb.SessionEvent] = []

        def watch() -> None:
            for event in daemon.client.session(session.name).watch(timeout=60):
                seen.append(event)  # noqa: PERF402 - each as it comes

        def save(content: str) -> None:
            """At once, as editors do it: a file that is seen empty for a moment would be one more save."""
            new = folder / "a.new"
            new.write_text(content)
            new.replace(text)

        def runs(phase: str) -> list[pb.KeepHotRun]:
            return [event.keep_hot for event in seen if event.keep_hot.phase == phase]

        def has_computed() -> bool:
            told = [event.prefill_progress for event in seen if event.prefill_progress.stage == "keep_hot"]
            return len({each.done_tokens for each in told}) > 1

        with in_background(watch):
            save("y" * 2500)
            eventually(has_computed, "the first run has computed something")
            save("z" * 2500)
            [superseded] = eventually(lambda: runs("superseded"), "the second save ended it")
            told = scrape(daemon)
            session.close()
    assert told["sessiond_keep_hot_runs_total{outcome=superseded}"] == 1
    assert told["sessiond_keep_hot_tokens_total{outcome=superseded}"] == superseded.prefilled_tokens > 0


def test_an_engine_that_dies_takes_no_total_back(daemon: Daemon) -> None:
    session = _raw(daemon, "dies")
    for turn in range(6):
        session.ensure_prefix("xyz"[turn % 3] * 1500)
    before = scrape(daemon)
    moved = [name for name in before if name.startswith(("sessiond_evicted", "sessiond_restored"))]
    assert any(before[name] for name in moved)
    os.kill(daemon.engine_pid(), signal.SIGKILL)
    eventually(lambda: scrape(daemon)["sessiond_engine_deaths_total"] == 1, "the death counts")
    daemon.client.open_session(key="again", config=RAW).ensure_prefix("xx")
    after = scrape(daemon)
    assert after["sessiond_engine_restarts_total"] == 1
    assert after["sessiond_engine_starts_total"] == 2
    assert all(after[name] >= before[name] for name in before if name.partition("{")[0].endswith("_total"))


def test_what_comes_back_after_a_restart_is_the_disks(folder: Path) -> None:
    model = "scripted-kv:num_ctx=4096,step_ms=5"
    with Daemon(folder, model, *FLAGS, token=TOKEN) as first:
        _turn(_raw(first, "disk"), "x" * 2000)
        assert scrape(first)["sessiond_disk_tier_open"] == 1
    with Daemon(folder, model, *FLAGS, token=TOKEN) as second:
        _turn(_raw(second, "another"), "x" * 2000)
        told, short = scrape(second), second.client.runtime().activity
    restored = told["sessiond_prefix_tokens_total{source=restored}"]
    assert 0 < restored <= told["sessiond_restored_tokens_total{source=disk}"]
    assert told["sessiond_restored_tokens_total{source=memory}"] == 0
    assert told[_first("restored")] + told[_first("edited")] == 1
    assert told["sessiond_disk_tier_entries_total{outcome=read}"] > 0
    assert 0 < told["sessiond_disk_tier_bytes"] <= told["sessiond_disk_tier_limit_bytes"]
    assert short.disk.size_bytes == told["sessiond_disk_tier_bytes"]
    assert short.restored_tokens == restored


def test_the_short_form_says_the_same(daemon: Daemon) -> None:
    session = _raw(daemon, "short")
    _turn(session, "x" * 100)
    _turn(session, "x" * 100)
    told, short = scrape(daemon), daemon.client.runtime().activity
    assert short.reused_tokens == told["sessiond_prefix_tokens_total{source=reused}"] == 100
    assert short.prefilled_tokens == told["sessiond_prefix_tokens_total{source=prefilled}"] == 100
    assert short.generated_tokens == told["sessiond_generated_tokens_total"] == 6
    assert {each.kind: each.turns for each in short.first_tokens} == {"cold": 1, "warm": 1}
    assert short.turns == 2 and short.failed_turns == 0
    assert short.sessions == 1
    assert short.memory_tier_bytes == told["sessiond_memory_tier_bytes"]


def test_they_are_off_unless_asked_for(folder: Path) -> None:
    with Daemon(folder, SCRIPTED) as plain:
        assert plain.client.healthy()
        assert plain.records("daemon.metrics") == []


@pytest.mark.parametrize("path", ["/metrics", "/", "/nothing", "/metrics/x"])
@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper()])
def test_a_wrong_token_learns_nothing(lasting: Daemon, path: str, token: str) -> None:
    answers = {request(lasting, path, method, token).status for method in ("GET", "HEAD", "POST")}
    assert answers == {401}
    told = request(lasting, path, token=token)
    assert told.body == "Unauthorized\n"
    assert told.headers["WWW-Authenticate"] == "Bearer"


def test_there_is_one_path_and_it_is_read_only(lasting: Daemon) -> None:
    assert request(lasting).status == request(lasting, "/metrics?name[]=x").status == 200
    assert request(lasting, "/").status == request(lasting, "/favicon.ico").status == 404
    posted = request(lasting, method="POST")
    assert (posted.status, posted.headers["Allow"]) == (405, "GET, HEAD")
    head, body = request(lasting, method="HEAD"), request(lasting)
    assert (head.status, head.body) == (200, "")
    assert (
        head.headers["Content-Type"]
        == body.headers["Content-Type"]
        == "text/plain; version=0.0.4; charset=utf-8"
    )


def test_who_wants_openmetrics_gets_it(lasting: Daemon) -> None:
    told = request(lasting, Accept="application/openmetrics-text; version=1.0.0")
    assert told.headers["Content-Type"].startswith("application/openmetrics-text")
    assert told.body.endswith("# EOF\n")


@pytest.mark.parametrize("address", ["0.0.0.0:0", "192.168.1.1:80", "[::]:0", "example.org:80", "nonsense", "127.0.0.1:99999"])  # fmt: skip
def test_an_address_that_is_not_loopback_is_refused(folder: Path, address: str) -> None:
    flags = ("--socket", str(folder / "s.sock"), "--model", SCRIPTED, "--token", TOKEN)
    ended = run_daemon(folder, *flags, "--metrics", address)
    assert ended.returncode == 2
    sentence_of(ended)


def test_metrics_without_a_token_are_refused(folder: Path) -> None:
    ended = run_daemon(folder, "--socket", str(folder / "s.sock"), "--model", SCRIPTED, *FLAGS)
    assert ended.returncode == 2
    assert "token" in sentence_of(ended)


def test_a_port_that_is_taken(lasting: Daemon, folder: Path) -> None:
    flags = ("--socket", str(folder / "s.sock"), "--model", SCRIPTED, "--token", TOKEN)
    ended = run_daemon(folder, *flags, "--metrics", f"127.0.0.1:{port_of(lasting)}")
    assert ended.returncode == 1
    sentence_of(ended)
    assert request(lasting).status == 200


def test_no_label_says_what_anybody_chose(daemon: Daemon, tmp_path: Path) -> None:
    root = tmp_path / "marked-folder"
    root.mkdir()
    (root / "marked-file.txt").write_text("marked-content")
    session = daemon.client.open_session(workspace_root=root, key="marked-key", config=window(1024))
    list(session.ask("marked-question", workspace=True, max_tokens=2))
    body = request(daemon).body
    assert "marked" not in body
    assert session.name.removeprefix("sessions/") not in body
    assert TOKEN not in body and TOKEN not in daemon.log_text()
