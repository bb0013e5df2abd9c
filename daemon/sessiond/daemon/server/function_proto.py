"""Functions to and from messages of the contract. What is malformed is refused here, each field named."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from sessiond.adapters.base import ModelFacts
from sessiond.daemon.functions.definition import (
    MAX_ALL_ARGUMENTS,
    MAX_ARGUMENTS,
    MAX_BODY,
    MAX_EXAMPLES,
    MAX_SAID,
    NAME,
    Decoding,
    Definition,
    Example,
)
from sessiond.daemon.functions.function import Function
from sessiond.daemon.functions.many import Mapped
from sessiond.daemon.server import from_proto, to_proto
from sessiond.daemon.server.fields import Fields
from sessiond.daemon.sessions.open_request import OpenRequest
from sessiond.v1 import function_service_pb2 as pb
from sessiond.v1.errors import invalid


def definition(request: pb.DefineFunctionRequest) -> Definition:
    """Raises InvalidInput. How tokens are chosen can only be judged with the model at hand: `decoding` does."""
    fields = Fields()
    _name(fields, request.name)
    body = fields.text("body", request.body, MAX_BODY)
    if not body:
        fields.refuse("body", "is empty")
    if len(request.examples) > MAX_EXAMPLES:
        fields.refuse("examples", f"has more than {MAX_EXAMPLES} entries")
    examples = tuple(
        Example(
            fields.text(f"examples[{index}].argument", example.argument, MAX_BODY),
            fields.text(f"examples[{index}].value", example.value, MAX_BODY),
        )
        for index, example in enumerate(request.examples[:MAX_EXAMPLES])
    )
    model = fields.text("model", request.model, 4096)
    config = from_proto.session_config(fields, request.session_config, "session_config")
    told = pb.DefineFunctionRequest()
    told.CopyFrom(request)
    told.DiscardUnknownFields()
    said = told.SerializeToString(deterministic=True)
    if len(said) > MAX_SAID:
        fields.refuse("request", f"has more than {MAX_SAID} bytes")
    fields.done()
    return Definition(request.name, body, examples, OpenRequest(None, model, "", config), said)


def read(said: bytes) -> Definition:
    """A definition that was kept. Raises InvalidInput."""
    try:
        return definition(pb.DefineFunctionRequest.FromString(said))
    except (DecodeError, ValueError) as error:
        raise invalid("request", f"is not a valid message: {error}") from error


def decoding(defined: Definition, facts: ModelFacts) -> Decoding:
    """How tokens are chosen. Raises InvalidInput, UnsupportedFeature."""
    config = pb.DefineFunctionRequest.FromString(defined.said).config
    return Decoding(from_proto.decode_request(config, facts), seeded=config.HasField("seed"))


def function(known: Function) -> pb.Function:
    """A function as its clients see it."""
    said = pb.DefineFunctionRequest.FromString(known.definition.said)
    return pb.Function(
        name=said.name,
        body=said.body,
        config=said.config,
        examples=said.examples,
        body_tokens=known.body_tokens,
        model=said.model,
        session_config=said.session_config,
    )


def function_name(name: str) -> str:
    """Raises InvalidInput."""
    fields = Fields()
    _name(fields, name)
    fields.done()
    return name


def call_argument(request: pb.CallFunctionRequest) -> tuple[str, str]:
    """The function's name, and the argument. Raises InvalidInput."""
    fields = Fields()
    _name(fields, request.name)
    fields.text("argument", request.argument)
    fields.done()
    return request.name, request.argument


def map_arguments(request: pb.MapFunctionRequest) -> tuple[str, list[str]]:
    """The function's name, and the arguments. Raises InvalidInput."""
    fields = Fields()
    _name(fields, request.name)
    if len(request.arguments) > MAX_ARGUMENTS:
        fields.refuse("arguments", f"has more than {MAX_ARGUMENTS} entries")
    arguments = list(request.arguments[:MAX_ARGUMENTS])
    for index, argument in enumerate(arguments):
        fields.text(f"arguments[{index}]", argument)
    if sum(len(argument.encode()) for argument in arguments) > MAX_ALL_ARGUMENTS:
        fields.refuse("arguments", f"are longer than {MAX_ALL_ARGUMENTS} bytes together")
    fields.done()
    return request.name, arguments


def mapped(one: Mapped) -> pb.MapFunctionResponse:
    """One argument's answer."""
    return pb.MapFunctionResponse(
        index=one.index,
        value=one.value,
        summary=to_proto.summary(one.summary, one.timings),
        token_ids=one.tokens,
        logprobs=map(to_proto.token_logprobs, one.scores),
    )


def _name(fields: Fields, name: str) -> None:
    if not NAME.fullmatch(name):
        fields.refuse("name", f"is not of the form {NAME.pattern}")
