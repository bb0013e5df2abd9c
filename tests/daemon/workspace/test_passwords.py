"""Which passwords are none."""

from __future__ import annotations

import pytest

from sessiond.daemon.workspace.passwords import is_no_password


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pw",
        "password",
        "PASSWORD",
        "changeme",
        "xxxx",
        "****",
        "${PASS}",
        "$PASS",
        "{password}",
        "<password>",
        "%s",
        "%(password)s",
        "a...b",
        "[redacted]",
        "'secret'",
        '"token",',
    ],
)
def test_what_stands_in_examples(text: str) -> None:
    assert is_no_password(text)


@pytest.mark.parametrize(
    "text", ["hunter2", "Tr0ub4dor&3", "p%40ssw0rd", "$ecret$", "correct-horse", "password-of-db"]
)
def test_what_somebody_may_have_chosen(text: str) -> None:
    assert not is_no_password(text)
    assert is_no_password(text, user=text)
