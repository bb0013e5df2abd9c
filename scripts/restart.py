#!/usr/bin/env python3
"""A daemon ends and begins again: the first token of the first turn after that, beside the one that computed everything.

    .venv/bin/python scripts/restart.py [--depth 4000] [--rounds 3] [--kill] [--no-peer]

Each round has a fresh folder and a new prefix: a daemon computes it and ends (SIGTERM; with --kill it is killed with its
engine once it has been idle for some seconds), the next one is asked the same. llama-server, built from the same source,
computes the prefix cold in the same round. All of the prefix but what was not on the disk yet has to come back without a
prefill, in at most 1/20 of the time. Prints one JSON object; status 1 if a target was missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from benchmark.load import OtherLoad
from benchmark.texts import Piece, Texts
from benchmark.turns import complete, greedy
from build_peer import peer
from compare_server import Flags, LlamaServer
from compare_verdict import Outcome, median, missed, rounded, table
from demo_daemon import own_daemon
from sessiond.client import Client, Config, Session, prefix_input
from sessiond.client.daemon_lock import running_pid

SUFFIX = 64
IDLE_S = 5.0
"""Before a kill."""
FIRST_TOKEN, RESTORED = 1 / 20, 0.95


@dataclass(slots=True)
class Side:
    """One figure a round."""

    cold_ms: list[float] = field(default_factory=list[float])
    restarted_ms: list[float] = field(default_factory=list[float])
    """First token of the first turn after the restart."""
    from_start_ms: list[float] = field(default_factory=list[float])
    """The same from the start of the process, which loads the model first."""
    restored_share: list[float] = field(default_factory=list[float])
    """Of the prefix, what came back without a prefill."""
    llama_server_cold_ms: list[float] = field(default_factory=list[float])


def main() -> int:
    """Measure, judge, print."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    side, load = Side(), OtherLoad()
    with tempfile.TemporaryDirectory(prefix="sd-", ignore_cleanup_errors=True) as name:
        for number in range(asked.rounds):
            folder = Path(name, str(number))
            folder.mkdir()
            _round(asked, folder, side)
    outcome = Outcome({**asdict(side), "cpu_share_of_others": load.share()})
    ratio = median(side.restarted_ms) / median(side.cold_ms)
    outcome.at_most("first token after a restart / cold", ratio, FIRST_TOKEN)
    outcome.at_least("least share of the prefix that came back", min(side.restored_share), RESTORED)
    if side.llama_server_cold_ms:
        outcome.figures["to_llama_server_cold"] = median(side.restarted_ms) / median(
            side.llama_server_cold_ms
        )
    outcome.figures["from_start_to_cold"] = median(side.from_start_ms) / median(side.cold_ms)
    told = {"figures": rounded(outcome.figures), "targets": [each.as_dict() for each in outcome.targets]}
    print(json.dumps(told, indent=2))
    sys.stderr.write(table({"restart": outcome}))
    return 1 if missed({"restart": outcome}) else 0


def _round(asked: argparse.Namespace, folder: Path, side: Side) -> None:
    with _daemon(folder, asked) as client:
        texts = Texts(client)
        prefix, suffix = texts.take(asked.depth), texts.take(SUFFIX)
        session = _session(client, asked)
        turn = complete(session, suffix.text, greedy(1), prefix_input(prefix.text))
        side.cold_ms.append(turn.first_token_ms)
        if asked.kill:
            time.sleep(IDLE_S)
            _kill(folder)
        model, threads = client.model().absolute_path, session.info().config.num_threads
    began = time.perf_counter()
    with _daemon(folder, asked) as client:
        turn = complete(_session(client, asked), suffix.text, greedy(1), prefix_input(prefix.text))
        side.from_start_ms.append((time.perf_counter() - began) * 1e3)
        side.restarted_ms.append(turn.first_token_ms)
        side.restored_share.append(1 - turn.prefix.prefilled_tokens / turn.prefix.prefix_tokens)
    if not asked.no_peer:
        side.llama_server_cold_ms.append(_peer_ms(folder, model, threads, [prefix, suffix]))


@contextlib.contextmanager
def _daemon(folder: Path, asked: argparse.Namespace) -> Generator[Client, None, None]:
    with own_daemon(folder, asked.model) as client:
        client.model()  # loaded from here on
        yield client


def _session(client: Client, asked: argparse.Namespace) -> Session:
    config = Config(num_ctx=asked.depth + 4 * SUFFIX, prompt_format="raw", disable_bos=True)
    return client.open_session(key="restart", config=config, timeout=300)


def _kill(folder: Path) -> None:
    """The daemon and its engine, at once, as a power cut does."""
    pid = running_pid(folder / "d.sock")
    assert pid is not None
    daemon = psutil.Process(pid)
    for process in [*daemon.children(recursive=True), daemon]:
        with contextlib.suppress(psutil.NoSuchProcess):
            os.kill(process.pid, signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess):
        daemon.wait(10)


def _peer_ms(folder: Path, model: str, threads: int, pieces: list[Piece]) -> float:
    tokens = [token for piece in pieces for token in piece.ids]
    flags = Flags(flash_attn=True, slots=1, cells=len(tokens) + SUFFIX, threads=threads)
    with contextlib.closing(LlamaServer(peer(), model, flags, folder)) as server:
        return server.complete(tokens, 1).first_token_ms


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="", help="name or path; the embedded one if left out")
    parser.add_argument("--depth", type=int, default=4000, help="tokens of the prefix")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kill", action="store_true", help="kill -9 instead of SIGTERM")
    parser.add_argument("--no-peer", action="store_true", help="without llama-server")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
