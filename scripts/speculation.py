#!/usr/bin/env python3
"""Guessing ahead: that it changes no answer, and what it gains, beside llama-server's.

    .venv/bin/python scripts/speculation.py [--only exact,default,speed] [--prompts 200] [--tasks 6] [--no-peer] …

- exact: in deterministic mode every answer is the same with guesses as without, token for token: greedy, and drawn with a
  seed.
- default: otherwise the shape of a batch may round a logit another way. How many greedy answers differ with guesses from those
  without: no more than between two cold runs of different batch shapes, which are prompts in micro-batches of 512 and of 32,
  or of 1, whichever differ in more. llama.cpp's CPU code has one way to compute a single row and another for several, so that
  32 are no other shape to it than 512. Told beside it, without a target: how many differ where another answer has a token
  in each step.
- speed: tokens a second with guesses over those without, on texts that repeat a file (copy), that repeat most of it (edit,
  of this repository's history), and that repeat nothing (other): at least 2 on copies, at least 0.97 on others. The engine's
  own code runs, in this process, and is told what its samplers answer: a model this small cannot do the tasks.
- peers: what the model says by itself where it is asked to say a file again: milliseconds a token of the daemon, with
  guesses and without, and of llama-server, plain and with its n-gram speculation. It has no target.

Prints one JSON object, and a table on standard error; status 1 if a target was missed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.load import OtherLoad
from benchmark.stamps import token_ms
from benchmark.texts import SOURCE, Texts
from benchmark.turns import Turn, complete
from build_peer import peer
from compare_server import Flags, LlamaServer
from compare_verdict import Outcome, missed, rounded, table
from demo_daemon import own_daemon
from sessiond.adapters.base import Model, ModelSettings
from sessiond.client import Client, Config, DecodeConfig, Session
from sessiond.daemon.engine.arena import Guessing
from sessiond.daemon.engine.backends import adapters
from sessiond.v1.config_pb2 import FLASH_ATTN_ON, SPECULATION_AUTO, SPECULATION_OFF, Speculation
from speculation_cold import Cold, Shape
from speculation_forced import Told
from speculation_tasks import Task, tasks

COPIES, OTHERS = 2.0, 0.97
ANSWER = 48
"""Tokens of the answers that are compared."""
PROMPT = 200
"""Tokens of the prompts of these."""
LONG_ANSWER = 256
"""Of those whose speed is compared with llama-server's."""
WINDOW = 2048
COLD_WINDOW = 1024
COLD_SHAPES = {"prompt in 32": Shape(32), "prompt in 1": Shape(1)}
SHAPES = {
    "plain": Shape(),
    "guessed": Shape(guesses=True),
    **COLD_SHAPES,
    "beside another": Shape(beside=True),
}
PEERS = {
    "llama-server": (),
    "llama-server ngram-simple": ("--spec-type", "ngram-simple"),
    "llama-server ngram-simple 4 16": (
        *("--spec-type", "ngram-simple"),
        *("--spec-ngram-simple-size-n", "4", "--spec-ngram-simple-size-m", "16"),
    ),
}
"""Its speculation as it comes, and with what suits texts of some hundred tokens."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What the scenarios work with."""

    client: Client
    folder: Path
    asked: argparse.Namespace


def main() -> int:
    """Measure, judge, print."""
    asked = _arguments()
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="sd-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with own_daemon(folder, asked.model) as client:
            for scenario in asked.only:
                outcomes[scenario] = SCENARIOS[scenario](Bench(client, folder, asked))
    print(
        json.dumps({"outcomes": {name: rounded(found.figures) for name, found in outcomes.items()}}, indent=2)
    )
    sys.stderr.write(table(outcomes))
    for sentence in (misses := missed(outcomes)):
        sys.stderr.write(f"speculation: {sentence}\n")
    return 1 if misses else 0


