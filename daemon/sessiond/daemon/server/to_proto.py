"""The daemon's own types to messages of the contract."""

from __future__ import annotations

import math
from array import array
from dataclasses import asdict, replace
from statistics import median

from sessiond.adapters.base import Capabilities, ContextSettings, ModelFacts
from sessiond.daemon.engine.carried import can_be_carried
from sessiond.daemon.engine.engine import Engine
from sessiond.daemon.engine.memory import ArenaRecord
from sessiond.daemon.engine.wire import Embedded, Score, Scores
from sessiond.daemon.server.from_proto import SPLIT_MODES
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.edit_cost import EditCost
from sessiond.daemon.sessions.events import (
    Faulted,
    FilesChanged,
    Invalidated,
    KeepHotRan,
    PrefillProgressed,
    SessionEvent,
    StateChanged,
)
from sessiond.daemon.sessions.manifest import Manifest, ManifestSegment
from sessiond.daemon.sessions.miss import Miss
from sessiond.daemon.sessions.scoring import Continuation
from sessiond.daemon.sessions.session import Session
from sessiond.daemon.sessions.statuses import Chunk, PrefixStatus, Report, SuffixStatus, Summary, Timings
from sessiond.v1 import config_pb2, context_pb2, model_service_pb2, session_service_pb2
from sessiond.v1.errors import FieldViolation, InvalidInput

_STATES = {
    "ready": session_service_pb2.SESSION_STATE_READY,
    "busy": session_service_pb2.SESSION_STATE_BUSY,
    "closed": session_service_pb2.SESSION_STATE_CLOSED,
    "fatal": session_service_pb2.SESSION_STATE_FATAL,
}
_FINISHES = {
    "stop": context_pb2.FINISH_REASON_STOP,
    "stop_string": context_pb2.FINISH_REASON_STOP_STRING,
    "length": context_pb2.FINISH_REASON_LENGTH,
}
_SOURCES = {
    "counted": context_pb2.REUSE_SOURCE_COUNTED,
    "reported": context_pb2.REUSE_SOURCE_REPORTED,
    "unknown": context_pb2.REUSE_SOURCE_UNKNOWN,
}


def config(chosen: SessionConfig) -> config_pb2.Config:
    """The settings as they run: nothing is left open."""
    message = config_pb2.Config(
        tensor_split=chosen.model.tensor_split,
        main_gpu=chosen.model.main_gpu,
        split_mode=SPLIT_MODES[chosen.model.split_mode],
        use_mmap=chosen.model.use_mmap,
        use_mlock=chosen.model.use_mlock,
        prompt_format=chosen.prompt_format,
        prompt_template_digest=chosen.prompt_template_digest,
        disable_bos=chosen.disable_bos,
        lora=[config_pb2.Lora(path=lora.path, scale=lora.scale) for lora in chosen.model.loras],
    )
    message.MergeFrom(context_settings(chosen.context))
    if chosen.model.num_gpu_layers is not None:
        message.num_gpu_layers = chosen.model.num_gpu_layers
    return message


def context_settings(settings: ContextSettings) -> config_pb2.Config:
    """The part of a Config that a context decides."""
    told = asdict(settings)
    del told["num_cells"], told["variant"]  # of the workspace's cells, not of a session
    flash = told.pop("flash_attn")
    if flash is not None:
        told["flash_attn"] = config_pb2.FLASH_ATTN_ON if flash else config_pb2.FLASH_ATTN_OFF
    return config_pb2.Config(**told)


def session(one: Session) -> session_service_pb2.Session:
    """A session as its clients see it."""
    return session_service_pb2.Session(
        name=one.name,
        workspace_root=str(one.workspace_root or ""),
        model=one.engine.model,
        key=one.key,
        config=config(one.config),
        state=_STATES[one.state],
        create_time_ms=one.created_ms,
        last_used_ms=one.last_used_ms,
        prefix_tokens=one.prefix_tokens,
        resident_tokens=one.resident_tokens,
    )


def timings(spent: Timings) -> context_pb2.Timings:
    """The times of a request that is over."""
    told = asdict(spent.close())
    del told["arrived"], told["deadline"]
    return context_pb2.Timings(**told)


