"""The laboratory is what it says: who gets through to whom, by plain sockets."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Final

import pytest

from tests.reach.lab import MISSING, PLACES, Lab, built

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

# A server that says to each caller from where it sees it come, until its input closes.
SERVER: Final = """
import socket, sys, threading
s = socket.create_server(("::", 7339), family=socket.AF_INET6, dualstack_ipv6=True)
def serve():
    while True:
        c, who = s.accept()
        c.sendall(f"{who[0].removeprefix('::ffff:')} {who[1]}".encode()); c.close()
threading.Thread(target=serve, daemon=True).start()
print("up", flush=True); sys.stdin.read()
"""
CALLER: Final = """
import socket, sys
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
s.settimeout(1.8); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if len(sys.argv) > 2: s.bind(("", int(sys.argv[2])))
s.connect((sys.argv[1], 7339)); print(s.recv(99).decode())
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with built() as made:
        servers = []
        for host in ("relay", "spare", "home-a", "six"):
            command = ["ip", "netns", "exec", made.space(host), "python3", "-c", SERVER]
            servers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        for server in servers:
            assert server.stdout is not None
            assert server.stdout.readline() == b"up\n"
        yield made
        for server in servers:
            server.communicate(b"")


def call(lab: Lab, host: str, target: str, *port: str) -> list[str]:
    return lab.run(host, "python3", "-c", CALLER, target, *port).split()


def test_a_home_is_seen_at_its_routers_address_with_its_own_port(lab: Lab) -> None:
    for target in ("11.1.0.2", "11.2.0.2"):
        assert call(lab, "home-a", target, "7400") == [PLACES["home-a"].outside4, "7400"]


def test_an_office_is_seen_with_another_port_by_everybody(lab: Lab) -> None:
    seen = [call(lab, "office", target, "7400") for target in ("11.1.0.2", "11.2.0.2")]
    assert {host for host, _ in seen} == {PLACES["office"].outside4}
    assert len({port for _, port in seen} | {"7400"}) == 3


def test_nobody_gets_in_at_a_home_until_its_owner_forwards_the_port(lab: Lab) -> None:
    with pytest.raises(AssertionError, match=r"timed out|refused"):
        call(lab, "relay", PLACES["home-a"].outside4)
    lab.forward("home-a")
    assert call(lab, "relay", PLACES["home-a"].outside4)[0] == PLACES["relay"].outside4


def test_the_host_on_ipv6_reaches_ipv6_alone(lab: Lab) -> None:
    assert call(lab, "six", PLACES["relay"].outside6)[0] == PLACES["six"].outside6
    with pytest.raises(AssertionError, match="unreachable"):
        call(lab, "six", "11.1.0.2")


def test_a_laboratory_leaves_nothing_behind() -> None:
    with built("relay") as made:
        assert made.prefix in subprocess.check_output(["ip", "netns", "list"], text=True)
    assert made.prefix not in subprocess.check_output(["ip", "netns", "list"], text=True)
