"""How a daemon starts, what it runs with, and how it ends."""

from __future__ import annotations

import os
import signal
import socket as sockets
import stat
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from tests.e2e.daemon import Daemon, eventually, is_gone, run_daemon, sentence_of
from tests.e2e.turns import answers, never_ending

from sessiond.client import Client, SessiondError, SessionUnavailable
from sessiond.v1 import context_pb2

SCRIPTED = "scripted-kv:num_ctx=4096"


def test_health_answers_before_the_model_is_loaded(folder: Path) -> None:
    with Daemon(folder, "scripted-kv:num_ctx=512,load_ms=3000", wait=False) as daemon:
        eventually(daemon.socket.exists, "it listens")

        def state() -> str | None:
            try:
                return daemon.client.health(timeout=2)[0]
            except (SessionUnavailable, TimeoutError):
                return None

        seen = [eventually(state, "health answers")]
        while seen[-1] != "SERVING":
            seen.append(eventually(state, "health answers"))
        assert seen[0] == "NOT_SERVING"
        assert set(seen) == {"NOT_SERVING", "SERVING"}
        answers(daemon.client.open_session())


def test_it_ends_with_0_while_its_model_is_loading(folder: Path) -> None:
    with Daemon(folder, "scripted-kv:num_ctx=512,load_ms=60000", wait=False) as daemon:
        eventually(lambda: daemon.records("engine.starting"), "the engine starts")
        engine = int(daemon.records("engine.starting")[0]["pid"])
        begun = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - begun < 20
        eventually(lambda: is_gone(engine), "the engine is gone")


def test_a_running_answer_may_end_within_the_grace(folder: Path) -> None:
    with Daemon(folder, "scripted-kv:num_ctx=512,step_ms=50", "--stop-grace", "20") as daemon:
        session = daemon.client.open_session()
        session.ensure_prefix("xx")
        with session.decode(max_tokens=30, logit_bias=never_ending(daemon.client)) as chunks:
            got = list(next(chunks).token_ids)
            daemon.process.send_signal(signal.SIGTERM)
            last = context_pb2.StreamChunk()
            for last in chunks:
                got += last.token_ids
        assert len(got) == 30
        assert last.summary.finish_reason == context_pb2.FINISH_REASON_LENGTH
        assert daemon.wait() == 0


def test_a_stop_that_reaches_all_processes_keeps_the_grace(folder: Path) -> None:
    with Daemon(folder, "scripted-kv:num_ctx=512,step_ms=50", "--stop-grace", "20") as daemon:
        session = daemon.client.open_session()
        session.ensure_prefix("xx")
        with session.decode(max_tokens=30, logit_bias=never_ending(daemon.client)) as chunks:
            got = list(next(chunks).token_ids)
            for pid in (daemon.engine_pid(), daemon.process.pid):
                os.kill(pid, signal.SIGTERM)
            for chunk in chunks:
                got += chunk.token_ids
        assert len(got) == 30
        assert daemon.wait() == 0
        assert not daemon.records("engine.died")


def test_an_answer_that_outlasts_the_grace_is_cut_off(folder: Path) -> None:
    with Daemon(folder, "scripted-kv:num_ctx=4096,step_ms=50", "--stop-grace", "0.5") as daemon:
        session = daemon.client.open_session()
        session.ensure_prefix("xx")
        engine = daemon.engine_pid()
        with session.decode(logit_bias=never_ending(daemon.client)) as chunks:
            next(chunks)
            daemon.process.send_signal(signal.SIGTERM)
            with pytest.raises((SessiondError, TimeoutError)):
                list(chunks)
        assert daemon.wait(20) == 0
        eventually(lambda: is_gone(engine), "the engine is gone")


def test_sigint_ends_it_too(folder: Path) -> None:
    with Daemon(folder, SCRIPTED) as daemon:
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.wait() == 0
        assert not daemon.socket.exists()


def test_watchers_do_not_keep_it_from_ending(folder: Path) -> None:
    with Daemon(folder, SCRIPTED) as daemon:
        session = daemon.client.open_session()
        watcher = threading.Thread(target=lambda: list(session.watch(timeout=60)))
        watcher.start()
        time.sleep(0.3)
        begun = time.monotonic()
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.wait() == 0
        assert time.monotonic() - begun < 8, "the grace is ten seconds, and was not needed"
        watcher.join()


def test_a_second_daemon_on_the_same_socket_gives_way(folder: Path) -> None:
    with Daemon(folder, SCRIPTED) as first:
        session = first.client.open_session()
        ended = run_daemon(folder, "--socket", str(first.socket), "--model", SCRIPTED)
        assert ended.returncode == 1
        assert "already running" in sentence_of(ended)
        answers(session)
        answers(first.new_client().open_session(key="new connection"))


def test_what_a_killed_daemon_left_is_taken_over(folder: Path) -> None:
    with Daemon(folder, SCRIPTED) as first:
        engine = first.engine_pid()
        first.process.kill()
        first.process.wait()
        assert first.socket.exists() and Path(f"{first.socket}.lock").exists()
        eventually(lambda: is_gone(engine), "its engine does not outlive it")
        with Daemon(folder, SCRIPTED) as second:
            answers(second.client.open_session())
        first.process.returncode = 0


def test_a_stale_socket_and_lock_file_of_anybody_are_taken_over(folder: Path) -> None:
    path = folder / "s.sock"
    with sockets.socket(sockets.AF_UNIX) as dead:
        dead.bind(str(path))
    Path(f"{path}.lock").write_text("99999999\nnonsense")
    with Daemon(folder, SCRIPTED) as daemon:
        assert Path(f"{path}.lock").read_text().split()[0] == str(daemon.process.pid)
        answers(daemon.client.open_session())


