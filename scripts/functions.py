#!/usr/bin/env python3
"""Many calls of one function, beside the same prompts sent to llama-server and to a bare loop, in one run.

    .venv/bin/python scripts/functions.py [--calls 1000] [--body 1000] [--argument 16] [--answer 8] [--model PATH] …

Tokens computed over the tokens that are new, which are arguments and answers: at most 1.02. Arguments are counted here, with
the tokenizer, and answers as they come. Then calls a second, in blocks of `--block` calls that all sides take in turn, on the
same tokens:

- one by one: CallFunction, a request to llama-server, one stream of the bare loop;
- together: MapFunction, eight requests at once to llama-server, eight streams of the bare loop.

llama-server is the one that scripts/peer builds from the same source, with the flags that are best for this, and holds the
body in each of its slots before a clock starts; it is tried with and without flash attention, and the faster one counts.
`--no-peer` leaves it out. Ratios are made within a block, and their medians count. They have no target. Prints one JSON
object; status 1 if too many tokens were computed. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NoReturn

import build_peer
from benchmark.at_once import at_once
from benchmark.floor_loop import Ask, Setup
from benchmark.floor_process import FloorProcess
from benchmark.load import OtherLoad
from benchmark.sides import Runtime, runtime_of
from benchmark.texts import Piece, Texts
from benchmark.took import NotMeasured
from benchmark.turns import ROOM
from benchmark.unix_http import ServerError
from compare_bench import VARIANTS
from compare_server import Flags, LlamaServer
from demo_daemon import last_words, own_daemon
from sessiond.client import Client, Config, DecodeConfig, SessiondError
from sessiond.v1.config_pb2 import LogitBias

NAME = "measured"
STREAMS = 8
"""Calls that a map has running at once, requests to llama-server, streams of the bare loop."""
MOST = 1.02
"""Tokens computed over those that are new."""
WAYS = ("one_by_one", "together")
BARE = "bare"
RAW = Config(prompt_format="raw", disable_bos=True)
"""No frames: what all sides are given is a body's tokens and an argument's."""


@dataclass
class Seconds:
    """What each side took for each block of calls, the same blocks in the same order."""

    of: dict[str, list[float]] = field(default_factory=dict[str, list[float]])

    def note(self, side: str, seconds: float) -> None:
        """One more block."""
        self.of.setdefault(side, []).append(seconds)

    def told(self, calls: int) -> dict[str, object]:
        """Calls a second of each side, and how many times as fast as each of the others we are."""
        ours = self.of["ours"]
        ratios = {
            side: statistics.median(theirs / mine for mine, theirs in zip(ours, blocks, strict=True))
            for side, blocks in self.of.items()
            if side != "ours"
        }
        servers = [ratio for side, ratio in ratios.items() if side != BARE]
        return {
            "calls_a_second": {side: calls / statistics.median(blocks) for side, blocks in self.of.items()},
            "ours_to": ratios,
            **({"ours_to_the_best_server": min(servers)} if servers else {}),
        }


class Ours:
    """The function, and what it generated."""

    def __init__(self, client: Client, body: Piece, answer: int, end_tokens: Sequence[int]) -> None:
        never = [LogitBias(token_id=token, bias=-math.inf) for token in end_tokens]
        self._client = client
        self.generated = 0
        client.define_function(
            NAME,
            body.text,
            config=DecodeConfig(max_tokens=answer, logit_bias=never),
            session_config=RAW,
        )

    def one_by_one(self, arguments: Sequence[Piece]) -> None:
        """A call after the other."""
        for argument in arguments:
            for chunk in self._client.call_function(NAME, argument.text):
                self.generated += len(chunk.token_ids)

    def together(self, arguments: Sequence[Piece]) -> None:
        """All in one map."""
        for answer in self._client.map_function(NAME, [argument.text for argument in arguments]):
            self.generated += len(answer.token_ids)


class Server:
    """llama-server."""

    def __init__(self, server: LlamaServer, body: Piece, answer: int) -> None:
        self._server, self._body, self._answer = server, body, answer
        at_once([partial(server.complete, [*body.ids, token], 1) for token in range(1, STREAMS + 1)])

    def _ask(self, argument: Piece) -> None:
        self._server.complete([*self._body.ids, *argument.ids], self._answer)

    def one_by_one(self, arguments: Sequence[Piece]) -> None:
        """A request after the other."""
        for argument in arguments:
            self._ask(argument)

    def together(self, arguments: Sequence[Piece]) -> None:
        """Eight clients, each with its share, one request after the other."""
        shares = [arguments[start::STREAMS] for start in range(STREAMS)]
        at_once([partial(self.one_by_one, share) for share in shares if share])


class Bare:
    """The bare loop. What it takes is only what it computes: the body stands before its clock starts."""

    def __init__(self, process: FloorProcess, body: Piece, answer: int) -> None:
        self._process, self._body, self._answer = process, body, answer
        self._run([body])

    def _run(self, arguments: Sequence[Piece]) -> float:
        ran = self._process.ran(Ask(self._body.ids, tuple(each.ids for each in arguments), self._answer))
        last = max(at for stream in ran.streams for at, _ in stream)
        first = min(stream[0][0] for stream in ran.streams)
        return ran.first_ms / 1e3 + last - first

    def one_by_one(self, arguments: Sequence[Piece]) -> float:
        """Seconds for one stream after the other."""
        return sum(self._run([argument]) for argument in arguments)

    def together(self, arguments: Sequence[Piece]) -> float:
        """Seconds for eight streams at a time."""
        groups = (arguments[start : start + STREAMS] for start in range(0, len(arguments), STREAMS))
        return sum(map(self._run, groups))


def _seconds(act: Callable[[], object]) -> float:
    begun = time.perf_counter()
    act()
    return time.perf_counter() - begun


@contextlib.contextmanager
def _bare(runtime: Runtime, body: Piece, asked: argparse.Namespace) -> Generator[Bare]:
    """Raises NotMeasured."""
    if not Path(runtime.model).is_file():
        raise NotMeasured("the model is no file that llama.cpp could load")
    cells = 2 * len(body.ids) + STREAMS * (asked.argument + asked.answer) + ROOM
    with contextlib.closing(FloorProcess(Setup(runtime, cells, STREAMS, kept_states=0))) as process:
        yield Bare(process, body, asked.answer)


def measure(client: Client, asked: argparse.Namespace, folder: Path) -> dict[str, object]:
    """All of it. Raises SessiondError, NotMeasured, ServerError."""
    texts, load = Texts(client), OtherLoad()
    body = texts.take(asked.body)
    blocks = {way: _blocks(texts, asked) for way in WAYS}
    ours = Ours(client, body, asked.answer, texts.end_tokens)
    before = client.runtime().activity.computed_tokens
    took, missing = {way: Seconds() for way in WAYS}, list[str]()
    with contextlib.ExitStack() as stack:
        servers = _servers(client, body, asked, folder, stack)
        bare: Bare | None = None
        try:
            bare = stack.enter_context(_bare(_runtime(client), body, asked))
        except NotMeasured as why:
            missing.append(f"bare: {why}")
        for way in WAYS:
            for block in blocks[way]:
                took[way].note("ours", _seconds(partial(getattr(ours, way), block)))
                for name, server in servers.items():
                    took[way].note(name, _seconds(partial(getattr(server, way), block)))
                if bare is not None:
                    took[way].note(BARE, getattr(bare, way)(block))
    arguments = sum(len(each.ids) for way in WAYS for block in blocks[way] for each in block)
    computed = client.runtime().activity.computed_tokens - before
    new = arguments + ours.generated
    return {
        "sizes": {name: getattr(asked, name) for name in ("calls", "body", "argument", "answer", "block")},
        "tokens": {"computed": computed, "new": new, "ratio": computed / new, "limit": MOST},
        "met": computed <= MOST * new,
        **{way: took[way].told(asked.block) for way in WAYS},
        "not_measured": missing if servers or asked.no_peer else [*missing, "llama-server"],
        "cpu_share_of_others": load.share(),
    }


def _blocks(texts: Texts, asked: argparse.Namespace) -> list[list[Piece]]:
    """Other arguments for each way: what a slot has seen, it would not have to compute again."""
    return [
        texts.several(asked.block, asked.argument) for _ in range(max(1, asked.calls // 2 // asked.block))
    ]


def _runtime(client: Client) -> Runtime:
    """How the daemon runs the model: a session of the function's settings says so."""
    session = client.open_session(key="settings", config=RAW)
    config = session.info().config
    session.close()
    return runtime_of(client.model().absolute_path, config)


