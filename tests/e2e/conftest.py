"""Daemons for the tests: one for each module with a scripted model, one for all with the real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tests.e2e.daemon import Daemon, short_folder
from tests.e2e.turns import RAW

from sessiond.client import Client, Session


@pytest.fixture(scope="module")
def scripted_model() -> str:
    """Modules that need another one override this."""
    return "scripted-kv:num_ctx=2048"


@pytest.fixture(scope="module")
def daemon(scripted_model: str) -> Iterator[Daemon]:
    """A daemon with a scripted model."""
    with short_folder() as folder, Daemon(folder, scripted_model) as running:
        yield running


@pytest.fixture(scope="module")
def client(daemon: Daemon) -> Client:
    """A client of the scripted daemon."""
    return daemon.client


@pytest.fixture(scope="module")
def channel(daemon: Daemon) -> grpc.Channel:
    """A bare channel of the scripted daemon, for requests and bytes of any kind."""
    return daemon.channel()


@pytest.fixture(scope="module")
def settled(client: Client) -> Session:
    """One session of the scripted daemon for a whole module: for tests of what changes nothing."""
    session = client.open_session(key="settled")
    session.ensure_prefix("xxxx")
    return session


@pytest.fixture
def session(client: Client, request: pytest.FixtureRequest) -> Iterator[Session]:
    """A session of its own without frames: a character of "xyz" is a token."""
    opened = client.open_session(key=request.node.name[-200:], config=RAW)
    yield opened
    if opened.info().state != 3:  # closed
        opened.close()


@pytest.fixture(scope="session")
def real_daemon() -> Iterator[Daemon]:
    """A daemon with the embedded model."""
    with short_folder() as folder, Daemon(folder) as running:
        yield running


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for one more daemon."""
    with short_folder() as made:
        yield made
