"""Fixtures of the contract: models by adapter, and benches that clean up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sessiond.adapters.base import Model

from .kit import KV_SUBJECTS, PROMPT_SUBJECTS, SUBJECTS, KvBench, PromptBench, Shelf, Subject


def _params(names: tuple[str, ...]) -> list[object]:
    """One parameter for each adapter; those that load a real model carry the marker `model`."""
    return [
        pytest.param(name, id=name, marks=pytest.mark.model if name == "llama-cpp" else ()) for name in names
    ]


@pytest.fixture(scope="session")
def shelf() -> Iterator[Shelf]:
    """Models that were loaded, each once a session."""
    shelf = Shelf()
    yield shelf
    shelf.close()


@pytest.fixture(scope="session", params=_params((*KV_SUBJECTS, *PROMPT_SUBJECTS)))
def subject_name(request: pytest.FixtureRequest) -> str:
    """Each adapter of either kind."""
    return str(request.param)


@pytest.fixture(scope="session")
def subject(subject_name: str) -> Subject:
    """Each adapter of either kind."""
    return SUBJECTS[subject_name]


@pytest.fixture(scope="session")
def model(subject_name: str, subject: Subject, shelf: Shelf) -> Model:
    """A loaded model of each adapter of either kind."""
    return shelf.load(subject_name, subject.model())


@pytest.fixture(params=_params(KV_SUBJECTS))
def kv(request: pytest.FixtureRequest, shelf: Shelf) -> Iterator[KvBench]:
    """Each adapter that exposes its KV."""
    name, subject = request.param, SUBJECTS[request.param]
    bench = KvBench(shelf.load(name, subject.model()), lambda: shelf.load(name, subject.slow()))
    yield bench
    bench.close()


@pytest.fixture(params=_params(PROMPT_SUBJECTS))
def prompts(request: pytest.FixtureRequest, shelf: Shelf) -> Iterator[PromptBench]:
    """Each adapter that takes whole prompts."""
    name, subject = request.param, SUBJECTS[request.param]
    bench = PromptBench(shelf.load(name, subject.model()), lambda: shelf.load(name, subject.slow()))
    yield bench
    bench.close()
