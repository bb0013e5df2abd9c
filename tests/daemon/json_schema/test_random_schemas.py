"""Random schemas: what a model says under their grammar is valid. `scripts/schemas.py` does the same for longer."""

from __future__ import annotations

import json
from random import Random
from typing import cast

import pytest
from tests.daemon.engine.scripted import kv_context, load

from schema_answers import answer, closing
from schema_cases import fault, random_schema, valid
from sessiond.adapters.base import Run, Sampling
from sessiond.daemon.json_schema import to_gbnf

MODEL = load("scripted-kv:num_ctx=512")
BIAS = closing(MODEL)


@pytest.mark.parametrize("seed", range(40))
def test_every_answer_is_valid(seed: int) -> None:
    schema = random_schema(Random(seed))
    context = kv_context(MODEL)
    context.decode([Run(0, 0, [ord("{")], want_logits=True)])
    sampling = Sampling(seed=seed, temperature=1.0, grammar=to_gbnf(json.dumps(schema)), logit_bias=BIAS)
    said = answer(MODEL, context, sampling, 400)
    assert said is not None, "it came to no end"
    assert fault(said, schema) == "", said


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        (1, {"type": "string"}),
        (True, {"type": "integer"}),
        ("ab", {"minLength": 3}),
        (3, {"minimum": 4}),
        (4, {"exclusiveMinimum": 4}),
        ([1], {"items": {"type": "string"}}),
        ([], {"minItems": 1}),
        ({}, {"required": ["a"]}),
        ({"a": 1}, {"properties": {"a": {"type": "null"}}}),
        ({"a": 1}, {"additionalProperties": False}),
        (1, {"oneOf": [{"type": "integer"}, {"type": "number"}]}),
        (True, {"enum": [1]}),
        ("2021-02-31", {"format": "date"}),
    ],
)
def test_the_check_finds_what_is_not_valid(value: object, schema: dict[str, object]) -> None:
    assert not valid(value, cast("object", schema), schema)
