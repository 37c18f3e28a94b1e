"""The lease is one shared memory page through which the node process allows the worker to go on
computing.

The node process writes "until when" ten times a second; a worker that reads a time in the past
stops, whatever happened to the process that should have written: killed, swapped out, or held up by
a hostile peer. A stop flag lies beside it. Both reach the middle of a running batch: llama.cpp asks
an abort callback between operations, and the callback is libc's `wcslen` over one wide character of
this page. It returns 0 while all four bytes are zero, so it is a C function that says "is any flag
set?" and never takes the interpreter's lock, which a Python callback would need hundreds of times
per batch.

Times are CLOCK_MONOTONIC in nanoseconds, which all processes of one boot share.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from typing import Final

# A halt must be effective within a second even if the node process is gone.
LEASE_S: Final = 0.5
RENEW_S: Final = 0.1  # Four renewals may be late before the worker stops.

PAGE: Final = mmap.PAGESIZE
_UNTIL: Final = 0  # u64: nanoseconds; written by the node process.
_BUSY: Final = 8  # u8: 1 while the worker computes or sends; written by the worker.
# Four bytes for wcslen, in a cache line of their own, then zeros that end the "string".
_FLAGS: Final = 64
_STOPPED: Final = _FLAGS  # Written by the node process only,
_LAPSED: Final = _FLAGS + 1  # and this by the worker only, so that neither can undo the other's.


class Lease:
    """The page. `create` in the node process, `attach` in the worker, with the file descriptor
    handed down."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._page = mmap.mmap(fd, PAGE)
        # One aligned 8-byte store: a reader sees the old time or the new one.
        self._until = ctypes.c_uint64.from_buffer(self._page, _UNTIL)

    @classmethod
    def create(cls) -> Lease:
        with tempfile.TemporaryFile() as file:
            file.truncate(PAGE)
            return cls(os.dup(file.fileno()))

    @classmethod
    def attach(cls, fd: int) -> Lease:
        return cls(fd)

    def close(self) -> None:
        del self._until
        self._page.close()
        os.close(self.fd)

    @property
    def abort_address(self) -> int:
        """Where llama.cpp's abort callback reads. Valid while this object lives."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._page, _FLAGS))

    # --- the node process ----------------------------------------------------------------------

    def renew(self, now_ns: int) -> None:
        self._until.value = now_ns + round(LEASE_S * 1e9)

    def stop(self) -> None:
        self._page[_STOPPED] = 1

    def resume(self) -> None:
        self._page[_STOPPED] = 0

    @property
    def busy(self) -> bool:
        return self._page[_BUSY] != 0

    # --- the worker -------------------------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        return self._page[_STOPPED] != 0

    def allows(self, now_ns: int) -> bool:
        """Whether a token may be computed or sent now."""
        return not self._page[_STOPPED] and now_ns < self._until.value

    def watch(self, now_ns: int) -> None:
        """Set or clear the flag that ends a running batch when the lease runs out."""
        self._page[_LAPSED] = 0 if now_ns < self._until.value else 1

    def set_busy(self, busy: bool) -> None:
        self._page[_BUSY] = 1 if busy else 0


def abort_function() -> int:
    """The address of a C function `bool (*)(void *)` that says whether a flag of the page is
    set."""
    found = ctypes.cast(ctypes.CDLL(None).wcslen, ctypes.c_void_p).value
    assert found is not None
    return found
