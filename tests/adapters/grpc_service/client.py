"""A client of `MeshLlm` as a stranger to this code makes one: generated from the definition."""

from __future__ import annotations

import importlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import grpc

from scripts.make_mesh_stubs import compiled

TIMEOUT_S: Final = 45.0


def _generated() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        compiled(Path(folder), with_client=True)
        sys.path.insert(0, folder)
        try:
            return SimpleNamespace(
                pb=importlib.import_module("mesh_llm_pb2"),
                grpc=importlib.import_module("mesh_llm_pb2_grpc"),
            )
        finally:
            sys.path.remove(folder)


CLIENT: Final = _generated()
pb: Final = CLIENT.pb


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Its stub, for one thread or several."""
    with grpc.insecure_channel(address) as channel:
        yield CLIENT.grpc.MeshLlmStub(channel)


def bearer(folder: Path) -> list[tuple[str, str]]:
    """The metadata with the token of the node on this data folder."""
    token = (folder / "grpc.token").read_text(encoding="ascii").strip()
    return [("authorization", f"Bearer {token}")]


def refused(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """The code and the sentence with which a call, or the stream that it gives, is refused."""
    try:
        got = call()
        if not hasattr(got, "DESCRIPTOR"):
            list(got)  # type: ignore[call-overload]
    except grpc.RpcError as error:
        return error.code(), str(error.details())
    raise AssertionError("it was not refused")
