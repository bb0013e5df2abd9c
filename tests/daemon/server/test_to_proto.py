"""Answers of the contract: every figure arrives, and what goes out comes back in as it was."""

from __future__ import annotations

from dataclasses import fields

import pytest
from google.protobuf.descriptor import Descriptor
from tests.daemon.engine.scripted import load

from sessiond.adapters.base import Capabilities, ContextSettings, LoraSettings, ModelSettings
from sessiond.daemon.server import from_proto, to_proto
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.events import (
    Faulted,
    FilesChanged,
    Invalidated,
    KeepHotRan,
    PrefillProgressed,
    SessionEvent,
    StateChanged,
    What,
)
from sessiond.daemon.sessions.manifest import Identity, Manifest, ManifestSegment, check
from sessiond.daemon.sessions.miss import Miss
from sessiond.daemon.sessions.statuses import (
    Busy,
    Chunk,
    PrefixStatus,
    Report,
    SuffixStatus,
    Summary,
    Timings,
)
from sessiond.daemon.workspace.segment import LeftOut
from sessiond.v1 import context_pb2, model_service_pb2, session_service_pb2

_IDENTITY = Identity("p", "b", "v", "m", "t", "f", "pt", "r", add_bos=True)
_MANIFEST = Manifest.of(
    _IDENTITY,
    "s",
    [
        ManifestSegment("a", "file", "a.py", True, "", 0, 4, 0, 3, "bh", "th"),
        ManifestSegment("b", "text", "", False, "volatile", 4, 9, 3, 8, "bh", "th"),
    ],
)
_MISS = Miss(3, "b", "b.py", 7, "changed", "was", "is", 5, "why")


@pytest.mark.parametrize(
    "config",
    [
        SessionConfig(),
        SessionConfig(
            ModelSettings(
                0, (0.5,), 1, "layer", use_mmap=False, use_mlock=True, loras=(LoraSettings("/l", 2.0),)
            ),
            ContextSettings(
                num_ctx=64,
                num_batch=8,
                num_ubatch=4,
                num_threads=2,
                num_threads_batch=3,
                flash_attn=True,
                deterministic=True,
                kv_cache_type="f16",
            ),
            "raw",
            "aa",
            disable_bos=True,
        ),
        SessionConfig(context=ContextSettings(flash_attn=False, rope_freq_base=1.5, rope_freq_scale=0.5)),
    ],
)
def test_a_config_comes_back(config: SessionConfig) -> None:
    request = session_service_pb2.OpenSessionRequest(config=to_proto.config(config))
    assert from_proto.open_request(request).config == config


def test_a_manifest_comes_back_as_an_expectation_that_holds() -> None:
    message = to_proto.manifest(_MANIFEST)
    asked = from_proto.prefix_request(context_pb2.PrefixInput(expect=message))
    assert asked.expect == _MANIFEST.flat()
    check(asked.expect, _MANIFEST)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Identity, context_pb2.ContextManifest.DESCRIPTOR),
        (ManifestSegment, context_pb2.ManifestSegment.DESCRIPTOR),
        (PrefixStatus, context_pb2.PrefixStatus.DESCRIPTOR),
        (SuffixStatus, context_pb2.SuffixStatus.DESCRIPTOR),
        (Miss, context_pb2.LastMiss.DESCRIPTOR),
        (Busy, context_pb2.Busy.DESCRIPTOR),
        (LeftOut, context_pb2.LeftOut.DESCRIPTOR),
        (Capabilities, model_service_pb2.Capabilities.DESCRIPTOR),
    ],
)
def test_ours_are_the_contract_s_fields(ours: type, theirs: Descriptor) -> None:
    named = {field.name for field in fields(ours)}
    of_the_contract = {field.name for field in theirs.fields}
    if ours is Identity:
        of_the_contract -= {"stable_byte_hash", "segments", "digest"}
    assert named == of_the_contract


