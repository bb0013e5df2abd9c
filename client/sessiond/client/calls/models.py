"""What can be asked of models without a session."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sessiond.client.calls.call import Unary, unary, whole
from sessiond.client.requests import made, model_meant
from sessiond.v1 import model_service_pb2 as pb

_SERVICE: Final = "/sessiond.v1.ModelService"


def list_models() -> Unary[list[pb.ModelFile]]:
    path = f"{_SERVICE}/ListModels"
    return unary(path, pb.ListModelsRequest(), pb.ListModelsResponse, lambda told: list(told.models))


def get_model(name: str) -> Unary[pb.Model]:
    request = made(pb.GetModelRequest, model=model_meant(name))
    return unary(f"{_SERVICE}/GetModel", request, pb.GetModelResponse, lambda told: told.model)


def get_runtime(with_support: bool = False) -> Unary[pb.GetRuntimeResponse]:
    request = pb.GetRuntimeRequest(with_support=with_support)
    return unary(f"{_SERVICE}/GetRuntime", request, pb.GetRuntimeResponse, whole)


def tokenize(text: str, model: str, parse_special: bool, add_bos: bool) -> Unary[pb.TokenizeResponse]:
    request = made(
        pb.TokenizeRequest, model=model_meant(model), text=text, parse_special=parse_special, add_bos=add_bos
    )
    return unary(f"{_SERVICE}/Tokenize", request, pb.TokenizeResponse, whole)


def detokenize(token_ids: Iterable[int], model: str) -> Unary[str]:
    request = made(pb.DetokenizeRequest, model=model_meant(model), token_ids=token_ids)
    return unary(f"{_SERVICE}/Detokenize", request, pb.DetokenizeResponse, lambda told: told.text)


def embed(texts: Iterable[str], model: str, normalize: bool) -> Unary[list[pb.Embedding]]:
    request = made(pb.EmbedRequest, model=model_meant(model), texts=texts, normalize=normalize)
    return unary(f"{_SERVICE}/Embed", request, pb.EmbedResponse, lambda told: list(told.embeddings))
