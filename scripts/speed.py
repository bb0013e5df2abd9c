#!/usr/bin/env python3
"""What the daemon costs beside a bare loop over llama.cpp's low-level functions, in one run, seen by the client.

    .venv/bin/python scripts/speed.py [--depth 4000] [--suffix 16] [--decode 64] [--repeats 15]

Both do the same work on the same tokens with the same settings, in turn, again and again. Each turn is compared with the one
right after it; the medians of these ratios count:

- a repeated EnsurePrefix over `depth` tokens (nothing to compute: milliseconds at the client);
- the first token after a suffix of `suffix` tokens at that depth: at most 1.10 times the bare loop's, plus 5 ms;
- a decode of `decode` tokens: at least 0.90 of the bare loop's speed;
- how long after a deadline that passes within a prefill the engine is free again: under 100 ms, at worst.

The bare loop lives in a process of its own that sleeps while the daemon works. Prints one JSON object; status 1 if a
target was missed. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmark.texts import text_of
from sessiond.client import Client, Config, DecodeConfig, Session

FIRST_TOKEN_RATIO, FIRST_TOKEN_EXTRA_MS, DECODE_RATIO, REPEATED_MS = 1.10, 5.0, 0.90, 10.0
CANCEL_MS, CANCELS = 100.0, 5


@dataclass(frozen=True)
class Work:
    """What both sides do."""

    model: str
    num_ctx: int
    num_batch: int
    num_ubatch: int
    threads: int
    prefix: list[int]
    suffixes: list[list[int]]
    decode: int


def bare_loop(work: Work, pipe: Connection) -> None:
    """The floor: one sequence, greedy, nothing but `llama_decode` and the sampler. Each message is a repeat to do;
    the answer is (first token in ms, ms for each token after it).
    """
    from llama_cpp import llama_cpp

    low: Any = llama_cpp  # its handles may be None by type; here they are not

    def say_nothing(_level: int, _text: bytes, _data: object) -> None:
        """llama.cpp's log is no part of the comparison."""

    silent = low.llama_log_callback(say_nothing)
    low.llama_log_set(silent, None)
    low.llama_backend_init()
    model = low.llama_model_load_from_file(work.model.encode(), low.llama_model_default_params())
    params = low.llama_context_default_params()
    params.n_ctx, params.n_batch, params.n_ubatch = work.num_ctx, work.num_batch, work.num_ubatch
    params.n_threads = params.n_threads_batch = work.threads
    params.flash_attn_type = low.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = low.llama_init_from_model(model, params)
    memory = low.llama_get_memory(context)
    sampler = low.llama_sampler_init_greedy()

    def decode(tokens: list[int]) -> None:
        array = (low.llama_token * len(tokens))(*tokens)
        if low.llama_decode(context, low.llama_batch_get_one(array, len(tokens))):
            raise RuntimeError("llama_decode failed")

    for start in range(0, len(work.prefix), work.num_ubatch):
        decode(work.prefix[start : start + work.num_ubatch])

    def next_suffix() -> list[int] | None:
        repeat = pipe.recv()
        return None if repeat is None else work.suffixes[int(repeat)]

    pipe.send("ready")
    while (tokens := next_suffix()) is not None:
        low.llama_memory_seq_rm(memory, 0, len(work.prefix), -1)
        begun = time.perf_counter()
        decode(tokens)
        token = int(low.llama_sampler_sample(sampler, context, -1))
        first = time.perf_counter()
        for _ in range(work.decode - 1):
            decode([token])
            token = int(low.llama_sampler_sample(sampler, context, -1))
        decode([token])
        pipe.send(((first - begun) * 1e3, (time.perf_counter() - first) * 1e3 / work.decode))


class Floor:
    """The bare loop in its own process."""

    def __init__(self, work: Work) -> None:
        start = multiprocessing.get_context("spawn")
        self._pipe, theirs = start.Pipe()
        self._process = start.Process(target=bare_loop, args=(work, theirs), daemon=True)
        self._process.start()
        self._pipe.recv()

    def turn(self, repeat: int) -> tuple[float, float]:
        """First token, and each after it, in milliseconds."""
        self._pipe.send(repeat)
        first, each = self._pipe.recv()
        return float(first), float(each)

    def end(self) -> None:
        """Let it go."""
        self._pipe.send(None)
        self._process.join(10)


def warm_turn(session: Session, suffix: str, tokens: int) -> tuple[float, float]:
    """The same turn through the daemon, timed at the client: REPLACE suffix, then decode. First token in ms, and ms
    for each token after it (the model may end before `tokens`).
    """
    begun = time.perf_counter()
    first, generated = 0.0, 0
    for event in session.complete(suffix, mode="replace", config=DecodeConfig(max_tokens=tokens)):
        if not first and event.chunk.token_ids:
            first = time.perf_counter()
        generated += len(event.chunk.token_ids)
    return (first - begun) * 1e3, (time.perf_counter() - first) * 1e3 / max(1, generated)


def median_ms(act: Callable[[], Any], repeats: int) -> float:
    """Median time of an act, in milliseconds."""
    times: list[float] = []
    for _ in range(repeats):
        begun = time.perf_counter()
        act()
        times.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(times)


