#!/usr/bin/env python3
"""What it costs that a context may have one sequence more: a step of eight of them, beside a context for 64.

    .venv/bin/python scripts/sequences.py [--model PATH] [--depth 4000] [--rounds 200]

Contexts are made as the adapter makes them, but for how many sequences they may have. In each, eight sequences share a
prefix. In every round each context, in an order that is drawn, computes one more token of each of the eight in one batch,
and lets go of it again. Ratios are made of one round, and their medians count; a second context for 64 says how much of them
is chance. Prints one JSON object. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from contextlib import ExitStack
from typing import Any

from sessiond.adapters.base import BackendError, ContextSettings, ModelLoadError, Run
from sessiond.adapters.llama_cpp import embedded_model
from sessiond.adapters.llama_cpp.context import LlamaContext, Plan
from sessiond.adapters.llama_cpp.gguf_head import check_model_file
from sessiond.adapters.llama_cpp.library import last_words, library
from sessiond.adapters.llama_cpp.shape import KvShape
from sessiond.adapters.llama_cpp.tuning import ModelDefaults, resolve
from sessiond.adapters.llama_cpp.vocab import Vocab

STREAMS = 8
MOST = {"64": 64, "64 again": 64, "63": 63, "65": 65, "66": 66}
"""Sequences that the contexts may have. The others are held against the first."""
WARM_UP = 3  # rounds that do not count


class Steps:
    """A context for `most` sequences, eight of which stand at the same depth."""

    def __init__(self, model: Any, most: int, depth: int) -> None:
        """Raises BackendError for a depth that the model was not trained for, or that there is no room for."""
        low, self._depth = library(), depth
        trained = ModelDefaults(int(low.llama_model_n_ctx_train(model)), 0.0, 0.0)  # 0 is what the file says
        size, shape = Vocab(model).facts.size, KvShape(recurrent=False, window=0)
        settings = resolve(ContextSettings(num_ctx=depth + STREAMS), trained, on_gpu=False)
        self._context = LlamaContext(model, size, settings, shape, Plan(most - 1, own_sequences=1))
        self.close, self._token = self._context.close, 13 % size
        tokens, step = [(index * 7919 + 13) % size for index in range(depth)], settings.num_ubatch
        for start in range(0, depth, step):
            self._context.decode([Run(0, start, tokens[start : start + step])])
        for stream in range(1, STREAMS):
            self._context.share(0, stream, depth)

    def step_ms(self) -> float:
        """Milliseconds of one more token for each of the eight. They stand at the depth again afterwards."""
        runs = [Run(stream, self._depth, [self._token], want_logits=True) for stream in range(STREAMS)]
        begun = time.perf_counter()
        self._context.decode(runs)
        self._context.logits(STREAMS - 1)  # where another device computes, they are waited for here
        took = (time.perf_counter() - begun) * 1e3
        for stream in range(STREAMS):
            self._context.truncate(stream, self._depth)
        return took


def measured(path: str, depth: int, rounds: int) -> dict[str, object]:
    """Milliseconds of a step, and ratios to the first context's, by how many sequences there may be. Raises BackendError."""
    check_model_file(path)
    low: Any = library()
    with ExitStack() as stack:
        model = low.llama_model_load_from_file(path.encode(), low.llama_model_default_params())
        if not model:
            raise ModelLoadError(f"llama.cpp cannot load {path}: {last_words()}")
        stack.callback(low.llama_model_free, model)
        if low.llama_model_is_recurrent(model) or low.llama_model_is_hybrid(model):
            raise ModelLoadError("this model has a state for each sequence, where others have cells")
        sides: dict[str, Steps] = {}
        for name, most in MOST.items():
            sides[name] = Steps(model, most, depth)
            stack.callback(sides[name].close)
        draw, names = random.Random(1), list(MOST)
        laps: list[dict[str, float]] = []
        for _ in range(WARM_UP + rounds):
            draw.shuffle(names)
            laps.append({name: sides[name].step_ms() for name in names})
    del laps[:WARM_UP]
    first, *others = MOST
    ratios = {name: [lap[name] / lap[first] for lap in laps] for name in others}
    return {
        "streams": STREAMS,
        "depth": depth,
        "rounds": rounds,
        "step_ms": {name: statistics.median(lap[name] for lap in laps) for name in MOST},
        f"ratio_to_{first}": {name: statistics.median(each) for name, each in ratios.items()},
        "quartiles": {name: statistics.quantiles(each, n=4)[::2] for name, each in ratios.items()},
    }


def main() -> int:
    """Measure and print. 0: it was done. 2: it could not be."""
    parser = argparse.ArgumentParser(description="What one sequence more costs.")
    parser.add_argument("--model", default="", help="a GGUF file; the embedded one if left out")
    parser.add_argument("--depth", type=int, default=4000, help="tokens of the prefix")
    parser.add_argument("--rounds", type=int, default=200)
    asked = parser.parse_args()
    if asked.depth < 1 or asked.rounds < 2:
        parser.error("a depth is at least 1, and rounds are at least 2")
    try:
        told = measured(asked.model or embedded_model() or "", asked.depth, asked.rounds)
    except BackendError as error:
        print(f"sequences: {error}", file=sys.stderr)
        return 2
    print(json.dumps(told, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
