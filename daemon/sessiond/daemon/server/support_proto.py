"""What a support bundle needs to know, as messages of the contract."""

from __future__ import annotations

from collections.abc import Iterable

from sessiond.adapters.base import ModelFacts
from sessiond.daemon.metrics.exposition import expose
from sessiond.daemon.metrics.reading import Reading
from sessiond.daemon.settings import Settings
from sessiond.daemon.support import told_settings, versions
from sessiond.v1 import model_service_pb2 as pb


def support_facts(settings: Settings, loaded: Iterable[ModelFacts], now: Reading) -> pb.SupportFacts:
    """Nothing in it was said by a client, a workspace or a model file."""
    text, _content_type = expose(now)
    return pb.SupportFacts(
        settings=told_settings(settings),
        versions=versions(),
        metrics=text.decode(),
        backends=[_backend(facts) for facts in loaded],
    )


def _backend(facts: ModelFacts) -> pb.BackendFacts:
    return pb.BackendFacts(
        backend=facts.backend,
        backend_version=facts.backend_version,
        model_digest=facts.model_digest,
        size_bytes=facts.size_bytes,
        parameters=facts.parameters,
        num_ctx_train=facts.num_ctx_train,
    )
