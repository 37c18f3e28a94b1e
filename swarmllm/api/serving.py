"""The HTTP server of a node: Hypercorn's protocols under trio, over sockets that are bound at the
start.

Starlette, Hypercorn and pydantic are loaded, in a thread, when the first connection comes: a node
that nobody asks over HTTP spends nothing on it. A client that reads nothing for `SEND_S` is given
up; no connection can hold up the end of the node.
"""

from __future__ import annotations

import ipaddress
import math
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import trio

from swarmllm.adapters.atomic_file import read_bounded, replace_whole
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.service.service import Client

if TYPE_CHECKING:
    from hypercorn.trio.tcp_server import TCPServer

DEFAULT_PORT: Final = 7337  # Nobody chose it, so the next free one is as good.
PORTS_TRIED: Final = 200
CONNECTIONS_MAX: Final = 256
SEND_S: Final = 30.0
IDLE_S: Final = 75.0  # Between requests, and for the head of the first one.
HEAD_BYTES_MAX: Final = 32 << 10
TOKEN_FILE: Final = "api-token"
TOKEN_BYTES_MAX: Final = 256


@dataclass(frozen=True, slots=True)
class Options:
    """`keys` as `runtime.config.readers.hashed_key` keeps them. `token_file`: where the token for
    state changes is kept, in the data folder, in which voters' keys may lie as well."""

    host: str
    port: int
    keys: tuple[str, ...]
    origins: tuple[str, ...]
    hosts: tuple[str, ...]
    token_file: Path

    def check(self) -> None:
        """UsageError for an API that others could reach without a key."""
        if not ipaddress.ip_address(self.host).is_loopback and not self.keys:
            raise UsageError(
                f"--api-host {self.host} lets other machines use this node, so it needs --api-key"
                " (or SWARMLLM_API_KEYS, which the list of processes does not show); give one, or"
                " leave --api-host out"
            )


@asynccontextmanager
async def serving(
    client: Client, options: Options, loaded: Callable[[], None] = lambda: None
) -> AsyncIterator[str]:
    """The API for as long as the block lasts; gives its address, `http://127.0.0.1:7337`. `loaded`
    is called once, when all that it needs is there. UsageError, LocalError if it cannot be."""
    options.check()
    token = await trio.to_thread.run_sync(_token, options.token_file)
    listener = await _listen(options.host, options.port)
    port = listener.socket.getsockname()[1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    server = _Server(client, options, token, loaded)
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, server.attend, [listener])
        nursery.start_soon(server.give_up)
        try:
            yield f"http://{host}:{port}"
        finally:
            server.abort()
            nursery.cancel_scope.cancel()


async def _listen(host: str, port: int) -> trio.SocketListener:
    """The next free port where nobody chose one."""
    ports = range(port, port + (PORTS_TRIED if port == DEFAULT_PORT else 1))
    error: OSError | None = None
    for one in ports:
        try:
            [listener] = await trio.open_tcp_listeners(one, host=host)
            return listener
        except OSError as found:
            error = found
    raise LocalError(
        f"the HTTP API cannot listen on {host} port {port} ({error}); choose another --api-port, or"
        " --no-api"
    )


def _token(path: Path) -> str:
    """That of the file, which is made if it is not there. For its owner's eyes alone. LocalError if
    it cannot be made or read, or is none."""
    if not path.exists():
        replace_whole(path, f"{secrets.token_urlsafe(32)}\n".encode(), "the API's token", 0o600)
    data = read_bounded(path, TOKEN_BYTES_MAX, "the API's token", is_secret=True)
    token = data.decode("ascii", "replace").strip()
    if not token or not token.isascii():
        raise LocalError(f"the API's token {path} is no token; delete it, and a new one is made")
    return token


class _Server:
    def __init__(
        self, client: Client, options: Options, token: str, loaded: Callable[[], None]
    ) -> None:
        self._client = client
        self._options = options
        self._token = token
        self._tell_loaded = loaded
        self._loading = trio.Lock()
        self._loaded: _Loaded | None = None
        self._connections: set[_Connection] = set()

    async def attend(self, stream: trio.SocketStream) -> None:
        if len(self._connections) >= CONNECTIONS_MAX:
            await stream.aclose()
            return
        connection = _Connection(stream)
        self._connections.add(connection)
        try:
            async with stream:
                loaded = await self._load()
                await loaded.server(connection)
        finally:
            self._connections.discard(connection)

    async def _load(self) -> _Loaded:
        async with self._loading:
            if self._loaded is None:
                self._loaded = await trio.to_thread.run_sync(
                    _Loaded, self._client, self._options, self._token
                )
                self._tell_loaded()
        return self._loaded

    async def give_up(self) -> None:
        """Closes the connections of clients that read nothing. One task looks at all of them: a
        timer for each token that is sent would cost as much as sending it."""
        while True:
            await trio.sleep(SEND_S / 10)
            too_early = trio.current_time() - SEND_S
            for connection in self._connections:
                if connection.sends_since < too_early:
                    connection.socket.close()

    def abort(self) -> None:
        """Also for who is in the middle of sending to a client that does not read."""
        for connection in self._connections:
            connection.socket.close()


class _Loaded:
    """The application and what Hypercorn needs for each connection."""

    def __init__(self, client: Client, options: Options, token: str) -> None:
        from hypercorn.app_wrappers import ASGIWrapper
        from hypercorn.config import Config
        from hypercorn.trio.worker_context import WorkerContext

        from swarmllm.api.guard import Guard
        from swarmllm.api.metrics import Counting
        from swarmllm.api.routes import api
        from swarmllm.api.voting import KEY_FOLDER

        guard = Guard(
            frozenset(options.keys), frozenset(options.hosts), frozenset(options.origins), token
        )
        app = api(client, guard, key_folder=options.token_file.parent / KEY_FOLDER)
        self._app = ASGIWrapper(Counting(app))  # type: ignore[arg-type]
        self._config = Config()
        self._config.errorlog = self._config.accesslog = None
        self._config.include_server_header = False
        self._config.keep_alive_timeout = IDLE_S
        self._config.h11_max_incomplete_size = HEAD_BYTES_MAX
        self._config.websocket_max_message_size = 1
        self._context = WorkerContext(None)

    def server(self, connection: _Connection) -> TCPServer:
        from hypercorn.trio.tcp_server import TCPServer
        from hypercorn.typing import ConnectionState

        stream: Any = connection
        return TCPServer(self._app, self._config, self._context, ConnectionState({}), stream)


class _Connection:
    """A stream that is closed if it takes longer than `SEND_S` to send. Hypercorn shields its own
    from cancellation, so that without this a client that does not read would keep its task for
    ever."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket
        self.sends_since = math.inf

    async def send_all(self, data: bytes) -> None:
        self.sends_since = trio.current_time()
        try:
            await self._stream.send_all(data)
        finally:
            self.sends_since = math.inf

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()