def prefix_status(status: PrefixStatus) -> context_pb2.PrefixStatus:
    """What EnsurePrefix did."""
    told = asdict(status)
    source = _SOURCES[told.pop("reuse_source")]
    return context_pb2.PrefixStatus(reuse_source=source, **told)


def suffix_status(status: SuffixStatus) -> context_pb2.SuffixStatus:
    """What PrefillSuffix did."""
    return context_pb2.SuffixStatus(**asdict(status))


def chunk(piece: Chunk, spent: Timings) -> context_pb2.StreamChunk:
    """A piece of an answer."""
    message = context_pb2.StreamChunk(
        text=piece.text, token_ids=piece.token_ids, logprobs=map(token_logprobs, piece.scores)
    )
    if piece.summary is not None:
        message.summary.CopyFrom(summary(piece.summary, spent))
    return message


def summary(told: Summary, spent: Timings) -> context_pb2.DecodeSummary:
    """How an answer ended."""
    return context_pb2.DecodeSummary(
        finish_reason=_FINISHES[told.finish_reason],
        stop_string=told.stop_string,
        generated_tokens=told.generated_tokens,
        drafted_tokens=told.drafted_tokens,
        accepted_tokens=told.accepted_tokens,
        seed=told.seed,
        timings=timings(spent),
    )


def token_logprobs(scores: Scores) -> context_pb2.TokenLogprobs:
    """How likely a token was, and which ones were the likeliest at its place."""
    return context_pb2.TokenLogprobs(taken=_logprob(scores.taken), top=map(_logprob, scores.top))


def _logprob(score: Score) -> context_pb2.TokenLogprob:
    return context_pb2.TokenLogprob(token_id=score.token, piece=score.piece, logprob=score.logprob)


def scored(one: Continuation) -> session_service_pb2.ScoredContinuation:
    """How likely a continuation is."""
    parts = zip(one.token_ids, one.pieces, one.logprobs, strict=True)
    return session_service_pb2.ScoredContinuation(
        tokens=[
            context_pb2.TokenLogprob(token_id=token, piece=piece, logprob=logprob)
            for token, piece, logprob in parts
        ],
        logprob=math.fsum(one.logprobs),
    )


def manifest_segment(segment: ManifestSegment) -> context_pb2.ManifestSegment:
    """One segment of a manifest."""
    return context_pb2.ManifestSegment(**asdict(segment))


def manifest(told: Manifest) -> context_pb2.ContextManifest:
    """A manifest."""
    return context_pb2.ContextManifest(
        **asdict(told.identity),
        stable_byte_hash=told.stable_byte_hash,
        segments=[manifest_segment(segment) for segment in told.segments],
        digest=told.digest,
    )


def last_miss(miss: Miss) -> context_pb2.LastMiss:
    """Why more could not be reused."""
    return context_pb2.LastMiss(**asdict(miss))


def report(told: Report) -> context_pb2.ContextReport:
    """All that there is to say of a context."""
    message = context_pb2.ContextReport(
        resident_tokens=told.resident_tokens,
        prefix_tokens=told.prefix_tokens,
        suffix_tokens=told.suffix_tokens,
        num_ctx=told.num_ctx,
        available_tokens=told.available_tokens,
        stable_byte_hash=told.manifest.stable_byte_hash,
        stable_token_hash=told.stable_token_hash,
        manifest_digest=told.manifest.digest,
        manifest=manifest(told.manifest),
        kv_bytes=told.kv_bytes,
        shared_tokens=told.shared_tokens,
        left_out=[context_pb2.LeftOut(**asdict(left)) for left in told.left_out],
        closed=told.closed,
        fatal_cause=told.fatal_cause,
    )
    places = zip(told.manifest.segments, told.resident_by_segment, told.memory_by_segment, strict=True)
    for segment, resident, in_memory in places:
        message.segments.add(
            segment=manifest_segment(segment),
            resident_tokens=resident,
            memory_tokens=in_memory,
            missing_tokens=segment.token_end - segment.token_start - resident - in_memory,
        )
    if told.last_miss is not None:
        message.last_miss.CopyFrom(last_miss(told.last_miss))
    if told.busy is not None:
        message.busy.CopyFrom(context_pb2.Busy(**asdict(told.busy)))
    if told.edit_cost is not None:
        message.expected_edit_cost.CopyFrom(expected_edit_cost(told.edit_cost))
    return message


