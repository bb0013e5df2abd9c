"""Services whose time has not come: every rpc answers UnsupportedFeature, with its own name as the feature."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, NoReturn

import grpc
from google.protobuf.message_factory import GetMessageClass

from sessiond.v1 import function_service_pb2
from sessiond.v1.errors import UnsupportedFeature

_SERVICES = (function_service_pb2.DESCRIPTOR.services_by_name["FunctionService"],)


def handlers() -> list[grpc.GenericRpcHandler]:
    """A handler for each of these services, from its descriptor."""
    return [
        grpc.method_handlers_generic_handler(
            service.full_name, {method.name: _refusal(method) for method in service.methods}
        )
        for service in _SERVICES
    ]


def _refusal(method: Any) -> grpc.RpcMethodHandler[Any, Any]:
    feature = f"{method.containing_service.name}.{method.name}"

    def refused(_request: object, _context: object) -> NoReturn:
        raise UnsupportedFeature(feature)

    async def refuse(request: object, context: object) -> object:
        return refused(request, context)

    async def refuse_stream(request: object, context: object) -> AsyncGenerator[object, None]:
        yield refused(request, context)

    decode = GetMessageClass(method.input_type).FromString
    encode: Any = GetMessageClass(method.output_type).SerializeToString
    if method.server_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse_stream, decode, encode)
    return grpc.unary_unary_rpc_method_handler(refuse, decode, encode)