def test_a_socket_path_that_is_too_long(folder: Path) -> None:
    path = folder / ("a" * 120) / "s.sock"
    ended = run_daemon(folder, "--socket", str(path), "--model", SCRIPTED)
    assert ended.returncode == 2
    assert "107" in sentence_of(ended)


def test_a_socket_path_of_exactly_107_bytes_works(folder: Path) -> None:
    path = folder / ("a" * (107 - len(str(folder)) - 1))
    assert len(str(path)) == 107
    with Daemon(folder, SCRIPTED, socket=path) as daemon:
        answers(daemon.client.open_session())


def test_a_socket_in_a_folder_with_odd_letters_works(folder: Path) -> None:
    place = folder / "ä%20?#x"
    place.mkdir()
    with Daemon(folder, SCRIPTED, socket=place / "s.sock") as daemon:
        answers(daemon.client.open_session())


@pytest.mark.parametrize(
    "model",
    ["/nowhere/none.gguf", "no-model-of-this-name", "scripted-kv:nonsense=1", "scripted-kv:die=SIGSEGV@load"],
)
def test_a_default_model_that_cannot_be_loaded(folder: Path, model: str) -> None:
    ended = run_daemon(folder, "--socket", str(folder / "s.sock"), "--model", model)
    assert ended.returncode == 1
    assert len(sentence_of(ended)) > 20
    assert not (folder / "s.sock").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ("--num-ctx", "-1"),
        ("--max-sessions", "0"),
        ("--config", "/nowhere.toml"),
        ("--stop-grace", "nan"),
        ("--log-level", "loud"),
    ],
)
def test_senseless_flags(folder: Path, flags: tuple[str, str]) -> None:
    ended = run_daemon(folder, "--socket", str(folder / "s.sock"), "--model", SCRIPTED, *flags)
    assert ended.returncode == 2
    assert ended.stderr and "Traceback" not in ended.stderr


def test_a_config_file_that_is_no_toml(folder: Path) -> None:
    (folder / "c.toml").write_text("num_ctx = = 3")
    ended = run_daemon(folder, "--socket", str(folder / "s.sock"), "--config", str(folder / "c.toml"))
    assert ended.returncode == 2
    sentence_of(ended)


@pytest.mark.parametrize(
    ("flags", "env", "num_ctx"),
    [
        ((), {}, 256),
        ((), {"SESSIOND_NUM_CTX": "512"}, 512),
        (("--num-ctx", "1024"), {"SESSIOND_NUM_CTX": "512"}, 1024),
    ],
    ids=["file", "variable over file", "flag over variable"],
)
def test_flag_over_variable_over_file(
    folder: Path, flags: tuple[str, ...], env: dict[str, str], num_ctx: int
) -> None:
    config = folder / "c.toml"
    config.write_text(f'num_ctx = 256\nmodel = "{SCRIPTED}"\n')
    with Daemon(folder, "", "--config", str(config), *flags, env=env) as daemon:
        session = daemon.client.open_session()
        assert session.info().config.num_ctx == num_ctx
        assert session.explain().num_ctx == num_ctx


def test_the_config_file_of_the_user_counts(folder: Path) -> None:
    place = folder / "config_home" / "sessiond"
    place.mkdir(parents=True)
    (place / "sessiond.toml").write_text(f'num_ctx = 128\nmodel = "{SCRIPTED}"\n')
    with Daemon(folder) as daemon:
        assert daemon.client.open_session().info().config.num_ctx == 128


def test_the_most_sessions_that_may_be_open(folder: Path) -> None:
    with Daemon(folder, SCRIPTED, "--max-sessions", "2") as daemon:
        first = daemon.client.open_session(key="a")
        daemon.client.open_session(key="b")
        with pytest.raises(SessionUnavailable):
            daemon.client.open_session(key="c")
        assert daemon.client.open_session(key="b").attached
        first.close()
        daemon.client.open_session(key="c")


def test_reflection_lists_the_services(folder: Path) -> None:
    with Daemon(folder, SCRIPTED) as daemon:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(daemon.channel())
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        [answer] = list(stub.ServerReflectionInfo(asked, timeout=10))
        names = {service.name for service in answer.list_services_response.service}
        ours = {f"sessiond.v1.{name}Service" for name in ("Session", "Model", "Workspace", "Function")}
        assert names == {*ours, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}


def test_an_unknown_rpc_is_unimplemented(folder: Path) -> None:
    with Daemon(folder, SCRIPTED) as daemon:
        unknown: Any = daemon.channel().unary_unary("/sessiond.v1.SessionService/Nonsense")
        with pytest.raises(grpc.RpcError) as caught:
            unknown(b"", timeout=10)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        assert daemon.client.healthy()


def test_the_socket_and_its_folder_are_ours_alone(folder: Path) -> None:
    path = folder / "new" / "s.sock"
    old = os.umask(0)
    try:
        with Daemon(folder, SCRIPTED, socket=path) as daemon:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert stat.S_IMODE((folder / "state").stat().st_mode) == 0o700
            assert stat.S_IMODE(Path(f"{path}.lock").stat().st_mode) == 0o600
            assert daemon.client.healthy()
    finally:
        os.umask(old)


def test_a_client_sees_the_version(folder: Path) -> None:
    with Daemon(folder, SCRIPTED) as daemon, Client(daemon.socket) as client:
        assert client.health()[1]
