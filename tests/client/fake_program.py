"""A stand-in for the program `sessiond`: takes the lock, and serves nothing but health. Run as a script by the tests.

FAKE_BEHAVIOUR is `serve`, `slow` (serves after a second), `crash` (ends at once), `never` (is never SERVING) or `deaf`
(ignores SIGTERM).
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from concurrent import futures
from pathlib import Path
from urllib.parse import quote

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def main() -> int:
    assert sys.argv[1:3] == ["serve", "--socket"], sys.argv
    behaviour, socket = os.environ.get("FAKE_BEHAVIOUR", "serve"), sys.argv[3]
    print(f"starting in {Path.cwd()} with token {os.environ.get('SESSIOND_TOKEN')}", flush=True)
    if behaviour == "crash":
        print("cannot load the model\x1b[31m", file=sys.stderr)
        return 3
    lock = os.open(f"{socket}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("already running", file=sys.stderr)
        return 1
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    ended = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "deaf" else lambda *_: ended.set())
    if behaviour == "slow":
        time.sleep(1)
    server = grpc.server(futures.ThreadPoolExecutor(4))
    servicer = health.HealthServicer()
    if behaviour == "never":
        servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{quote(socket)}")
    server.start()
    ended.wait(60)
    server.stop(0).wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
