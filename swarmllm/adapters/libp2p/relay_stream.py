"""The circuit stream: a stream through a relay, in the place of a socket.

Handshake, muxer and everything above run on it as on TCP, so that the relay sees ciphertext and
each end proves its id to the other. Whoever opened it keeps `hold` running: it is the task that
ends the stream under a connection that is closed or aborted, for `abort` itself cannot wait.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from libp2p.abc import ConnectionType
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection

from swarmllm.messages import PeerId

READ_BYTES: Final = 65_536
# For what was written last, such as a goodbye, to go through the relay before the stream is reset.
LINGER_S: Final = 1.0


class CircuitStream(ReadWriteCloser):  # type: ignore[misc]
    """`remote` is the relay's host and port: where the peer itself is, nobody has proved."""

    def __init__(self, carried: Any, relay: PeerId, remote: tuple[str, int]) -> None:
        self._carried = carried
        self.relay = relay
        self._remote = remote
        self._gone = trio.Event()
        self._lingers = True
        self._scopes: set[trio.CancelScope] = set()

    def connection(self, initiator: bool) -> RawConnection:
        return RawConnection(self, initiator, ConnectionType.RELAYED)

    async def read(self, n: int | None = None) -> bytes:
        """At least one byte. ConnectionClosedError at the end, whoever ended it."""
        data: bytes = b""
        with self._until_gone() as scope:
            try:
                data = await self._carried.read(READ_BYTES if n is None else n)
            except (BaseLibp2pError, OSError, trio.ClosedResourceError) as error:
                raise self._closed() from error
            finally:
                self._scopes.discard(scope)
        if not data:
            raise self._closed()
        return data

    async def write(self, data: bytes) -> None:
        with self._until_gone() as scope:
            try:
                await self._carried.write(data)
            except (BaseLibp2pError, OSError, trio.ClosedResourceError) as error:
                raise self._closed() from error
            finally:
                self._scopes.discard(scope)
        if scope.cancelled_caught:
            raise self._closed()

    async def close(self) -> None:
        self._gone.set()
        for scope in list(self._scopes):
            scope.cancel()

    def abort(self) -> None:
        """At once; what was not sent yet is dropped."""
        self._lingers = False
        self._gone.set()
        for scope in list(self._scopes):
            scope.cancel()

    async def hold(self, reset: Callable[[Any], Awaitable[None]]) -> None:
        """Until the connection on it is over; then the stream ends, too, at last by a reset."""
        try:
            await self._gone.wait()
            if self._lingers:
                with trio.move_on_after(LINGER_S):
                    await self._end()
        finally:
            self.abort()
            await reset(self._carried)

    async def _end(self) -> None:
        """Say that nothing more comes, and wait until the other side says so, too."""
        try:
            await self._carried.close()
            while await self._carried.read(READ_BYTES):
                pass
        except (BaseLibp2pError, OSError, trio.ClosedResourceError, trio.BusyResourceError):
            return

    def get_remote_address(self) -> tuple[str, int]:
        return self._remote

    def _until_gone(self) -> trio.CancelScope:
        if self._gone.is_set():
            raise self._closed()
        scope = trio.CancelScope()
        self._scopes.add(scope)
        return scope

    def _closed(self) -> ConnectionClosedError:
        return ConnectionClosedError(f"the circuit through {self.relay} ended", transport="relay")