def test_statuses() -> None:
    prefix = PrefixStatus(1, 2, 3, 4, 6, 6, 10, "sb", "st", "d", "counted")
    message = to_proto.prefix_status(prefix)
    assert (message.reused_tokens, message.restored_tokens, message.prefilled_tokens) == (1, 2, 3)
    assert message.reuse_source == context_pb2.REUSE_SOURCE_COUNTED
    assert to_proto.suffix_status(SuffixStatus(1, 2, 3, 4, 5, 6, "d")).available_tokens == 6


@pytest.mark.parametrize("source", ["counted", "reported", "unknown"])
@pytest.mark.parametrize("reason", ["stop", "stop_string", "length"])
def test_every_word_has_a_value(source: str, reason: str) -> None:
    assert to_proto.prefix_status(PrefixStatus(0, 0, 0, 0, 0, 0, 0, "", "", "", source)).reuse_source != 0
    chunk = to_proto.chunk(Chunk("", (), Summary(reason, "x", 3, 4)), Timings())
    assert chunk.summary.finish_reason != 0
    assert (chunk.summary.stop_string, chunk.summary.generated_tokens, chunk.summary.seed) == ("x", 3, 4)
    assert chunk.summary.timings.total_ms >= 0


def test_a_chunk_before_the_last_has_no_summary() -> None:
    chunk = to_proto.chunk(Chunk("é", (1, 2)), Timings())
    assert (chunk.text, list(chunk.token_ids), chunk.HasField("summary")) == ("é", [1, 2], False)


def test_a_report() -> None:
    report = Report(
        resident_tokens=5, prefix_tokens=8, suffix_tokens=1, num_ctx=64, available_tokens=55, stable_token_hash="st",
        manifest=_MANIFEST, resident_by_segment=(3, 2), memory_by_segment=(0, 1), kv_bytes=100, shared_tokens=4, left_out=(LeftOut("p", "binary", "why"),),
        last_miss=_MISS, busy=Busy("prefix", 1, 2, 3.0), closed=False, fatal_cause="",
    )  # fmt: skip
    message = to_proto.report(report)
    assert [(s.resident_tokens, s.memory_tokens, s.missing_tokens) for s in message.segments] == [
        (3, 0, 0),
        (2, 1, 2),
    ]
    assert message.shared_tokens == 4
    for each in message.segments:
        size = each.segment.token_end - each.segment.token_start
        assert each.resident_tokens + each.memory_tokens + each.disk_tokens + each.missing_tokens == size
    assert message.last_miss.cause == "changed" and message.busy.stage == "prefix"
    assert (message.manifest_digest, message.stable_byte_hash) == (_MANIFEST.digest, "s")
    assert message.left_out[0].reason == "binary"


@pytest.mark.parametrize(
    ("what", "field"),
    [
        (PrefillProgressed("prefix", 1, 2), "prefill_progress"),
        (FilesChanged(("a.py",)), "files_changed"),
        (FilesChanged(()), "files_changed"),
        (KeepHotRan("finished", 3, 4.0), "keep_hot"),
        (Invalidated(_MISS), "invalidation"),
        (Faulted("SESSION_FATAL", "why"), "fault"),
        *((StateChanged(state), "state") for state in ("ready", "busy", "closed", "fatal")),
    ],
)
def test_events(what: What, field: str) -> None:
    message = to_proto.event(SessionEvent(what, 5.0))
    assert (message.WhichOneof("event"), message.time_ms) == (field, 5.0)


def test_a_model() -> None:
    facts = load("scripted-kv:").facts
    message = to_proto.model(facts, "name", ContextSettings(num_ctx=64))
    assert (message.backend, message.vocab_tokens, message.config.num_ctx) == (
        "scripted-kv",
        facts.vocab.size,
        64,
    )
    assert message.capabilities.truncate and not message.capabilities.embed
    assert message.capabilities.snapshot


@pytest.mark.parametrize("name", ["scripted-kv:no_truncate", "scripted-prompt:"])
def test_snapshots_are_promised_only_where_kv_can_be_cut_and_carried(name: str) -> None:
    able = to_proto.model(load(name).facts, "name", ContextSettings(num_ctx=64)).capabilities
    assert not able.snapshot
