#!/usr/bin/env python3
"""Random JSON schemas, and what a model says when it has to follow them: every answer that ends is valid.

The model samples at random, so that answers go where nobody would lead them. `--model` names a GGUF file or a scripted
model. Prints one JSON object; ends with 1 if an answer was not valid, or if too many came to no end.
"""

from __future__ import annotations

import argparse
import json
import sys
from random import Random

from schema_answers import answer, closing
from schema_cases import fault, random_schema
from sessiond.adapters.base import ContextSettings, KvContext, Model, ModelSettings, Run, Sampling
from sessiond.daemon.engine.backends import adapters
from sessiond.daemon.json_schema import SchemaError, to_gbnf

MOST = 400
"""Tokens of one answer."""
LEAST_ENDED = 0.9
"""Share of answers that come to an end; the others are cut, and say nothing."""


def _loaded(name: str) -> Model:
    adapter = next(each for each in adapters().values() if each.accepts(name))
    return adapter.load(name, ModelSettings(), lambda _share: None)


def _asked(model: Model, grammar: str, seed: int) -> str | None:
    context = model.new_context(ContextSettings(num_ctx=MOST + 8))
    assert isinstance(context, KvContext)
    try:
        context.decode([Run(0, 0, model.tokenize("{", parse_special=False), want_logits=True)])
        sampling = Sampling(seed=seed, temperature=1.0, grammar=grammar, logit_bias=closing(model))
        return answer(model, context, sampling, MOST)
    finally:
        context.close()


def main() -> int:
    """Run; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="how many schemas")
    parser.add_argument("--seed", type=int, default=0, help="start of the random numbers")
    parser.add_argument("--model", default="scripted-kv:num_ctx=512", help="a GGUF file or a scripted model")
    told = parser.parse_args()
    model = _loaded(told.model)
    wrong: list[dict[str, object]] = []
    ended = refused = 0
    for number in range(told.count):
        schema = random_schema(Random(told.seed + number))
        try:
            grammar = to_gbnf(json.dumps(schema))
        except SchemaError as error:
            refused += 1
            wrong.append({"seed": told.seed + number, "refused": str(error)})
            continue
        said = _asked(model, grammar, told.seed + number)
        ended += said is not None
        if said is not None and (what := fault(said, schema)):
            wrong.append({"seed": told.seed + number, "schema": schema, "answer": said, "fault": what})
    model.close()
    print(json.dumps({"schemas": told.count, "ended": ended, "refused": refused, "wrong": wrong}))
    return int(bool(wrong) or ended < LEAST_ENDED * told.count)


if __name__ == "__main__":
    sys.exit(main())
