"""What every channel of the client is made with."""

from __future__ import annotations

from typing import Final, TypeAlias

import grpc

from sessiond.client.endpoint import Endpoint

MESSAGE_BYTES: Final = 128 * 1024 * 1024

# An error's detail travels in the trailing metadata; gRPC's own limit of 8 KiB would cut a long one off.
_METADATA_BYTES = 1024 * 1024

OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_metadata_size", _METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", 2 * _METADATA_BYTES),
    # The daemon is on this machine or in its network: a proxy of the environment is for the web.
    ("grpc.enable_http_proxy", 0),
    # Channels would otherwise share a connection's back-off, and a new client would fail at once after an old one.
    ("grpc.use_local_subchannel_pool", 1),
    # A daemon that has just started should be found soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)

# What the daemon may say of itself in the first metadata of any answer.
VERSION_KEY: Final = "sessiond-version"

Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]


def credentials_of(endpoint: Endpoint) -> grpc.ChannelCredentials | None:
    """What a secure channel is made with; None where there is to be no TLS."""
    tls = endpoint.tls
    return None if tls is None else grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)


def call_metadata(endpoint: Endpoint) -> tuple[tuple[str, str], ...]:
    """What goes with every call: the token, if there is one."""
    return (("authorization", f"Bearer {endpoint.token}"),) if endpoint.token else ()


def version_in(metadata: Metadata) -> str:
    """The version that the daemon gives with an answer, or ""."""
    return next((str(value) for key, value in metadata if key == VERSION_KEY), "")
