"""What holds for every test: property tests never judge by the clock and in CI try the same
examples each time, the settings of whoever runs the tests are not theirs, and no test leaves a
socket open."""

from __future__ import annotations

import gc
import os
import stat
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

# For a thread that is about to close one: zeroconf says its goodbyes first.
CLOSING_S: Final = 30.0

# A slow example says that the machine is busy; `too_slow` would judge by the clock as well.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", parent=settings.get_profile("here"), derandomize=True, print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "here")

for _variable in [name for name in os.environ if name.startswith("SWARMLLM_")]:
    del os.environ[_variable]  # Before anything is imported or started that could read it.


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported and collected stays to the end: not to look through it again and again
    saves a third of the time that collecting takes, and a tenth of a second in each full
    collection of garbage afterwards."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def _no_socket_stays() -> Iterator[None]:
    """Left to the garbage collector, it would be found in another test, which has not opened it."""
    before = _sockets()
    yield
    patience = time.monotonic() + CLOSING_S
    while (left := _sockets() - before) and time.monotonic() < patience:
        time.sleep(0.01)
    assert not left, f"sockets that the test has left open: {len(left)}"


def _sockets() -> set[int]:
    """The inodes of this process's open sockets."""
    found = set()
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # The descriptor of that listing itself.
            status = os.fstat(int(name))
            if stat.S_ISSOCK(status.st_mode):
                found.add(status.st_ino)
    return found
