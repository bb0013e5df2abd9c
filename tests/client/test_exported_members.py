"""What a program may import from the client, and that importing it costs nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sessiond.client
from sessiond.v1 import errors

EXPORTED = """
Answer AsyncClient AsyncFunction AsyncPrompts AsyncSession AsyncStream AsyncWorkspace Client Config ContextManifest
ContextOverflow DecodeConfig Function FunctionNotFound Graph IncompleteValue InvalidInput ManifestMismatch Message
PermissionDenied Piece PrefixInput Prompt Prompts Scored SegmentInput Session SessionBusy SessionClosed SessionFatal
SessionNotFound SessionUnavailable SessiondError Stream SuffixInput Tls UnsupportedFeature Workspace prefix_input suffix_input
""".split()

HEAVY = ("grpc", "rich", "google.protobuf", "platformdirs", "asyncio")


def test_exactly_these_names_are_exported() -> None:
    assert sorted(sessiond.client.__all__) == sorted(EXPORTED)


@pytest.mark.parametrize("name", EXPORTED)
def test_each_name_is_there(name: str) -> None:
    assert getattr(sessiond.client, name).__name__ == name
    assert name in dir(sessiond.client)


def test_every_error_of_the_contract_is_exported() -> None:
    kinds = {kind.__name__ for kind in errors.SessiondError.__subclasses__()} | {"SessiondError"}
    assert kinds <= set(EXPORTED)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        getattr(sessiond.client, "Nothing")  # noqa: B009 - a type checker knows that it is not there


@pytest.mark.parametrize(
    "code",
    [
        "import sessiond.client",
        "import sessiond.client.cli.main",
        "from sessiond.client.cli.main import cli; cli(['--help'], standalone_mode=False)",
        "from sessiond.client.cli.main import cli; cli(['ask', '--help'], standalone_mode=False)",
        "from sessiond.client.cli.main import cli; cli(['completion', 'zsh'], standalone_mode=False)",
    ],
)
def test_importing_and_helping_load_nothing_heavy(code: str) -> None:
    check = f"{code}\nimport sys; loaded = [name for name in {HEAVY!r} if name in sys.modules]; sys.exit(str(loaded or 0))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "0", done.stderr


def test_help_loads_nothing_of_ours_but_the_table_of_commands() -> None:
    code = (
        "from sessiond.client.cli.main import cli; cli(['--help'], standalone_mode=False)\n"
        "import sys; sys.exit(' '.join(sorted(name for name in sys.modules if name.startswith('sessiond.'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.split() == [
        "sessiond.client",
        "sessiond.client.cli",
        "sessiond.client.cli.catalog",
        "sessiond.client.cli.invocation",
        "sessiond.client.cli.main",
    ]
