"""Whatever on the local network says that it is a router gets a bounded part of this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from contextlib import suppress

import pytest


def never_ends(listener: socket.socket, head: bytes) -> None:
    """Answer each question with more than anybody has memory for."""
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, suppress(OSError):
                connection.recv(4096)
                connection.sendall(head)
                while True:
                    connection.sendall(b"<" * 65_536)


@pytest.mark.skipif(sys.platform != "linux", reason="the bound on memory is Linux's")
@pytest.mark.parametrize("length", [b"", b"Content-Length: 2000000000\r\n"])
def test_a_router_that_never_ends_its_description_takes_no_gigabyte(length: bytes) -> None:
    """It took one within the ten seconds that the process has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        head = b"HTTP/1.1 200 OK\r\n" + length + b"\r\n"
        threading.Thread(target=never_ends, args=(listener, head), daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/router.xml"
        words = ("map", "7339", "60", "127.0.0.1", url)
        done = subprocess.run(
            [sys.executable, "-P", "-m", "swarmllm.adapters.upnp", *words],
            capture_output=True,
            timeout=60,
            check=False,
        )
    # Its own alarm would have ended it by a signal.
    assert done.returncode == 0, done.stderr
    assert "error" in json.loads(done.stdout)
