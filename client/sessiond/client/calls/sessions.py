"""What can be asked of sessions, and of one by its name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sessiond.client import requests
from sessiond.client.calls.call import Streaming, Unary, streaming, unary, whole
from sessiond.client.requests import DecodeSettings, made, model_meant
from sessiond.v1 import config_pb2, context_pb2
from sessiond.v1 import session_service_pb2 as pb
from sessiond.v1.errors import invalid

_SERVICE: Final = "/sessiond.v1.SessionService"


def open_session(
    workspace_root: requests.PathLike | None, model: str, key: str, config: config_pb2.Config | None
) -> Unary[pb.OpenSessionResponse]:
    root = requests.absolute(workspace_root)
    request = made(
        pb.OpenSessionRequest, workspace_root=root, model=model_meant(model), key=key, config=config
    )
    return unary(f"{_SERVICE}/OpenSession", request, pb.OpenSessionResponse, whole)


def list_sessions() -> Unary[list[pb.Session]]:
    path = f"{_SERVICE}/ListSessions"
    return unary(path, pb.ListSessionsRequest(), pb.ListSessionsResponse, lambda told: list(told.sessions))


def get_session(name: str) -> Unary[pb.Session]:
    request = made(pb.GetSessionRequest, name=name)
    return unary(f"{_SERVICE}/GetSession", request, pb.GetSessionResponse, lambda told: told.session)


def close_session(name: str) -> Unary[pb.Session]:
    request = made(pb.CloseSessionRequest, name=name)
    return unary(f"{_SERVICE}/CloseSession", request, pb.CloseSessionResponse, lambda told: told.session)


def fork_session(name: str, key: str) -> Unary[pb.Session]:
    request = made(pb.ForkSessionRequest, name=name, key=key)
    return unary(f"{_SERVICE}/ForkSession", request, pb.ForkSessionResponse, lambda told: told.session)


def ensure_prefix(name: str, prefix: context_pb2.PrefixInput) -> Unary[pb.EnsurePrefixResponse]:
    request = made(pb.EnsurePrefixRequest, name=name, prefix=prefix)
    return unary(f"{_SERVICE}/EnsurePrefix", request, pb.EnsurePrefixResponse, whole)


def prefill_suffix(name: str, suffix: context_pb2.SuffixInput) -> Unary[pb.PrefillSuffixResponse]:
    request = made(pb.PrefillSuffixRequest, name=name, suffix=suffix)
    return unary(f"{_SERVICE}/PrefillSuffix", request, pb.PrefillSuffixResponse, whole)


def decode(
    name: str, config: config_pb2.DecodeConfig | None, settings: DecodeSettings
) -> Streaming[context_pb2.StreamChunk]:
    request = made(pb.DecodeRequest, name=name, config=requests.decode_config(config, settings))
    return streaming(f"{_SERVICE}/Decode", request, pb.DecodeResponse, lambda told: told.chunk)


def complete(
    name: str,
    prefix: requests.PrefixLike | None,
    suffix: context_pb2.SuffixInput,
    config: config_pb2.DecodeConfig | None,
    settings: DecodeSettings,
) -> Streaming[pb.CompleteResponse]:
    request = made(
        pb.CompleteRequest,
        name=name,
        prefix=None if prefix is None else requests.prefix_of(prefix),
        suffix=suffix,
        config=requests.decode_config(config, settings),
    )
    return streaming(f"{_SERVICE}/Complete", request, pb.CompleteResponse, whole)


def ask(
    session: str,
    opened: pb.Session | None,
    text: str,
    workspace: requests.WorkspaceLike | None,
    config: config_pb2.DecodeConfig | None,
    settings: DecodeSettings,
) -> Streaming[str]:
    """One question of a user that stands alone after the prefix, and of the answer only its text.

    `workspace` None takes the workspace as the prefix if the session is known to have been opened with one.
    """
    suffix = requests.suffix_input(messages=[("user", text)], mode="replace")
    return _text_after_prefix(session, opened, suffix, workspace, config, settings)


def fill(
    session: str,
    opened: pb.Session | None,
    fim: context_pb2.FimInput,
    workspace: requests.WorkspaceLike | None,
    config: config_pb2.DecodeConfig | None,
    settings: DecodeSettings,
) -> Streaming[str]:
    """What stands between two texts, alone after the prefix; `workspace` as in `ask`."""
    suffix = requests.suffix_input(fim=fim, mode="replace")
    return _text_after_prefix(session, opened, suffix, workspace, config, settings)


def _text_after_prefix(
    session: str,
    opened: pb.Session | None,
    suffix: context_pb2.SuffixInput,
    workspace: requests.WorkspaceLike | None,
    config: config_pb2.DecodeConfig | None,
    settings: DecodeSettings,
) -> Streaming[str]:
    if workspace is None:
        workspace = opened is not None and bool(opened.workspace_root)
    prefix = requests.prefix_input(workspace=workspace) if workspace else None
    turn = complete(session, prefix, suffix, config, settings)
    # The other parts of a turn have no text, and neither has the last chunk.
    return streaming(turn.path, turn.request, pb.CompleteResponse, lambda told: told.chunk.text or None)


def score(name: str, continuations: Iterable[str]) -> Unary[pb.ScoreResponse]:
    if isinstance(continuations, str):
        raise invalid("continuations", "one text was given; give a list of texts")
    request = made(pb.ScoreRequest, name=name, continuations=continuations)
    return unary(f"{_SERVICE}/Score", request, pb.ScoreResponse, whole)


def explain_context(name: str) -> Unary[context_pb2.ContextReport]:
    request = made(pb.ExplainContextRequest, name=name)
    return unary(f"{_SERVICE}/ExplainContext", request, pb.ExplainContextResponse, lambda told: told.report)


def watch_session(name: str) -> Streaming[pb.SessionEvent]:
    request = made(pb.WatchSessionRequest, name=name)
    return streaming(f"{_SERVICE}/WatchSession", request, pb.WatchSessionResponse, lambda told: told.event)


def save_snapshot(name: str, path: requests.PathLike) -> Unary[int]:
    request = made(pb.SaveSnapshotRequest, name=name, path=requests.absolute(path))
    return unary(f"{_SERVICE}/SaveSnapshot", request, pb.SaveSnapshotResponse, lambda told: told.size_bytes)


def restore_snapshot(name: str, path: requests.PathLike) -> Unary[pb.Session]:
    request = made(pb.RestoreSnapshotRequest, name=name, path=requests.absolute(path))
    return unary(
        f"{_SERVICE}/RestoreSnapshot", request, pb.RestoreSnapshotResponse, lambda told: told.session
    )
