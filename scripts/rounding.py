#!/usr/bin/env python3
"""What the shape of a batch changes, and what it costs: the figures that guessing ahead and the token tree rely on.

    .venv/bin/python scripts/rounding.py [--model PATH] [--texts 24] [--depth 1024] [--repeats 15] [--flash-attn]

- lead: the same tokens are computed one by one, and in one batch of 2, 4, 8 or 16. By how much does the lead of the likeliest
  token over the next one change (median, nine of ten, 99 of 100), and how often is another token the likeliest? For what is
  within `ROUNDING` an answer computes the token once more: how often that is, and how often another one is likeliest beyond it.
- cost: a batch of so many tokens with the logits of all, in steps of one token. Medians.
- beside: a step, and a batch of 16, where another sequence has so many times as many cells beside the depth: of the time
  without. Attention reads up to the highest cell taken.

The texts are this repository's. Prints one JSON object. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmark.texts import sources
from sessiond.adapters.base import ContextSettings, KvContext, Model, ModelSettings, Run
from sessiond.adapters.llama_cpp import ADAPTER, embedded_model
from sessiond.adapters.llama_cpp.context import ROUNDING

SIZES = (2, 4, 8, 16)
"""Tokens of the batches whose logits are compared."""
TIMED = (1, 2, 3, 5, 9, 17, 33)
BESIDE = (0.25, 0.5, 0.75)
"""Cells of another sequence, in units of the depth."""
PROMPT = 200
"""Tokens before those that are compared."""
WIDTH = 5
"""Characters that are read for each token."""


def main() -> int:
    """Measure and print."""
    asked = _arguments()
    model = ADAPTER.load(str(asked.model), ModelSettings(), lambda _share: None)
    tokens = model.tokenize(
        sources()[: WIDTH * max(2 * asked.depth, PROMPT * asked.texts)], parse_special=False
    )
    window = asked.depth + PROMPT + max(TIMED)
    settings = ContextSettings(num_ctx=window, num_cells=2 * window, flash_attn=asked.flash_attn)
    told: dict[str, Any] = {
        "asked": {name: str(value) for name, value in vars(asked).items()},
        "rounding": ROUNDING,
        "lead": _leads(_context(model, settings), tokens, asked.texts),
        "cost": _costs(_context(model, settings), tokens, asked.depth, asked.repeats),
        "beside": _beside(_context(model, settings), tokens, asked.depth, asked.repeats),
    }
    print(json.dumps(told, indent=2))
    return 0


def _context(model: Model, settings: ContextSettings) -> KvContext:
    context = model.new_context(settings)
    assert isinstance(context, KvContext)
    return context


def _leads(context: KvContext, tokens: Sequence[int], texts: int) -> dict[str, Any]:
    """By size of the batch, and of all."""
    places: dict[int, list[_Place]] = {size: [] for size in SIZES}
    most = max(SIZES)
    for number in range(texts):
        text = tokens[number * PROMPT :][: PROMPT + most]
        if len(text) < PROMPT + most:
            break
        context.drop(0)
        context.decode([Run(0, 0, text[:PROMPT])])
        alone = [_logits(context, text, PROMPT + at) for at in range(most)]
        for size in SIZES:
            context.truncate(0, PROMPT)
            context.decode([Run(0, PROMPT, text[PROMPT:][:size], size)])
            together = [_row(context, size - 1 - at) for at in range(size)]
            places[size] += map(_Place, alone[:size], together)
    context.close()
    every = [place for of_size in places.values() for place in of_size]
    return {str(size): _told(found) for size, found in places.items()} | {"all": _told(every)}


class _Place:
    """The same place of a text, computed by itself and in a batch."""

    def __init__(self, alone: _Logits, together: _Logits) -> None:
        first, second = (int(token) for token in np.argsort(together)[-1:-3:-1])
        self.lead = float(together[first] - together[second])
        """In the batch."""
        self.change = abs(float(alone[first] - alone[second]) - self.lead)
        self.is_other = int(alone.argmax()) != first
        """Whether another token is the likeliest."""


_Logits = npt.NDArray[np.float32]


def _logits(context: KvContext, text: Sequence[int], at: int) -> _Logits:
    """Those after the token at this place, which is computed by itself."""
    context.decode([Run(0, at, text[at : at + 1], 1)])
    return _row(context, 0)


def _row(context: KvContext, back: int) -> _Logits:
    return np.frombuffer(context.logits(0, back), np.float32)


def _told(places: Sequence[_Place]) -> dict[str, Any]:
    changes = [place.change for place in places]
    quantiles = {f"{share:g}": round(float(np.quantile(changes, share)), 3) for share in (0.5, 0.9, 0.99)}
    return {
        "places": len(places),
        "change": quantiles,
        "in_doubt": round(sum(place.lead <= ROUNDING for place in places) / len(places), 3),
        "another_likeliest": sum(place.is_other for place in places),
        "another_likeliest_beyond_doubt": sum(place.is_other and place.lead > ROUNDING for place in places),
    }


def _costs(context: KvContext, tokens: Sequence[int], depth: int, repeats: int) -> dict[str, float]:
    """In steps of one token."""
    _fill(context, 0, tokens[:depth])
    took: dict[int, list[float]] = {size: [] for size in TIMED}
    for size in _rounds(TIMED, repeats):
        took[size].append(_seconds(context, depth, tokens[depth : depth + size]))
    context.close()
    medians = {size: statistics.median(seconds) for size, seconds in took.items()}
    return {str(size): round(medians[size] / medians[1], 2) for size in TIMED}


def _beside(
    context: KvContext, tokens: Sequence[int], depth: int, repeats: int
) -> dict[str, dict[str, float]]:
    """By how many cells are beside, and by the batch's tokens."""
    _fill(context, 0, tokens[:depth])
    medians: dict[float, dict[int, float]] = {}
    for share in (0.0, *BESIDE):
        if share:
            _fill(context, 1, tokens[: int(share * depth)])
        medians[share] = {
            size: statistics.median(
                _seconds(context, depth, tokens[depth : depth + size]) for _ in range(repeats)
            )
            for size in (1, 16)
        }
        context.drop(1)
    context.close()
    return {
        f"{share:g}": {str(size): round(medians[share][size] / medians[0.0][size], 2) for size in (1, 16)}
        for share in BESIDE
    }


def _fill(context: KvContext, sequence: int, tokens: Sequence[int]) -> None:
    for at in range(0, len(tokens), 512):
        context.decode([Run(sequence, at, tokens[at : at + 512])])


def _seconds(context: KvContext, depth: int, tokens: Sequence[int]) -> float:
    began = time.perf_counter()
    context.decode([Run(0, depth, tokens, len(tokens))])
    took = time.perf_counter() - began
    context.truncate(0, depth)
    return took


def _rounds(sizes: Sequence[int], repeats: int) -> Iterator[int]:
    """All sizes in turn, so that none has a better time than another."""
    for number in range(repeats):
        yield from sizes if number % 2 else reversed(sizes)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=embedded_model(), help="a GGUF file")
    parser.add_argument("--flash-attn", action="store_true")
    for name, default, told in (
        ("texts", 24, "whose logits are compared"),
        ("depth", 1024, "tokens before the batches that are timed"),
        ("repeats", 15, "of each time"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{told} (default: {default})")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