def worst_cancel_ms(client: Client, prefix: str, num_ctx: int) -> float:
    """From the moment at which a deadline passed within a prefill until the engine is free, at worst."""
    session = client.open_session(key="cancel", config=Config(num_ctx=num_ctx, prompt_format="raw"))
    took: list[float] = []
    for number in range(CANCELS):
        try:
            session.ensure_prefix(text=f"{number} {prefix}", timeout=1.0 + number / 7)
        except TimeoutError:
            began = time.perf_counter()
        else:
            raise RuntimeError("the prefill ended before its deadline")
        while session.explain().HasField("busy"):
            time.sleep(0.001)
        took.append((time.perf_counter() - began) * 1e3)
        session.ensure_prefix(text=f"{number}")  # and the next call works
    session.close()
    return max(took)


def measure(client: Client, asked: argparse.Namespace) -> dict[str, Any]:
    """The comparison."""
    prefix, prefix_ids = text_of(client, asked.depth)
    suffixes = [text_of(client, asked.suffix, start=2000 + 400 * i) for i in range(asked.repeats + 1)]
    num_ctx = asked.depth + asked.suffix + asked.decode + 512
    session = client.open_session(config=Config(num_ctx=num_ctx, prompt_format="raw"))
    info = session.info()
    begun = time.perf_counter()
    session.ensure_prefix(text=prefix)
    cold_ms = (time.perf_counter() - begun) * 1e3
    floor = Floor(
        Work(
            info.model,
            num_ctx,
            info.config.num_batch,
            info.config.num_ubatch,
            info.config.num_threads,
            prefix_ids,
            [ids for _, ids in suffixes],
            asked.decode,
        )
    )
    pairs: list[tuple[tuple[float, float], tuple[float, float]]] = []
    for repeat, (text, _) in enumerate(suffixes):
        ours, bare = warm_turn(session, text, asked.decode), floor.turn(repeat)
        if repeat:  # the first pair warms both up
            pairs.append((ours, bare))
    floor.end()
    repeated = median_ms(lambda: session.ensure_prefix(text=prefix), 20)
    status = session.ensure_prefix(text=prefix).status
    cancel = worst_cancel_ms(client, prefix, num_ctx)
    session.close()
    return verdict(pairs, repeated, status.prefilled_tokens, cold_ms, cancel)


def verdict(
    pairs: list[tuple[tuple[float, float], tuple[float, float]]],
    repeated: float,
    prefilled: int,
    cold_ms: float,
    cancel_ms: float,
) -> dict[str, Any]:
    """Medians, ratios and whether the targets were met. Ratios are those of a pair, seconds apart: what else the machine
    does changes more slowly than that.
    """
    first, bare_first = (statistics.median(pair[side][0] for pair in pairs) for side in (0, 1))
    decode, bare_decode = (statistics.median(pair[side][1] for pair in pairs) for side in (0, 1))
    first_ratios = [(ours[0] - FIRST_TOKEN_EXTRA_MS) / bare[0] for ours, bare in pairs]
    decode_ratios = [bare[1] / ours[1] for ours, bare in pairs]
    met = {
        "first_token": statistics.median(first_ratios) <= FIRST_TOKEN_RATIO,
        "decode": statistics.median(decode_ratios) >= DECODE_RATIO,
        "repeated_prefix": repeated < REPEATED_MS and prefilled == 0,
        "cancel": cancel_ms < CANCEL_MS,
    }
    return {
        "first_token_ms": first,
        "bare_first_token_ms": bare_first,
        "first_token_ratio": statistics.median(ours[0] / bare[0] for ours, bare in pairs),
        "token_ms": decode,
        "bare_token_ms": bare_decode,
        "decode_speed_ratio": statistics.median(decode_ratios),
        "decode_speed_ratios": [round(ratio, 3) for ratio in decode_ratios],
        "repeated_prefix_ms": repeated,
        "repeated_prefix_prefilled": prefilled,
        "cold_prefix_ms": cold_ms,
        "worst_cancel_ms": cancel_ms,
        "load_average": os.getloadavg()[0],
        "met": met,
    }


def main() -> int:
    """Start a daemon of our own, measure, stop it."""
    parser = argparse.ArgumentParser(description="Compare the daemon with a bare loop.")
    parser.add_argument("--depth", type=int, default=4000)
    parser.add_argument("--suffix", type=int, default=16)
    parser.add_argument("--decode", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=15)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder, "d.sock")
        command = [
            str(Path(sys.executable).with_name("sessiond")),
            "serve",
            "--socket",
            str(socket),
            "--state-dir",
            folder,
            "--no-measure",  # the bare loop runs with the backend's own choice
        ]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
            try:
                with Client(socket=socket) as client:
                    while not client.healthy():
                        if daemon.poll() is not None:
                            raise RuntimeError("the daemon did not start")
                        time.sleep(0.2)
                    found = measure(client, asked)
            finally:
                daemon.send_signal(signal.SIGTERM)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0 if all(found["met"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
