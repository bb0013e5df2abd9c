"""The requests, built in one place for both faces of the client.

Every function here raises InvalidInput, naming the field, for a value that the message cannot hold: text that is not
valid Unicode, a number out of range, an unknown name.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, cast

from google.protobuf.message import Message as ProtoMessage

from sessiond.v1 import config_pb2, context_pb2, function_service_pb2, model_service_pb2, session_service_pb2
from sessiond.v1 import workspace_service_pb2 as workspaces
from sessiond.v1.errors import invalid

M = TypeVar("M", bound=ProtoMessage)

SegmentLike: TypeAlias = context_pb2.SegmentInput | tuple[str, str]
"""A segment, or its id and text."""

MessageLike: TypeAlias = context_pb2.Message | tuple[str, str]
"""A message, or its role and content."""

FimLike: TypeAlias = context_pb2.FimInput | tuple[str, str]
"""A fill in the middle, or the texts before and after the cursor."""

PrefixLike: TypeAlias = context_pb2.PrefixInput | str
"""A prefix, or its text."""

WorkspaceLike: TypeAlias = context_pb2.WorkspaceInput | bool
"""The workspace's assembly with its settings, or whether to take it."""

Mode: TypeAlias = Literal["append", "replace"]
"""Where a suffix goes: after all that is resident, or after the prefix."""

PathLike: TypeAlias = str | os.PathLike[str]


class DecodeSettings(TypedDict, total=False):
    """The fields of DecodeConfig, as keyword arguments."""

    max_tokens: int
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    repeat_penalty: float
    repeat_last_n: int
    frequency_penalty: float
    presence_penalty: float
    seed: int
    stop: Iterable[str]
    samplers: Iterable[str]
    grammar: str
    json_schema: str
    choices: Iterable[str]
    logit_bias: Iterable[config_pb2.LogitBias]
    logprobs: int
    speculation: config_pb2.Speculation.ValueType


def made(kind: type[M], /, **fields: Any) -> M:
    """A message of these fields. Fields that are None stay unset."""
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return kind(**given)
    except (ValueError, TypeError):
        for name, value in given.items():  # which one was it? Set alone, it fails again
            try:
                kind(**{name: value})
            except (ValueError, TypeError) as error:
                raise invalid(name, str(error)) from error
        raise


def session_name(name: str) -> str:
    """`sessions/{id}`, also where only the id was given."""
    return name if "/" in name else f"sessions/{name}"


def absolute(path: PathLike | None) -> str:
    """An absolute path; empty stays empty."""
    told = os.fspath(path or "")
    return os.path.abspath(os.path.expanduser(told)) if told else ""  # noqa: PTH100, PTH111 - links stay as they are


# ---- sessions ------------------------------------------------------------------------------------------------


def open_session(
    workspace_root: PathLike | None, model: str, key: str, config: config_pb2.Config | None
) -> session_service_pb2.OpenSessionRequest:
    return made(
        session_service_pb2.OpenSessionRequest,
        workspace_root=absolute(workspace_root),
        model=model,
        key=key,
        config=config,
    )


def prefix_input(
    text: str | None = None,
    *,
    segments: Iterable[SegmentLike] | None = None,
    workspace: WorkspaceLike = False,
    expect: context_pb2.ContextManifest | None = None,
) -> context_pb2.PrefixInput:
    """A prefix from at most one of a text, ordered segments, and the workspace's assembly. With none of them it is the
    empty prefix. `expect` None asks for no check, an empty manifest matches nothing.
    """
    _at_most_one(text=text, segments=segments, workspace=workspace or None)
    listed = None
    if segments is not None:
        listed = context_pb2.SegmentList(segments=[_segment(segment) for segment in segments])
    if workspace is True:
        workspace = context_pb2.WorkspaceInput()
    return made(
        context_pb2.PrefixInput, text=text, segments=listed, workspace=workspace or None, expect=expect
    )


def suffix_input(
    text: str | None = None,
    *,
    messages: Iterable[MessageLike] | None = None,
    fim: FimLike | None = None,
    mode: Mode | None = None,
    expect: context_pb2.ContextManifest | None = None,
) -> context_pb2.SuffixInput:
    """A suffix from at most one of a text, messages, and the texts around a cursor. With none of them it is empty.
    `mode` None leaves it to the daemon, which appends.
    """
    _at_most_one(text=text, messages=messages, fim=fim)
    listed = None
    if messages is not None:
        listed = context_pb2.MessageList(messages=[_message(message) for message in messages])
    if isinstance(fim, tuple):
        before, after = fim
        fim = made(context_pb2.FimInput, before=before, after=after)
    return made(context_pb2.SuffixInput, text=text, messages=listed, fim=fim, mode=_mode(mode), expect=expect)


def ensure_prefix(name: str, prefix: PrefixLike) -> session_service_pb2.EnsurePrefixRequest:
    return made(session_service_pb2.EnsurePrefixRequest, name=name, prefix=_prefix(prefix))


def prefill_suffix(name: str, suffix: context_pb2.SuffixInput) -> session_service_pb2.PrefillSuffixRequest:
    return made(session_service_pb2.PrefillSuffixRequest, name=name, suffix=suffix)


def decode_config(
    config: config_pb2.DecodeConfig | None, settings: DecodeSettings
) -> config_pb2.DecodeConfig:
    """How tokens are chosen: `config`, with `settings` over it."""
    chosen = config_pb2.DecodeConfig()
    if config is not None:
        chosen.CopyFrom(config)
    over = made(config_pb2.DecodeConfig, **settings)
    cleared = cast("ProtoMessage", chosen)  # the stub's own ClearField knows the names only as literals
    for field in settings:  # assigned, not merged: a list replaces a list, and a 0 counts
        cleared.ClearField(field)
    chosen.MergeFrom(over)
    return chosen


