"""What a model says of itself is complete and true."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from sessiond.adapters.base import Model

from .subjects import Subject

_SHA256 = re.compile(r"[0-9a-f]{64}")


def test_digests_are_sha256(model: Model) -> None:
    assert _SHA256.fullmatch(model.facts.model_digest)
    assert _SHA256.fullmatch(model.facts.vocab.digest)


def test_a_file_is_named_by_its_absolute_path_and_digest(model: Model) -> None:
    if model.facts.path:
        path = Path(model.facts.path)
        assert path.is_absolute()
        with path.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == model.facts.model_digest


def test_backend_and_model_are_named(subject: Subject, model: Model) -> None:
    assert model.facts.backend == subject.adapter().name
    assert model.facts.backend_version
    assert model.facts.description


def test_numbers_are_possible(model: Model) -> None:
    assert model.facts.num_ctx_train > 0
    assert model.facts.size_bytes >= 0
    assert model.facts.parameters >= 0


def test_special_tokens_are_in_the_vocabulary(model: Model) -> None:
    vocab = model.facts.vocab
    assert vocab.size > 256
    assert vocab.end_tokens
    assert all(0 <= token < vocab.size for token in vocab.end_tokens)
    if vocab.bos is None:
        assert not vocab.add_bos
    else:
        assert 0 <= vocab.bos < vocab.size


def test_what_needs_sessions_is_offered_only_with_them(model: Model) -> None:
    offered = model.facts.capabilities
    if offered.fork or offered.truncate or offered.snapshot:
        assert offered.session
