"""FunctionService over the functions."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import grpc

from sessiond.daemon.functions.registry import FunctionRegistry
from sessiond.daemon.server import function_proto, to_proto
from sessiond.daemon.server.boundary import note
from sessiond.daemon.server.turns import note_chunk, spent_by
from sessiond.v1 import function_service_pb2 as pb
from sessiond.v1 import function_service_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class FunctionServicer(function_service_pb2_grpc.FunctionServiceServicer):
    """Each method converts, asks, converts back."""

    def __init__(self, functions: FunctionRegistry) -> None:
        self._functions = functions

    async def DefineFunction(
        self, request: pb.DefineFunctionRequest, context: Context
    ) -> pb.DefineFunctionResponse:
        """See the contract."""
        defined = await self._functions.define(function_proto.definition(request), spent_by(context))
        note(body_tokens=defined.body_tokens)
        return pb.DefineFunctionResponse(function=function_proto.function(defined))

    async def ListFunctions(
        self, request: pb.ListFunctionsRequest, context: Context
    ) -> pb.ListFunctionsResponse:
        """See the contract."""
        return pb.ListFunctionsResponse(functions=map(function_proto.function, self._functions.all()))

    async def DeleteFunction(
        self, request: pb.DeleteFunctionRequest, context: Context
    ) -> pb.DeleteFunctionResponse:
        """See the contract."""
        await self._functions.delete(function_proto.function_name(request.name))
        return pb.DeleteFunctionResponse()

    async def CallFunction(
        self, request: pb.CallFunctionRequest, context: Context
    ) -> AsyncGenerator[pb.CallFunctionResponse, None]:
        """See the contract."""
        spent = spent_by(context)
        name, argument = function_proto.call_argument(request)
        async with contextlib.aclosing(self._functions.call(name, argument, spent)) as chunks:
            async for chunk in chunks:
                note_chunk(chunk, spent)
                yield pb.CallFunctionResponse(chunk=to_proto.chunk(chunk, spent))

    async def MapFunction(
        self, request: pb.MapFunctionRequest, context: Context
    ) -> AsyncGenerator[pb.MapFunctionResponse, None]:
        """See the contract."""
        name, arguments = function_proto.map_arguments(request)
        note(arguments=len(arguments))
        answered = generated = 0
        async with contextlib.aclosing(self._functions.map(name, arguments, spent_by(context))) as answers:
            async for mapped in answers:
                answered, generated = answered + 1, generated + mapped.summary.generated_tokens
                note(answered=answered, generated_tokens=generated)
                yield function_proto.mapped(mapped)