def expected_edit_cost(cost: EditCost) -> context_pb2.ExpectedEditCost:
    """What an edit costs on average."""
    return context_pb2.ExpectedEditCost(**asdict(cost))


def event(happened: SessionEvent) -> session_service_pb2.SessionEvent:
    """Something that happened to a session."""
    message = session_service_pb2.SessionEvent(time_ms=happened.time_ms)
    match happened.what:
        case PrefillProgressed() as progress:
            message.prefill_progress.CopyFrom(session_service_pb2.PrefillProgress(**asdict(progress)))
        case FilesChanged(paths):
            message.files_changed.paths.extend(paths)
        case KeepHotRan() as ran:
            message.keep_hot.CopyFrom(session_service_pb2.KeepHotRun(**asdict(ran)))
        case Invalidated(miss):
            message.invalidation.miss.CopyFrom(last_miss(miss))
        case Faulted(reason, text):
            message.fault.reason, message.fault.message = reason, text
        case StateChanged(state):
            message.state = _STATES[state]
    return message


def _capabilities(able: Capabilities) -> model_service_pb2.Capabilities:
    """What the daemon serves with this backend: a capability is a promise."""
    served = replace(able, snapshot=can_be_carried(able))
    return model_service_pb2.Capabilities(**asdict(served))


def model(facts: ModelFacts, name: str, defaults: ContextSettings) -> model_service_pb2.Model:
    """A loaded model."""
    return model_service_pb2.Model(
        name=name,
        absolute_path=facts.path,
        description=facts.description,
        backend=facts.backend,
        backend_version=facts.backend_version,
        model_digest=facts.model_digest,
        tokenizer_digest=facts.vocab.digest,
        capabilities=_capabilities(facts.capabilities),
        size_bytes=facts.size_bytes,
        parameters=facts.parameters,
        vocab_tokens=facts.vocab.size,
        num_ctx_train=facts.num_ctx_train,
        config=context_settings(defaults),
        notes=facts.notes,
    )


def embeddings(found: Embedded) -> model_service_pb2.EmbedResponse:
    """Vectors. Raises InvalidInput, naming each text that has none."""
    wrong = [
        FieldViolation(f"texts[{index}]", f"has {size} tokens, and the model takes 1 to {found.window}")
        for index, size in enumerate(found.sizes)
        if not 0 < size <= found.window
    ]
    if wrong:
        raise InvalidInput(wrong[:64])
    answer = model_service_pb2.EmbedResponse(pooling=found.pooling, max_tokens=found.window)
    for vector, size in zip(found.vectors, found.sizes, strict=True):
        answer.embeddings.add(values=array("f", vector), tokens=size)
    return answer


def model_runtime(engine: Engine) -> model_service_pb2.ModelRuntime:
    """How a loaded model runs."""
    bulk = engine.measured.bulk_tokens
    return model_service_pb2.ModelRuntime(
        name=engine.model,
        config=context_settings(engine.defaults),
        measurements=[
            model_service_pb2.Measurement(
                config=context_settings(trial.settings),
                bulk_tokens_per_second=bulk / median(lap.bulk_ms for lap in trial.laps) * 1e3,
                small_ms=median(lap.small_ms for lap in trial.laps),
                single_ms=median(lap.single_ms for lap in trial.laps),
            )
            for trial in engine.measured.trials
        ],
        pid=engine.process.pid,
    )


def arena_runtime(record: ArenaRecord) -> model_service_pb2.ArenaRuntime:
    """The cells of a workspace."""
    return model_service_pb2.ArenaRuntime(
        id=record.name,
        model=record.engine.model,
        workspace_root=record.root,
        cells=record.cells,
        kv_bytes=record.taken,
        running_turns=record.turns,
    )
