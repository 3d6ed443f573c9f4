"""Ports for what tests start.

They lie below those that the kernel gives away by itself: nothing takes one between its choice and the
server's start, or while a server is down that starts again.
"""

import itertools
import os
import random
import socket
from collections.abc import Iterator
from functools import cache

_FIRST, _OF_EACH, _PROCESSES = 20_000, 400, 31  # Linux gives away 32768 to 60999 (ip_local_port_range)


def free_port() -> int:
    """One that no other test has: each process of tests has ports of its own."""
    for port in _ports():
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("the ports never end")


@cache
def _ports() -> Iterator[int]:
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PROCESSES
    ours = range(_FIRST + number * _OF_EACH, _FIRST + (number + 1) * _OF_EACH)
    begin = random.randrange(_OF_EACH)  # another run of the tests may be under way
    return itertools.cycle([*ours[begin:], *ours[:begin]])
