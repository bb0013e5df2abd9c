"""The manifest: a client in any language can compute the same hashes."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace

import pytest
from tests.daemon.engine.scripted import load

from sessiond.adapters.base import ContextSettings, LoraSettings, ModelFacts, ModelSettings
from sessiond.daemon.sessions.manifest import (
    MAX_MISMATCHES,
    Identity,
    Manifest,
    ManifestSegment,
    byte_hash,
    check,
    identify,
    token_hash,
)
from sessiond.v1.errors import ManifestMismatch

FACTS = load("scripted-kv:bos=1").facts
CONTEXT = ContextSettings(num_ctx=64, num_batch=8, num_threads=2, flash_attn=False, kv_cache_type="f16")


def _identity(
    facts: ModelFacts = FACTS,
    loading: ModelSettings | None = None,
    context: ContextSettings = CONTEXT,
    prompt_format: str = "",
    template: str = "aa",
    *,
    disable_bos: bool = False,
) -> Identity:
    return identify(
        facts, loading or ModelSettings(), context, prompt_format, template, disable_bos=disable_bos
    )


def _segment(id_: str, start: int = 0) -> ManifestSegment:
    return ManifestSegment(
        id_,
        "file",
        f"{id_}.py",
        True,
        "",
        start,
        start + 4,
        start,
        start + 2,
        byte_hash(id_),
        token_hash([1, 2]),
    )


def _manifest(*ids: str) -> Manifest:
    return Manifest.of(_identity(), byte_hash("x"), [_segment(each, 4 * i) for i, each in enumerate(ids)])


def test_hashes_by_hand() -> None:
    assert byte_hash("é\n") == hashlib.sha256(b"\xc3\xa9\n").hexdigest()
    assert token_hash([1, 258]) == hashlib.sha256(b"\x01\0\0\0\x02\x01\0\0").hexdigest()
    assert token_hash([]) == hashlib.sha256(b"").hexdigest()
    many = list(range(70_000))
    assert token_hash(many) == hashlib.sha256(b"".join(struct.pack("<i", t) for t in many)).hexdigest()


def test_digest_is_over_all_of_the_rest() -> None:
    manifest = _manifest("a", "b")
    one = manifest.identity
    told = [
        {name: getattr(one, name) for name in Identity.__dataclass_fields__},
        manifest.stable_byte_hash,
        [
            {name: getattr(s, name) for name in ManifestSegment.__dataclass_fields__}
            for s in manifest.segments
        ],
    ]
    text = json.dumps(told, sort_keys=True, separators=(",", ":"))
    assert manifest.digest == hashlib.sha256(text.encode()).hexdigest()
    assert len({_manifest(*ids).digest for ids in ("", "a", "ab", "ba", "b")}) == 5


@pytest.mark.parametrize(
    "other",
    [
        _identity(replace(FACTS, backend="x")),
        _identity(replace(FACTS, backend_version="2")),
        _identity(replace(FACTS, model_digest="x")),
        _identity(replace(FACTS, vocab=replace(FACTS.vocab, digest="x"))),
        _identity(prompt_format="chatml"),
        _identity(template="bb"),
        _identity(disable_bos=True),
        _identity(context=replace(CONTEXT, flash_attn=True)),
        _identity(context=replace(CONTEXT, kv_cache_type="q8_0")),
        _identity(context=replace(CONTEXT, deterministic=True)),
        _identity(context=replace(CONTEXT, rope_freq_base=1.0)),
        _identity(context=replace(CONTEXT, rope_freq_scale=2.0)),
        _identity(loading=ModelSettings(loras=(LoraSettings("/a"),))),
        _identity(loading=ModelSettings(loras=(LoraSettings("/a", 2.0),))),
        _identity(loading=ModelSettings(num_gpu_layers=1)),
        _identity(loading=ModelSettings(extra_buffers=False)),
    ],
)
def test_what_changes_the_numbers_changes_the_identity(other: Identity) -> None:
    assert other.profile_id != _identity().profile_id


@pytest.mark.parametrize(
    "other",
    [
        _identity(context=replace(CONTEXT, num_threads=9, num_threads_batch=9)),
        _identity(context=replace(CONTEXT, num_batch=4, num_ubatch=2)),
        _identity(context=replace(CONTEXT, num_ctx=128)),
        _identity(loading=ModelSettings(use_mmap=False, use_mlock=True)),
        _identity(replace(FACTS, path="/elsewhere", notes=("x",))),
    ],
)
def test_what_does_not_change_the_numbers_does_not_either(other: Identity) -> None:
    assert other == _identity()


def test_the_opening_token_is_added_where_the_model_wants_it() -> None:
    assert _identity().add_bos
    assert not _identity(disable_bos=True).add_bos
    assert not _identity(load("scripted-kv:").facts).add_bos
    assert not _identity(replace(FACTS, vocab=replace(FACTS.vocab, bos=None))).add_bos


def test_flat_has_every_field_by_its_name_in_the_contract() -> None:
    flat = _manifest("a", "b").flat()
    assert flat["segments[1].path"] == "b.py"
    assert flat["segments[1].token_start"] == "4"
    assert flat["segments[0].stable"] == "True"
    assert flat["add_bos"] == "True"
    assert len(flat) == len(Identity.__dataclass_fields__) + 2 * len(ManifestSegment.__dataclass_fields__) + 2


def test_check() -> None:
    manifest = _manifest("a", "b")
    check(None, manifest)
    check(manifest.flat(), manifest)
    with pytest.raises(ManifestMismatch) as raised:
        check({**manifest.flat(), "digest": "old", "segments[1].id": "c"}, manifest)
    assert [(f.name, f.expected, f.actual) for f in raised.value.fields] == [
        ("segments[1].id", "c", "b"),
        ("digest", "old", manifest.digest),
    ]


def test_an_empty_expectation_matches_nothing() -> None:
    with pytest.raises(ManifestMismatch) as raised:
        check({}, _manifest("a", "b"))
    assert len(raised.value.fields) == MAX_MISMATCHES


def test_segments_that_are_expected_and_missing_are_told() -> None:
    with pytest.raises(ManifestMismatch) as raised:
        check(_manifest("a", "b").flat(), _manifest("a"))
    names = {field.name for field in raised.value.fields}
    assert {"segments[1].id", "segments[1].byte_hash", "digest"} <= names
