"""Requests of the contract to the daemon's own types. Everything that can be malformed is refused here."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sessiond.adapters.base import (
    SAMPLER_ORDER,
    ContextSettings,
    LoraSettings,
    ModelFacts,
    ModelSettings,
    Sampling,
)
from sessiond.daemon.server.constraints import constrained, grammar_of
from sessiond.daemon.server.fields import MAX_NAME, MAX_PATH, Fields, folder
from sessiond.daemon.sessions.config import SessionConfig
from sessiond.daemon.sessions.fim import FimRequest
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.daemon.sessions.segments import MAX_SEGMENTS, faults
from sessiond.daemon.sessions.session import MAX_SEED, DecodeRequest
from sessiond.daemon.sessions.sources import PrefixRequest
from sessiond.daemon.sessions.suffix import MAX_ROLES, MessageInput, SuffixRequest
from sessiond.daemon.workspace.segment import Segment
from sessiond.v1 import config_pb2, context_pb2, model_service_pb2, session_service_pb2
from sessiond.v1.errors import UnsupportedFeature

MAX_LOGPROBS = 20
MAX_CONTINUATIONS = 1 << 10
MAX_CONTINUATION = 1 << 20
"""Bytes of UTF-8 in one of them."""
MAX_EMBED_TEXTS = 1024
MAX_EMBED_TEXT = 256 << 10
"""Bytes of one text: what a window takes is far less, and all of it is tokenized to know."""
MAX_EMBED_BYTES = 4 << 20
_FLASH = {
    config_pb2.FLASH_ATTN_UNSPECIFIED: None,
    config_pb2.FLASH_ATTN_ON: True,
    config_pb2.FLASH_ATTN_OFF: False,
}
_SPLIT = {
    config_pb2.SPLIT_MODE_UNSPECIFIED: "",
    config_pb2.SPLIT_MODE_NONE: "none",
    config_pb2.SPLIT_MODE_LAYER: "layer",
    config_pb2.SPLIT_MODE_ROW: "row",
}
SPLIT_MODES = {name: number for number, name in _SPLIT.items()}


def open_request(request: session_service_pb2.OpenSessionRequest) -> OpenRequest:
    """Raises InvalidInput."""
    fields = Fields()
    root = fields.absolute("workspace_root", request.workspace_root)
    model = fields.text("model", request.model, 4096)
    key = fields.text("key", request.key, MAX_NAME)
    config = session_config(fields, request.config)
    fields.done()
    return OpenRequest(None if root is None else folder(root), model, key, config)


def session_config(fields: Fields, config: config_pb2.Config, at: str = "config") -> SessionConfig:
    """The settings that stand in the field `at`. What is wrong with them is noted there."""
    for name in ("num_ctx", "num_batch", "num_ubatch"):
        fields.count(f"{at}.{name}", getattr(config, name))
    for name in ("num_threads", "num_threads_batch"):
        fields.count(f"{at}.{name}", getattr(config, name), most=4 * (os.cpu_count() or 1) + 64)
    fields.count(f"{at}.num_gpu_layers", config.num_gpu_layers, most=1 << 16)
    fields.count(f"{at}.main_gpu", config.main_gpu, most=1 << 10)
    if len(config.tensor_split) > 128:
        fields.refuse(f"{at}.tensor_split", "has more than 128 entries")
    for index, share in enumerate(config.tensor_split[:128]):
        fields.number(f"{at}.tensor_split[{index}]", share, 0.0, 1e6)
    if len(config.lora) > 16:
        fields.refuse(f"{at}.lora", "has more than 16 entries")
    fields.number(f"{at}.rope_freq_base", config.rope_freq_base, 0.0, 1e12)
    fields.number(f"{at}.rope_freq_scale", config.rope_freq_scale, 0.0, 1e6)
    for name in ("kv_cache_type", "prompt_format", "prompt_template_digest"):
        fields.text(f"{at}.{name}", getattr(config, name), MAX_NAME)
    if config.flash_attn not in _FLASH:
        fields.refuse(f"{at}.flash_attn", f"{config.flash_attn} is not a value of FlashAttn")
    if config.split_mode not in _SPLIT:
        fields.refuse(f"{at}.split_mode", f"{config.split_mode} is not a value of SplitMode")
    return SessionConfig(
        model=ModelSettings(
            num_gpu_layers=config.num_gpu_layers if config.HasField("num_gpu_layers") else None,
            tensor_split=tuple(config.tensor_split),
            main_gpu=config.main_gpu,
            split_mode=_SPLIT.get(config.split_mode, ""),
            use_mmap=config.use_mmap if config.HasField("use_mmap") else True,
            use_mlock=config.use_mlock,
            loras=tuple(
                _lora(fields, f"{at}.lora[{index}]", lora) for index, lora in enumerate(config.lora[:16])
            ),
        ),
        context=ContextSettings(
            num_ctx=config.num_ctx,
            num_batch=config.num_batch,
            num_ubatch=config.num_ubatch,
            num_threads=config.num_threads,
            num_threads_batch=config.num_threads_batch,
            flash_attn=_FLASH.get(config.flash_attn),
            deterministic=config.deterministic,
            kv_cache_type=config.kv_cache_type,
            rope_freq_base=config.rope_freq_base,
            rope_freq_scale=config.rope_freq_scale,
        ),
        prompt_format=config.prompt_format,
        prompt_template_digest=config.prompt_template_digest,
        disable_bos=config.disable_bos,
    )


def _lora(fields: Fields, at: str, lora: config_pb2.Lora) -> LoraSettings:
    path = fields.absolute(f"{at}.path", lora.path)
    if path is None:
        fields.refuse(f"{at}.path", "is empty")
    scale = fields.number(f"{at}.scale", lora.scale, -100.0, 100.0)
    return LoraSettings(lora.path, scale or 1.0)


def prefix_request(prefix: context_pb2.PrefixInput) -> PrefixRequest:
    """Raises InvalidInput."""
    fields = Fields()
    expect = _expect(prefix)
    match prefix.WhichOneof("source"):
        case "text":
            text = fields.text("prefix.text", prefix.text)
            request = PrefixRequest((Segment("text", "text", text),), expect=expect)
        case "segments":
            request = PrefixRequest(_segments(fields, prefix.segments), expect=expect)
        case "workspace":
            most = fields.count("prefix.workspace.max_tokens", prefix.workspace.max_tokens)
            keep_hot = not prefix.workspace.no_keep_hot
            request = PrefixRequest(workspace=True, max_tokens=most, expect=expect, keep_hot=keep_hot)
        case _:
            request = PrefixRequest(expect=expect)
    fields.done()
    return request


def _segments(fields: Fields, given: context_pb2.SegmentList) -> tuple[Segment, ...]:
    if len(given.segments) > MAX_SEGMENTS:
        fields.refuse("prefix.segments", f"has more than {MAX_SEGMENTS} segments")
        return ()
    segments = tuple(
        Segment(
            segment.id,
            "file" if segment.path else "text",
            segment.text,
            segment.path,
            stable=segment.cache_class != "volatile",
            cache_class=segment.cache_class,
        )
        for segment in given.segments
    )
    for index, field, why in faults(segments, MAX_NAME):
        fields.refuse(f"prefix.segments[{index}].{field}", why)
    return segments


def fork_key(request: session_service_pb2.ForkSessionRequest) -> str:
    """Raises InvalidInput."""
    fields = Fields()
    key = fields.text("key", request.key, MAX_NAME)
    fields.done()
    return key


def score_texts(request: session_service_pb2.ScoreRequest) -> tuple[str, ...]:
    """The continuations. Raises InvalidInput."""
    fields = Fields()
    given = request.continuations
    if not 0 < len(given) <= MAX_CONTINUATIONS:
        fields.refuse("continuations", f"{len(given)} of them are not between 1 and {MAX_CONTINUATIONS}")
    for index, text in enumerate(given[:MAX_CONTINUATIONS]):
        fields.text(f"continuations[{index}]", text, MAX_CONTINUATION)
        if not text:
            fields.refuse(f"continuations[{index}]", "is empty")
    fields.done()
    return tuple(given)


def snapshot_path(value: str) -> Path:
    """Where a snapshot stands. Raises InvalidInput."""
    fields = Fields()
    path = fields.absolute("path", value)
    if not value:
        fields.refuse("path", "is needed")
    elif path is not None and path.name in {"", ".."}:
        fields.refuse("path", "names no file")
    fields.done()
    assert path is not None
    return path


def suffix_request(suffix: context_pb2.SuffixInput) -> SuffixRequest:
    """Raises InvalidInput."""
    fields = Fields()
    modes = context_pb2.SuffixMode.values()
    if suffix.mode not in modes:
        fields.refuse("suffix.mode", f"{suffix.mode} is not a value of SuffixMode")
    replace = suffix.mode == context_pb2.SUFFIX_MODE_REPLACE
    expect = _expect(suffix)
    match suffix.WhichOneof("source"):
        case "text":
            request = SuffixRequest(fields.text("suffix.text", suffix.text), replace=replace, expect=expect)
        case "messages" if len(suffix.messages.messages) > MAX_ROLES:
            fields.refuse("suffix.messages", f"has more than {MAX_ROLES} messages")
            request = SuffixRequest()
        case "messages":
            messages = tuple(
                MessageInput(
                    fields.text(f"suffix.messages[{index}].role", message.role, MAX_NAME),
                    fields.text(f"suffix.messages[{index}].content", message.content),
                )
                for index, message in enumerate(suffix.messages.messages)
            )
            request = SuffixRequest(messages=messages, replace=replace, expect=expect)
        case "fim":
            request = SuffixRequest(fim=_fim(fields, suffix.fim), replace=replace, expect=expect)
        case _:
            request = SuffixRequest("", replace=replace, expect=expect)
    fields.done()
    return request


def _fim(fields: Fields, fim: context_pb2.FimInput) -> FimRequest:
    path = fields.text("suffix.fim.path", fim.path, MAX_PATH)
    if path.startswith("/") or any(character in path for character in "\r\n"):
        fields.refuse("suffix.fim.path", "is not a path of one line relative to the workspace root")
    if fim.layout not in context_pb2.FimLayout.values():
        fields.refuse("suffix.fim.layout", f"{fim.layout} is not a value of FimLayout")
    return FimRequest(
        fields.text("suffix.fim.before", fim.before),
        fields.text("suffix.fim.after", fim.after),
        path,
        suffix_first=fim.layout == context_pb2.FIM_LAYOUT_SUFFIX_FIRST,
    )


def _expect(source: context_pb2.PrefixInput | context_pb2.SuffixInput) -> dict[str, str] | None:
    """The expected manifest by field names, as text; None if none was given."""
    if not source.HasField("expect"):
        return None
    told: dict[str, str] = {}
    for descriptor in context_pb2.ContextManifest.DESCRIPTOR.fields:
        if descriptor.name != "segments":
            told[descriptor.name] = str(getattr(source.expect, descriptor.name))
    for index, segment in enumerate(source.expect.segments):
        for descriptor in context_pb2.ManifestSegment.DESCRIPTOR.fields:
            told[f"segments[{index}].{descriptor.name}"] = str(getattr(segment, descriptor.name))
    return told


def texts_to_embed(request: model_service_pb2.EmbedRequest) -> list[str]:
    """Raises InvalidInput."""
    fields = Fields()
    if len(request.texts) > MAX_EMBED_TEXTS:
        fields.refuse("texts", f"has more than {MAX_EMBED_TEXTS} entries")
    texts = [
        fields.text(f"texts[{index}]", text, MAX_EMBED_TEXT)
        for index, text in enumerate(request.texts[:MAX_EMBED_TEXTS])
    ]
    if sum(map(len, texts)) > MAX_EMBED_BYTES or sum(len(text.encode()) for text in texts) > MAX_EMBED_BYTES:
        fields.refuse("texts", f"are longer than {MAX_EMBED_BYTES} bytes together")
    fields.done()
    return texts


def decode_request(config: config_pb2.DecodeConfig, facts: ModelFacts) -> DecodeRequest:
    """Raises InvalidInput; UnsupportedFeature for what the backend cannot do."""
    fields = Fields()
    fields.count("config.max_tokens", config.max_tokens)
    fields.number("config.temperature", config.temperature, 0.0, 100.0)
    fields.count("config.top_k", config.top_k)
    for name in ("top_p", "min_p", "typical_p"):
        fields.number(f"config.{name}", getattr(config, name), 0.0, 1.0)
    fields.number("config.repeat_penalty", config.repeat_penalty, 0.0, 100.0)
    fields.count("config.repeat_last_n", config.repeat_last_n, least=-1)
    fields.number("config.frequency_penalty", config.frequency_penalty, -100.0, 100.0)
    fields.number("config.presence_penalty", config.presence_penalty, -100.0, 100.0)
    fields.count("config.seed", config.seed, most=MAX_SEED)
    fields.count("config.logprobs", config.logprobs, most=MAX_LOGPROBS)
    if config.speculation not in config_pb2.Speculation.values():
        fields.refuse("config.speculation", f"{config.speculation} is not a value of Speculation")
    _lists(fields, config, facts.vocab.size)
    able = facts.capabilities
    grammar = grammar_of(fields, config) if able.grammar else ""
    fields.done()
    if constrained(config) and not able.grammar:
        raise UnsupportedFeature("grammar", facts.backend)
    if config.logprobs and not able.logprobs:
        raise UnsupportedFeature("logprobs", facts.backend)
    sampling = Sampling(
        seed=config.seed if config.HasField("seed") else secrets.randbelow(MAX_SEED),
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        min_p=config.min_p,
        typical_p=config.typical_p,
        repeat_penalty=config.repeat_penalty,
        repeat_last_n=config.repeat_last_n,
        frequency_penalty=config.frequency_penalty,
        presence_penalty=config.presence_penalty,
        samplers=tuple(config.samplers),
        logit_bias=tuple((bias.token_id, bias.bias) for bias in config.logit_bias),
        grammar=grammar,
        logprobs=config.logprobs,
    )
    guesses = config.speculation != config_pb2.SPECULATION_OFF
    return DecodeRequest(sampling, config.max_tokens, tuple(config.stop), guesses)


def _lists(fields: Fields, config: config_pb2.DecodeConfig, vocab_tokens: int) -> None:
    for name, most in (("stop", 64), ("samplers", 16), ("logit_bias", 1 << 16)):
        if len(getattr(config, name)) > most:
            fields.refuse(f"config.{name}", f"has more than {most} entries")
    for index, stop in enumerate(config.stop[:64]):
        fields.text(f"config.stop[{index}]", stop, 1024)
        if not stop:
            fields.refuse(f"config.stop[{index}]", "is empty")
    for index, name in enumerate(config.samplers[:16]):
        if name not in SAMPLER_ORDER:
            fields.refuse(f"config.samplers[{index}]", f"{name!r} is none of {', '.join(SAMPLER_ORDER)}")
    for index, bias in enumerate(config.logit_bias[: 1 << 16]):
        fields.count(f"config.logit_bias[{index}].token_id", bias.token_id, vocab_tokens - 1)
        if bias.bias != float("-inf"):
            fields.number(f"config.logit_bias[{index}].bias", bias.bias, -1e6, 1e6)
