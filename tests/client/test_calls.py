"""The calls are those of the contract: every one of them, with its own types."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor import MethodDescriptor

from sessiond.client.calls import functions, health, models, sessions, workspaces
from sessiond.client.calls.call import Streaming, Unary
from sessiond.v1 import context_pb2, function_service_pb2, model_service_pb2, session_service_pb2
from sessiond.v1 import workspace_service_pb2 as workspace_service

CALLS: list[Unary[object] | Streaming[object]] = [
    sessions.open_session(None, "", "", None),
    sessions.list_sessions(),
    sessions.get_session("1"),
    sessions.close_session("1"),
    sessions.fork_session("1", ""),
    sessions.ensure_prefix("1", context_pb2.PrefixInput()),
    sessions.prefill_suffix("1", context_pb2.SuffixInput()),
    sessions.decode("1", None, {}),
    sessions.complete("1", None, context_pb2.SuffixInput(), None, {}),
    sessions.score("1", ["x"]),
    sessions.explain_context("1"),
    sessions.watch_session("1"),
    sessions.save_snapshot("1", "x"),
    sessions.restore_snapshot("1", "x"),
    models.list_models(),
    models.get_model(""),
    models.get_runtime(),
    models.tokenize("", "", False, False),
    models.detokenize([], ""),
    models.embed([], "", False),
    workspaces.get_workspace("/w"),
    workspaces.pin_files("/w", []),
    workspaces.unpin_files("/w", []),
    workspaces.set_buffer("/w", "a", ""),
    workspaces.release_buffer("/w", "a"),
    functions.define_function("f", "", None, [], "", None),
    functions.list_functions(),
    functions.delete_function("f"),
    functions.call_function("f", ""),
    functions.map_function("f", []),
]

METHODS: dict[str, MethodDescriptor] = {
    f"/{service.full_name}/{method.name}": method
    for module in (session_service_pb2, model_service_pb2, workspace_service, function_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def test_each_rpc_of_the_contract_can_be_called() -> None:
    assert sorted(call.path for call in CALLS) == sorted(METHODS)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.path.rpartition("/")[2])
def test_a_call_has_the_types_of_its_rpc(call: Unary[object] | Streaming[object]) -> None:
    method = METHODS[call.path]
    assert call.request.DESCRIPTOR is method.input_type
    assert call.answer.DESCRIPTOR is method.output_type
    assert isinstance(call, Streaming) == method.server_streaming
    call.pick(call.answer())


def test_a_question_is_a_turn_of_which_only_the_text_is_handed_on() -> None:
    call = sessions.ask("1", None, "why?", None, None, {})
    assert METHODS[call.path].name == "Complete"
    assert call.pick(session_service_pb2.CompleteResponse()) is None


def test_health_is_asked_of_the_standard_service() -> None:
    assert health.check().path == "/grpc.health.v1.Health/Check"