def decode(
    name: str, config: config_pb2.DecodeConfig | None, settings: DecodeSettings
) -> session_service_pb2.DecodeRequest:
    return made(session_service_pb2.DecodeRequest, name=name, config=decode_config(config, settings))


def complete(
    name: str,
    prefix: PrefixLike | None,
    suffix: context_pb2.SuffixInput,
    config: config_pb2.DecodeConfig | None,
    settings: DecodeSettings,
) -> session_service_pb2.CompleteRequest:
    return made(
        session_service_pb2.CompleteRequest,
        name=name,
        prefix=None if prefix is None else _prefix(prefix),
        suffix=suffix,
        config=decode_config(config, settings),
    )


def ask(
    name: str,
    text: str,
    workspace: WorkspaceLike,
    config: config_pb2.DecodeConfig | None,
    settings: DecodeSettings,
) -> session_service_pb2.CompleteRequest:
    """One question of a user that stands alone after the prefix."""
    return complete(
        name,
        prefix_input(workspace=workspace) if workspace else None,
        suffix_input(messages=[("user", text)], mode="replace"),
        config,
        settings,
    )


def fork(name: str, key: str) -> session_service_pb2.ForkSessionRequest:
    return made(session_service_pb2.ForkSessionRequest, name=name, key=key)


def save_snapshot(name: str, path: PathLike) -> session_service_pb2.SaveSnapshotRequest:
    return made(session_service_pb2.SaveSnapshotRequest, name=name, path=absolute(path))


def restore_snapshot(name: str, path: PathLike) -> session_service_pb2.RestoreSnapshotRequest:
    return made(session_service_pb2.RestoreSnapshotRequest, name=name, path=absolute(path))


# ---- models --------------------------------------------------------------------------------------------------


def tokenize(text: str, model: str, parse_special: bool, add_bos: bool) -> model_service_pb2.TokenizeRequest:
    return made(
        model_service_pb2.TokenizeRequest,
        model=model,
        text=text,
        parse_special=parse_special,
        add_bos=add_bos,
    )


def detokenize(token_ids: Iterable[int], model: str) -> model_service_pb2.DetokenizeRequest:
    return made(model_service_pb2.DetokenizeRequest, model=model, token_ids=token_ids)


def embed(texts: Iterable[str], model: str) -> model_service_pb2.EmbedRequest:
    return made(model_service_pb2.EmbedRequest, model=model, texts=texts)


def model(name: str) -> model_service_pb2.GetModelRequest:
    return made(model_service_pb2.GetModelRequest, model=name)


# ---- workspaces ----------------------------------------------------------------------------------------------


def workspace(root: PathLike) -> workspaces.GetWorkspaceRequest:
    return made(workspaces.GetWorkspaceRequest, workspace_root=absolute(root))


def pin_files(root: PathLike, paths: Iterable[str]) -> workspaces.PinFilesRequest:
    return made(workspaces.PinFilesRequest, workspace_root=absolute(root), paths=paths)


def unpin_files(root: PathLike, paths: Iterable[str]) -> workspaces.UnpinFilesRequest:
    return made(workspaces.UnpinFilesRequest, workspace_root=absolute(root), paths=paths)


def set_buffer(root: PathLike, path: str, text: str) -> workspaces.SetBufferRequest:
    return made(workspaces.SetBufferRequest, workspace_root=absolute(root), path=path, text=text)


def release_buffer(root: PathLike, path: str) -> workspaces.ReleaseBufferRequest:
    return made(workspaces.ReleaseBufferRequest, workspace_root=absolute(root), path=path)


# ---- functions -----------------------------------------------------------------------------------------------


def define_function(
    name: str,
    body: str,
    config: config_pb2.DecodeConfig | None,
    examples: Iterable[tuple[str, str]],
) -> function_service_pb2.DefineFunctionRequest:
    return made(
        function_service_pb2.DefineFunctionRequest,
        name=name,
        body=body,
        config=config,
        examples=[
            made(function_service_pb2.FunctionExample, argument=argument, value=value)
            for argument, value in examples
        ],
    )


def delete_function(name: str) -> function_service_pb2.DeleteFunctionRequest:
    return made(function_service_pb2.DeleteFunctionRequest, name=name)


def call_function(name: str, argument: str) -> function_service_pb2.CallFunctionRequest:
    return made(function_service_pb2.CallFunctionRequest, name=name, argument=argument)


def map_function(name: str, arguments: Iterable[str]) -> function_service_pb2.MapFunctionRequest:
    return made(function_service_pb2.MapFunctionRequest, name=name, arguments=arguments)


# ---- parts ---------------------------------------------------------------------------------------------------


def _at_most_one(**sources: object) -> None:
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise invalid(given[1], f"give at most one of {', '.join(sources)}")


def _prefix(prefix: PrefixLike) -> context_pb2.PrefixInput:
    return prefix_input(prefix) if isinstance(prefix, str) else prefix


def _segment(segment: SegmentLike) -> context_pb2.SegmentInput:
    if isinstance(segment, context_pb2.SegmentInput):
        return segment
    name, text = segment
    return made(context_pb2.SegmentInput, id=name, text=text)


def _message(message: MessageLike) -> context_pb2.Message:
    if isinstance(message, context_pb2.Message):
        return message
    role, content = message
    return made(context_pb2.Message, role=role, content=content)


def _mode(mode: Mode | None) -> context_pb2.SuffixMode.ValueType | None:
    if mode is None:
        return None
    modes = {"append": context_pb2.SUFFIX_MODE_APPEND, "replace": context_pb2.SUFFIX_MODE_REPLACE}
    if mode not in modes:
        raise invalid("mode", f"{mode!r} is none of {', '.join(modes)}")
    return modes[mode]
