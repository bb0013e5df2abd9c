"""The clients of `scripts/vanish.py`: they come, ask, and are gone. Prints what they did as one JSON object.

vanish_load.py SOCKET ROOT CLIENTS AT_ONCE SEED
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from raw_grpc import RawCall
from sessiond.v1 import session_service_pb2 as pb

SERVICE = "/sessiond.v1.SessionService/"
KEYS = 8
"""Sessions are shared: who attaches finds what the one before left."""
LONGEST_S = 0.15
"""After which a client is gone at the latest."""
VICTIM = Path(__file__).with_name("vanish_victim.py")


@dataclass(frozen=True)
class Ask:
    """What a client is in the middle of when it vanishes."""

    method: str
    message: bytes


class Vanishing:
    """One client."""

    def __init__(self, socket: str, root: str, rng: random.Random) -> None:
        self._socket, self._root, self._rng = socket, root, rng

    def live(self) -> str:
        """Come, ask and vanish; how."""
        ask = self._ask()
        way = self._rng.choice((self._close, self._close, self._half, self._reset, self._deaf, self._kill))
        return way(ask, self._rng.random() * LONGEST_S)

    def _open(self) -> pb.OpenSessionRequest:
        key = f"key {self._rng.randrange(KEYS)}" if self._rng.random() < 0.8 else ""
        root = self._root if self._rng.random() < 0.4 else ""
        return pb.OpenSessionRequest(key=key, workspace_root=root)

    def _ask(self) -> Ask:
        request = self._open()
        if self._rng.random() < 0.15:
            return Ask("OpenSession", request.SerializeToString())
        name = self._opened(request)
        text = "".join(self._rng.choices("xyz ", k=self._rng.randrange(1, 1500)))
        match self._rng.randrange(6):
            case 0:
                prefix = pb.EnsurePrefixRequest(name=name)
                prefix.prefix.text = text
                return Ask("EnsurePrefix", prefix.SerializeToString())
            case 1:
                return Ask("WatchSession", pb.WatchSessionRequest(name=name).SerializeToString())
            case 2:
                return Ask("ForkSession", pb.ForkSessionRequest(name=name).SerializeToString())
            case 3:
                return Ask("CloseSession", pb.CloseSessionRequest(name=name).SerializeToString())
            case _:
                turn = pb.CompleteRequest(name=name)
                if request.workspace_root:
                    turn.prefix.workspace.SetInParent()
                else:
                    turn.prefix.text = text
                turn.suffix.text = "xyz"
                return Ask("Complete", turn.SerializeToString())

    def _opened(self, request: pb.OpenSessionRequest) -> str:
        with RawCall(self._socket, f"{SERVICE}OpenSession") as call:
            call.send(request.SerializeToString())
            for answer in call.answers():
                return pb.OpenSessionResponse.FromString(answer).session.name
        return "sessions/none"  # the daemon takes no more of them

    def _call(self, ask: Ask, window: int = 65_535) -> RawCall:
        return RawCall(self._socket, SERVICE + ask.method, window=window)

    def _close(self, ask: Ask, seconds: float) -> str:
        with self._call(ask) as call:
            call.send(ask.message)
            if self._rng.random() < 0.5:
                time.sleep(seconds)
            else:  # in the middle of an answer, if there is one
                list(islice(call.answers(), self._rng.randrange(1, 8)) if ask.method == "Complete" else ())
        return "closed in mid-call"

    def _half(self, ask: Ask, seconds: float) -> str:
        with self._call(ask) as call:
            call.send(ask.message, only=self._rng.randrange(len(ask.message) + 1))
            time.sleep(seconds)
        return "closed in mid-message"

    def _reset(self, ask: Ask, seconds: float) -> str:
        with self._call(ask) as call:
            call.send(ask.message)
            time.sleep(seconds)
            call.cancel()
        return "reset"

    def _deaf(self, ask: Ask, seconds: float) -> str:
        with self._call(ask, window=0) as call:
            call.send(ask.message)
            time.sleep(seconds)
        return "closed without having read"

    def _kill(self, ask: Ask, seconds: float) -> str:
        command = [sys.executable, "-I", "-S", str(VICTIM), self._socket, SERVICE + ask.method]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as victim:
            assert victim.stdin is not None and victim.stdout is not None
            victim.stdin.write(ask.message)
            victim.stdin.close()
            victim.stdout.readline()  # it has asked
            time.sleep(seconds)
            victim.kill()
        return "killed"


def main() -> int:
    """All clients, some of them at once."""
    socket, root, *numbers = sys.argv[1:]
    clients, at_once, seed = map(int, numbers)

    def live(number: int) -> str:
        return Vanishing(socket, root, random.Random(f"{seed} {number}")).live()

    with ThreadPoolExecutor(at_once) as pool:
        did = Counter(pool.map(live, range(clients)))
    sys.stdout.write(json.dumps(did))
    return 0


if __name__ == "__main__":
    sys.exit(main())
