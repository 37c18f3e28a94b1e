"""Agent strings of identify: this node's own, and the question for that of a peer that does not
speak our protocols.

Our own peers are never asked: their records say what they are. A foreign one is asked once, because
its name in the log is what tells the owner of a node, or the author of another implementation, who
it was that was hung up on.
"""

from __future__ import annotations

import logging
import re
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import trio
from libp2p.host.exceptions import StreamFailure
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.identity.identify.identify import parse_identify_response
from multiaddr import Multiaddr

from swarmllm.adapters.libp2p.addresses import parse_addr
from swarmllm.adapters.libp2p.lane import StreamEnded, read_some

log = logging.getLogger("swarmllm.net")

# Keys, addresses, protocols and a signed record are some 700 bytes.
ANSWER_BYTES_MAX: Final = 8_192
NAME_MAX: Final = 64
ASK_WITHIN_S: Final = 5.0
_ODD: Final = re.compile(r"[^A-Za-z0-9 ./_+()-]")


def own_agent() -> str:
    """`swarmllm/VERSION`, from the package's metadata."""
    try:
        return f"swarmllm/{version('swarmllm')}"
    except PackageNotFoundError:
        return "swarmllm/unpackaged"


def readable(agent: str) -> str:
    """A stranger's name for itself as the log may hold it: a few letters, no control characters."""
    return _ODD.sub("?", agent[:NAME_MAX])


async def ask_agent(host: Any, conn: Any) -> str:
    """What the peer calls itself in identify; empty if it does not say within `ASK_WITHIN_S`."""
    answer = await _identified(host, conn)
    return "" if answer is None else readable(answer.agent_version)


async def observed_by(host: Any, conn: Any) -> str:
    """The IP address from which the peer sees our connection come, as it says in identify; empty if
    it says none."""
    answer = await _identified(host, conn)
    if answer is None or not answer.observed_addr:
        return ""
    try:
        addr = parse_addr(str(Multiaddr(answer.observed_addr)))
    # The guard's purpose: a stranger's bytes in the library's parser.
    except Exception as error:  # noqa: BLE001
        log.debug("no observed address: %r", error)
        return ""
    return addr.host if addr.packed else ""


async def _identified(host: Any, conn: Any) -> Any:
    """Its whole answer; None if there is none that can be read."""
    answer = b""
    with trio.move_on_after(ASK_WITHIN_S):
        try:
            stream = await host.open_stream(conn, [IDENTIFY])
            while len(answer) < ANSWER_BYTES_MAX:
                answer += await read_some(stream, ANSWER_BYTES_MAX, float("inf"), ASK_WITHIN_S)
        except StreamEnded:
            pass  # The end of the answer.
        except StreamFailure as error:
            log.debug("%s", error)
    try:
        return parse_identify_response(answer)
    # The guard's purpose: a stranger's bytes in the library's parser.
    except Exception as error:  # noqa: BLE001
        log.debug("identify: %r", error)
        return None
