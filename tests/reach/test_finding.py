"""Nodes on one network find each other over IPv6 alone."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Final

import pytest

from tests import ROOT
from tests.reach.lab import MISSING, PLACES, built

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


PATIENCE_S: Final = 90.0  # Then they have not found each other, and their lines end.


def test_two_nodes_on_a_network_without_ipv4_find_each_other() -> None:
    with built("six") as lab:
        ends = (("six", PLACES["six"].outside6), ("internet", PLACES["six"].outside6[:-1] + "1"))
        nodes = [
            subprocess.Popen(
                [
                    *("ip", "netns", "exec", lab.space(space), sys.executable, "-m"),
                    *("tests.reach.finder", f"/ip6/{host}/tcp/0"),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
                text=True,
            )
            for space, host in ends
        ]
        late = threading.Timer(PATIENCE_S, _kill, [nodes])
        late.start()
        try:
            # First who it is, then whom it finds.
            peers = [_line(node) for node in nodes]
            assert [_line(node) for node in nodes] == peers[::-1]
        finally:
            late.cancel()
            for node in nodes:
                node.kill()
                node.communicate()


def _kill(nodes: list[subprocess.Popen[str]]) -> None:
    for node in nodes:
        node.kill()


def _line(node: subprocess.Popen[str]) -> str:
    assert node.stdout is not None
    return node.stdout.readline().strip()
