"""What can be asked of the standard health service: whether the daemon serves, and its version."""

from __future__ import annotations

from typing import Final

from grpc_health.v1 import health_pb2 as pb

from sessiond.client.calls.call import Unary, unary

SERVING: Final = "SERVING"


def check() -> Unary[str]:
    """The state by its name: "SERVING" or "NOT_SERVING"."""
    request = pb.HealthCheckRequest(service="")
    return unary(
        "/grpc.health.v1.Health/Check",
        request,
        pb.HealthCheckResponse,
        lambda told: pb.HealthCheckResponse.ServingStatus.Name(told.status),
    )