def exact(bench: Bench) -> Outcome:
    """Answers with guesses and without, in deterministic mode."""
    outcome, config = Outcome(), Config(prompt_format="raw", num_ctx=WINDOW, deterministic=True)
    ways: dict[str, dict[str, Any]] = {"greedy": {}, "drawn": {"temperature": 0.8, "seed": 7}}
    for kind, drawing in ways.items():
        unlike, drafted, accepted = 0, 0, 0
        with contextlib.closing(bench.client.open_session(key=kind, config=config)) as session:
            for text in _prompts(bench):
                plain = _said(session, text, SPECULATION_OFF, **drawing)
                guessed = _said(session, text, SPECULATION_AUTO, **drawing)
                unlike += plain.tokens != guessed.tokens
                drafted, accepted = drafted + guessed.drafted, accepted + guessed.accepted
        counts = {"answers": bench.asked.prompts, "unlike": unlike, "drafted": drafted, "accepted": accepted}
        outcome.figures[kind] = counts
        outcome.at_most(f"{kind} answers unlike those without guesses", unlike, 0)
    return outcome


def default(bench: Bench) -> Outcome:
    """Answers from cold in default mode, computed in one shape and in others."""
    outcome, model, texts = Outcome(), _model(bench), _prompts(bench)
    sides = {name: Cold(model, shape, COLD_WINDOW) for name, shape in SHAPES.items()}
    unlike = dict.fromkeys(sides, 0)
    try:
        for text in texts:
            prompt = _tokens(model, text)
            said = {name: side.say(prompt, ANSWER) for name, side in sides.items()}
            for name, tokens in said.items():
                unlike[name] += tokens != said["plain"]
    finally:
        for side in sides.values():
            side.close()
        model.close()
    guessed = sides["guessed"]
    counts = {"answers": len(texts), "drafted": guessed.drafted, "accepted": guessed.accepted}
    outcome.figures |= counts | {
        f"unlike, {name}": found for name, found in unlike.items() if name != "plain"
    }
    cold = max(unlike[name] for name in COLD_SHAPES)
    outcome.at_most(
        "answers unlike those without guesses, less those of two cold runs", unlike["guessed"] - cold, 0
    )
    return outcome


def speed(bench: Bench) -> Outcome:
    """Tokens a second with guesses and without, of texts that are told."""
    outcome, load = Outcome(), OtherLoad()
    model = _model(bench)
    plain, guessed = Told(model, None, WINDOW), Told(model, Guessing(), WINDOW)
    gains: dict[str, list[float]] = {}
    for number, task in enumerate([task for task in _tasks(bench) for _ in range(bench.asked.repeats)]):
        prompt = [token for text in (task.prefix, task.question) for token in _tokens(model, text)]
        answer = _tokens(model, task.answer)
        # Each side begins in its turn.
        sides = (plain, guessed) if number % 2 else (guessed, plain)
        took = {id(side): side.token_ms(prompt, answer) for side in sides}
        gains.setdefault(task.kind, []).append(took[id(plain)] / took[id(guessed)])
    for kind, ratios in gains.items():
        outcome.figures[kind] = {
            "median": statistics.median(ratios),
            "each": [round(each, 2) for each in ratios],
        }
    outcome.figures |= {
        "drafted": guessed.drafted,
        "accepted": guessed.accepted,
        "cpu_share_of_others": load.share(),
    }
    outcome.at_least("copies: of the speed without guesses", statistics.median(gains["copy"]), COPIES)
    outcome.at_least("other text: of the speed without guesses", statistics.median(gains["other"]), OTHERS)
    for each in (plain, guessed, model):
        each.close()
    return outcome


def peers(bench: Bench) -> Outcome:
    """Milliseconds a token of all sides, in turn, of what the model says where it is asked for a copy."""
    outcome, load = Outcome(), OtherLoad()
    took: dict[str, list[float]] = {}
    with contextlib.ExitStack() as stack:
        config = Config(prompt_format="raw", num_ctx=WINDOW, disable_bos=True)
        session = stack.enter_context(
            contextlib.closing(bench.client.open_session(key="speed", config=config))
        )
        servers = _servers(bench, session, stack)
        copies = [task for task in _tasks(bench) if task.kind == "copy"]
        for number, task in enumerate([task for task in copies for _ in range(bench.asked.repeats)]):
            # The number stands first, so that nothing that was said before stands behind the same question.
            asked = f"{number}. {task.question}{task.prefix[: len(task.prefix) // 4]}"
            for name, milliseconds in _round(bench, session, servers, task.prefix, asked, number).items():
                took.setdefault(name, []).append(milliseconds)
    outcome.figures["token_ms"] = {name: statistics.median(values) for name, values in took.items()}
    outcome.figures["without guesses, of each"] = {
        name: statistics.median(
            plain / other for plain, other in zip(took["without guesses"], values, strict=True) if other
        )
        for name, values in took.items()
    }
    outcome.figures["cpu_share_of_others"] = load.share()
    return outcome


