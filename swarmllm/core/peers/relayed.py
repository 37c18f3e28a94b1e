"""Addresses through relays in capacity records.

Such an address spells two peer ids and is twice as long as a capacity record has room for. So the
record says it in two halves: the relay's own address stands among the others, and an addition
(`wire.ext.RELAYED`) says which one it is and what key the relay has. A reader who does not know the
addition dials the relay, finds somebody else there, and tries the next address.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from swarmllm.messages import RECORD_ADDR_MAX, RECORD_ADDRS_MAX, CapacityRecord, PeerId
from swarmllm.wire.ext import relayed, relayed_in
from swarmllm.wire.identity import peer_id_of, public_key_of
from swarmllm.wire.names import is_address

CIRCUIT: Final = "/p2p-circuit"
# As in `ExpertRecord`.
DHT_ADDRS_MAX: Final = 8
DHT_ADDR_MAX: Final = 128
DHT_RELAYS_MAX: Final = 3


def halves(own: PeerId, addrs: Sequence[str]) -> tuple[tuple[str, ...], bytes]:
    """What a capacity record says of these addresses of ours: the short ones without our peer id,
    which the envelope proves anyway and which would be half of the record, and the addition for the
    first that leads through a relay, empty where none does. The relay's comes last."""
    bare = dict.fromkeys(addr.removesuffix(f"/p2p/{own}") for addr in addrs)
    direct = [addr for addr in bare if CIRCUIT not in addr and _fits(addr)]
    for addr in bare:
        at, _, relay = addr.removesuffix(CIRCUIT).rpartition("/p2p/")
        if addr.endswith(CIRCUIT) and _fits(at):
            kept = tuple(direct[: RECORD_ADDRS_MAX - 1])
            return (*kept, at), relayed(len(kept), public_key_of(PeerId(relay)))
    return tuple(direct[:RECORD_ADDRS_MAX]), b""


def told_the_dht(own: PeerId, addrs: Sequence[str]) -> tuple[str, ...]:
    """What the DHT's record says of them: direct ones first, and room for those through relays,
    which stand there without our own peer id, or they would be too long."""
    through = [addr.removesuffix(f"/p2p/{own}") for addr in addrs if CIRCUIT in addr]
    direct = [addr for addr in addrs if CIRCUIT not in addr]
    kept = through[:DHT_RELAYS_MAX]
    found = (*direct[: DHT_ADDRS_MAX - len(kept)], *kept)
    return tuple(addr for addr in found if is_address(addr) and len(addr) <= DHT_ADDR_MAX)


def whole(record: CapacityRecord) -> tuple[str, ...]:
    """The addresses that a record gives, the one through a relay put together again. One that names
    no address of the record, or no key that could be a peer's, is as good as not said."""
    found = relayed_in(record.ext)
    if found is None or found[0] >= len(record.addrs):
        return record.addrs
    at, key = found
    relay = f"{record.addrs[at]}/p2p/{peer_id_of(key)}{CIRCUIT}"
    return (*record.addrs[:at], relay, *record.addrs[at + 1 :])


def _fits(addr: str) -> bool:
    return is_address(addr) and len(addr) <= RECORD_ADDR_MAX
