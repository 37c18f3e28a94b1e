"""The gRPC service of a node, for those who have the extra `grpc` installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio

from swarmllm.errors import MissingExtraError
from swarmllm.runtime.service.service import Service

PACKAGES = {
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "google": "protobuf",
}


async def serve(
    service: Service, folder: Path, port: int, *, task_status: Any = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve on loopback until cancelled; see `server.serve`. MissingExtraError without grpcio."""
    try:
        from swarmllm.adapters.grpc_service.server import serve as serve_grpc
    except ModuleNotFoundError as fault:
        package = PACKAGES.get((fault.name or "").split(".", maxsplit=1)[0])
        if package is None:
            raise
        raise MissingExtraError("the setting grpc_port", package, "grpc") from fault
    await serve_grpc(service, folder, port, task_status=task_status)