SCENARIOS: dict[str, Callable[[Bench], Outcome]] = {
    "exact": exact,
    "default": default,
    "speed": speed,
    "peers": peers,
}


def _round(
    bench: Bench, session: Session, servers: Sequence[LlamaServer], prefix: str, asked: str, turn: int
) -> dict[str, float]:
    """Milliseconds a token of every side, each beginning in its turn."""
    texts = (prefix, asked)
    ids = [token for text in texts for token in bench.client.tokenize(text).token_ids]
    session.ensure_prefix(prefix)

    def ours(speculation: Speculation.ValueType, mark: str) -> float:
        # Nobody's answer may stand already behind the question of the other side.
        config = DecodeConfig(max_tokens=LONG_ANSWER, speculation=speculation)
        return complete(session, asked + mark, config).token_ms

    acts: dict[str, Callable[[], float]] = {
        "without guesses": lambda: ours(SPECULATION_OFF, "\n"),
        "guesses": lambda: ours(SPECULATION_AUTO, "\n\n"),
    }
    for server in servers:
        acts[server.flags.name] = partial(_of_server, server, ids)
    names = list(acts)
    first = turn % len(names)
    return {name: acts[name]() for name in [*names[first:], *names[:first]]}


def _of_server(server: LlamaServer, ids: Sequence[int]) -> float:
    return token_ms(server.complete(ids, LONG_ANSWER).stamps)


def _servers(bench: Bench, session: Session, stack: contextlib.ExitStack) -> list[LlamaServer]:
    if bench.asked.no_peer:
        return []
    config, program = session.info().config, peer()
    model = bench.client.model().absolute_path
    found: list[LlamaServer] = []
    for name, more in PEERS.items():
        flags = Flags(
            config.flash_attn == FLASH_ATTN_ON,
            1,
            2 * WINDOW,
            config.num_threads,
            more,
            name.replace(" ", "_"),
        )
        found.append(LlamaServer(program, model, flags, bench.folder))
        stack.callback(found[-1].close)
    return found


def _model(bench: Bench) -> Model:
    path = bench.client.model().absolute_path
    adapter = next(adapter for adapter in adapters().values() if adapter.accepts(path))
    return adapter.load(path, ModelSettings(), lambda _share: None)


def _tasks(bench: Bench) -> list[Task]:
    return tasks(bench.asked.repo, bench.asked.tasks)


def _tokens(model: Model, text: str) -> list[int]:
    return model.tokenize(text, parse_special=False)


@dataclass(frozen=True, slots=True)
class Said:
    """An answer."""

    tokens: list[int]
    drafted: int
    accepted: int


def _said(session: Session, text: str, speculation: Speculation.ValueType, **drawing: Any) -> Said:
    config = DecodeConfig(max_tokens=ANSWER, speculation=speculation, **drawing)
    turn: Turn = complete(session, text, config)
    return Said(turn.tokens, turn.drafted_tokens, turn.accepted_tokens)


def _prompts(bench: Bench) -> list[str]:
    texts = Texts(bench.client)
    return [texts.take(PROMPT).text for _ in range(bench.asked.prompts)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", type=_chosen, default=list(SCENARIOS), help=f"of {','.join(SCENARIOS)} (default: all)"
    )
    parser.add_argument("--model", default="", help="a model's name or path; the embedded one if left out")
    parser.add_argument("--repo", type=Path, default=SOURCE, help="the git repository of the tasks")
    parser.add_argument("--no-peer", action="store_true", help="without llama-server")
    for name, default_, told in (
        ("prompts", 200, "whose answers are compared"),
        ("tasks", 6, "of each kind"),
        ("repeats", 3, "of each task"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default_, help=f"{told} (default: {default_})")
    return parser.parse_args()


def _chosen(listed: str) -> list[str]:
    names = listed.split(",")
    if unknown := [name for name in names if name not in SCENARIOS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(SCENARIOS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