def _servers(
    client: Client, body: Piece, asked: argparse.Namespace, folder: Path, stack: contextlib.ExitStack
) -> dict[str, Server]:
    """llama-server in all variants, with as many threads as we have."""
    if asked.no_peer:
        return {}
    program, runtime = asked.peer or build_peer.peer(), _runtime(client)
    each = asked.body + asked.argument + asked.answer + ROOM
    found: dict[str, Server] = {}
    for flash_attn in VARIANTS[asked.flash]:
        flags = Flags(flash_attn, STREAMS, STREAMS * each, runtime.threads)
        server = LlamaServer(program, runtime.model, flags, folder)
        stack.callback(server.close)
        found[flags.name] = Server(server, body, asked.answer)
    return found


def main() -> int:
    """Start what is needed, measure, judge. 0: the limit was kept, 1: it was not, 2: it could not be measured."""
    asked = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    with tempfile.TemporaryDirectory(prefix="sd-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        try:
            with own_daemon(folder, asked.model, measure=asked.measure) as client:
                found = measure(client, asked, folder)
        except build_peer.FAULTS as error:
            return _fault(f"there is no llama-server to compare with: {error}")
        except (SessiondError, TimeoutError, ServerError, NotMeasured, RuntimeError) as error:
            return _fault(f"{error}\nThe end of the daemon's log:\n{last_words(folder)}")
    print(json.dumps(found, indent=2))
    return 0 if found["met"] else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="", help="a model's name or path; the embedded one if left out")
    parser.add_argument("--measure", action="store_true", help="have the daemon time the model first")
    parser.add_argument("--peer", type=Path, help="the llama-server; the one of scripts/peer if left out")
    parser.add_argument("--no-peer", action="store_true", help="without llama-server")
    parser.add_argument(
        "--flash", choices=VARIANTS, default="both", help="flash attention of llama-server (default: both)"
    )
    numbers = {
        "calls": (1000, "calls, half of them one by one and half together"),
        "body": (1000, "tokens of the body"),
        "argument": (16, "tokens of each argument"),
        "answer": (8, "tokens of each answer"),
        "block": (25, "calls of one side before it is another's turn"),
    }
    for name, (default, told) in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{told} (default: {default})")
    asked = parser.parse_args()
    for name in numbers:
        if getattr(asked, name) < 1:
            parser.error(f"{name} is at least 1")
    return asked


def _fault(what: str) -> int:
    print(f"functions: {what}", file=sys.stderr)
    return 2


def _leave(number: int, _frame: object) -> NoReturn:
    """End in order, so that every process that was started is stopped."""
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
