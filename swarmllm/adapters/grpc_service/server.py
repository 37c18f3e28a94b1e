"""The gRPC server of a node: grpcio's threads on loopback, with reflection and health.

It opens before the model is loaded (health says NOT_SERVING until the node has started) and closes
with the node: health first, then every open call, with UNAVAILABLE. It is on loopback only, without
encryption; what changes something needs a token (`token_file`) or a signature.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
import trio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from swarmllm.adapters.grpc_service.bridge import Bridge
from swarmllm.adapters.grpc_service.servicer import (
    HALTS_WAITING_MAX,
    SERVICE,
    STREAMS_MAX,
    Servicer,
)
from swarmllm.adapters.grpc_service.token_file import token_in
from swarmllm.errors import LocalError
from swarmllm.runtime.service.service import Service

HOST: Final = "127.0.0.1"
THREADS: Final = HALTS_WAITING_MAX + STREAMS_MAX + 8  # One call each; some are always free.
CALLS_MAX: Final = 256  # At once, those that wait for a thread included.
REQUEST_BYTES_MAX: Final = 640 * 1024  # 128 halt records of 4 KiB, and what is around them.
METADATA_BYTES_MAX: Final = 8 * 1024
CLOSE_S: Final = 1.0  # A call that has not ended by then is dropped.
OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.so_reuseport", 0),  # Or two nodes would share a port, each with half of the calls.
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.max_concurrent_streams", CALLS_MAX),  # On each connection.
    ("grpc.enable_http_proxy", 0),
)
SERVING: Final = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING


async def serve(
    service: Service, folder: Path, port: int, *, task_status: Any = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until cancelled; `started` is called with the address. `port` 0: any free one.
    LocalError if the port is taken or the token cannot be written."""
    with token_in(folder) as token:
        async with trio.open_nursery() as nursery:
            bridge = Bridge(service, nursery)
            pool = ThreadPoolExecutor(THREADS, thread_name_prefix="grpc")
            server, healthy, address = _server(Servicer(bridge, token), port, pool)
            try:
                server.start()
                task_status.started(address)
                await service.wait_started()
                for name in ("", SERVICE.full_name):
                    healthy.set(name, SERVING)
                await trio.sleep_forever()
            finally:
                healthy.enter_graceful_shutdown()
                bridge.close()
                stopped = server.stop(CLOSE_S)
                with trio.CancelScope(shield=True):
                    # The calls that were cut off need the loop no more, and some milliseconds.
                    await trio.to_thread.run_sync(stopped.wait, 2 * CLOSE_S)
                pool.shutdown(wait=False, cancel_futures=True)


def _server(
    servicer: Servicer, port: int, pool: ThreadPoolExecutor
) -> tuple[grpc.Server, health.HealthServicer, str]:
    server = grpc.server(pool, options=OPTIONS, maximum_concurrent_rpcs=CALLS_MAX)
    healthy = health.HealthServicer(experimental_non_blocking=True, experimental_thread_pool=pool)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    for name in ("", SERVICE.full_name):
        healthy.set(name, NOT_SERVING)
    server.add_generic_rpc_handlers((servicer.handler(),))
    names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server)
    try:
        bound = server.add_insecure_port(f"{HOST}:{port}")
    except RuntimeError as fault:
        raise LocalError(
            f"the port {port} of {HOST} cannot be listened on (grpc_port={port});"
            " is it taken? choose another one, or 0 for any free one"
        ) from fault
    return server, healthy, f"{HOST}:{bound}"
