"""What can be asked of prompts that are functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sessiond.client.calls.call import Streaming, Unary, nothing, streaming, unary, whole
from sessiond.client.requests import made, model_meant
from sessiond.v1 import config_pb2, context_pb2
from sessiond.v1 import function_service_pb2 as pb

_SERVICE: Final = "/sessiond.v1.FunctionService"
MOST_ARGUMENTS: Final = 1 << 14
"""That a daemon takes in one map."""
MOST_BYTES: Final = 16 << 20
"""Of UTF-8 that it takes in all of them together."""


def define_function(
    name: str,
    body: str,
    config: config_pb2.DecodeConfig | None,
    examples: Iterable[tuple[str, str]],
    model: str,
    session_config: config_pb2.Config | None,
) -> Unary[pb.Function]:
    shown = [made(pb.FunctionExample, argument=argument, value=value) for argument, value in examples]
    request = made(
        pb.DefineFunctionRequest,
        name=name,
        body=body,
        config=config,
        examples=shown,
        model=model_meant(model),
        session_config=session_config,
    )
    return unary(f"{_SERVICE}/DefineFunction", request, pb.DefineFunctionResponse, lambda told: told.function)


def list_functions() -> Unary[list[pb.Function]]:
    path = f"{_SERVICE}/ListFunctions"
    return unary(path, pb.ListFunctionsRequest(), pb.ListFunctionsResponse, lambda told: list(told.functions))


def delete_function(name: str) -> Unary[None]:
    request = made(pb.DeleteFunctionRequest, name=name)
    return unary(f"{_SERVICE}/DeleteFunction", request, pb.DeleteFunctionResponse, nothing)


def call_function(name: str, argument: str) -> Streaming[context_pb2.StreamChunk]:
    request = made(pb.CallFunctionRequest, name=name, argument=argument)
    return streaming(f"{_SERVICE}/CallFunction", request, pb.CallFunctionResponse, lambda told: told.chunk)


def function_text(name: str, argument: str) -> Streaming[str]:
    request = made(pb.CallFunctionRequest, name=name, argument=argument)
    return streaming(
        f"{_SERVICE}/CallFunction", request, pb.CallFunctionResponse, lambda told: told.chunk.text or None
    )


def batches(arguments: Iterable[str]) -> list[tuple[int, list[str]]]:
    """As many arguments as one map takes, each time with the index of the first. One that is too long by itself is the daemon's
    to refuse.
    """
    found: list[tuple[int, list[str]]] = []
    size = 0
    for index, argument in enumerate(arguments):
        more = len(argument.encode(errors="surrogatepass"))
        if not found or len(found[-1][1]) == MOST_ARGUMENTS or size + more > MOST_BYTES:
            found.append((index, []))
            size = 0
        found[-1][1].append(argument)
        size += more
    return found


def map_function(name: str, arguments: Iterable[str]) -> Streaming[pb.MapFunctionResponse]:
    request = made(pb.MapFunctionRequest, name=name, arguments=arguments)
    return streaming(f"{_SERVICE}/MapFunction", request, pb.MapFunctionResponse, whole)
