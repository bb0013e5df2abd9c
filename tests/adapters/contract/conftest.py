"""Fixtures of the contract: models by adapter, and benches that clean up."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sessiond.adapters.base import Model

from .kit import KvBench, PromptBench
from .subjects import KV_SUBJECTS, PROMPT_SUBJECTS, SUBJECTS, Shelf, Subject


def _params(names: tuple[str, ...]) -> list[object]:
    """One parameter for each of them; those that load a model through llama.cpp carry the marker `model`."""
    return [
        pytest.param(name, id=name, marks=pytest.mark.model if name.startswith("llama-cpp") else ())
        for name in names
    ]


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """Models that were loaded, each once a session."""
    shelf = Shelf(tmp_path_factory.mktemp("models"))
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
def path(subject: Subject, shelf: Shelf) -> str:
    """The name of that model."""
    return subject.model(shelf.folder)


@pytest.fixture(scope="session")
def model(subject: Subject, shelf: Shelf) -> Model:
    """A loaded model of each adapter of either kind."""
    return shelf.load(subject)


@pytest.fixture(params=_params(KV_SUBJECTS))
def kv(request: pytest.FixtureRequest, shelf: Shelf) -> Iterator[KvBench]:
    """Each adapter that exposes its KV."""
    subject = SUBJECTS[request.param]
    bench = KvBench(shelf.load(subject), lambda: shelf.load(subject, slow=True), subject.tolerance)
    yield bench
    bench.close()


@pytest.fixture(params=_params(PROMPT_SUBJECTS))
def prompts(request: pytest.FixtureRequest, shelf: Shelf) -> Iterator[PromptBench]:
    """Each adapter that takes whole prompts."""
    subject = SUBJECTS[request.param]
    bench = PromptBench(shelf.load(subject), lambda: shelf.load(subject, slow=True))
    yield bench
    bench.close()
