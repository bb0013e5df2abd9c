"""Passwords that are none: what stands in examples and templates where a password would stand."""

from __future__ import annotations

import re

SHORTEST = 4
"""Characters. What is shorter opens nothing that is worth it."""

_WORDS = frozenset(
    """
    password passwd pass passw0rd pword userpass mypassword mypass yourpassword your_password your-password my_password
    my-password user_password db_password dbpass dbpassword secret secrets my_secret mysecret my-secret yoursecret
    token mytoken my_token your_token your-token access_token accesstoken api_key apikey api-key
    user username name login test testing tester testpass testpassword test_password example sample demo dummy fake
    none null empty change changeme change_me change-me changeit replace_me redacted removed hidden masked placeholder
    root admin administrator guest postgres mysql mariadb mongo redis rabbitmq minio minioadmin sa
    user1 user2 pass1 pass2 pass123 password1 password2 password123 1234 12345 123456 1234567 12345678
    port host hostname value string text abcd abcdef
    """.split()
)
_PLACEHOLDER = re.compile(
    r"""
    [{}<>\[\]()…]                   # a template fills it in
    | \A\$[A-Za-z_][A-Za-z0-9_]*\Z  # so does a shell
    | %[a-z](?![0-9a-f])            # so does printf
    | \.\.\. | \*\*
    | \A(?:(.)\1*)\Z                # xxxx
    | \A%%
    """,
    re.VERBOSE,
)


def is_no_password(text: str, user: str = "") -> bool:
    """Whether `text` keeps nothing secret where it stands as the password of `user`."""
    text = text.strip("`'\",;")
    return (
        len(text) < SHORTEST
        or text.lower() in _WORDS
        or text == user
        or _PLACEHOLDER.search(text) is not None
    )
