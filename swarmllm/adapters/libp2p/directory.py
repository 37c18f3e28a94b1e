"""The DHT: who might have an expert for this vocabulary, and where. It finds peers and decides
nothing.

Everything here happens in the background with a deadline, and a failure is a line in the log. What
comes back is hints: the address record of an expert counts only with the expert's own signature,
and whether it lives shows when it is dialled.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final

import trio
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from libp2p.kad_dht.common import ALPHA, BUCKET_SIZE
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.provider_store import ProviderRecord, ProviderStore
from libp2p.kad_dht.value_store import ValueStore
from libp2p.peer.peerinfo import PeerInfo
from libp2p.records.utils import InvalidRecordType
from libp2p.records.validator import NamespacedValidator, Validator

from swarmllm.adapters.libp2p.address_book import ADDRS_MAX, bounded
from swarmllm.adapters.libp2p.addresses import is_circuit, parse_addr, parse_circuit
from swarmllm.adapters.libp2p.dht_pace import Pace, Paced
from swarmllm.adapters.libp2p.host import Host
from swarmllm.adapters.libp2p.options import NetworkTiming
from swarmllm.adapters.libp2p.patches import DHT_VALUES_MAX
from swarmllm.core.capacity.table import unlisted
from swarmllm.core.peers.eviction import Block, block_of, hurried
from swarmllm.core.peers.provider_shares import Place, who_leaves
from swarmllm.errors import RemoteError
from swarmllm.messages import ExpertRecord, PeerId
from swarmllm.messages.capacity import EXPERT_RECORD_MAX
from swarmllm.wire.envelope import unseal

log = logging.getLogger("swarmllm.net")

NAMESPACE: Final = "swarmllm"
KEY_BYTES: Final = 32  # Vocabulary fingerprints; nothing else is provided here.
# Vocabularies that this node keeps providers of; the one heard of longest ago goes first.
KEYS_MAX: Final = 256
PROVIDE_WITHIN_S: Final = 30.0
ADD_DELAYS_S: Final = (0.2, 1.0, 5.0)
SETTLE_S: Final = 0.5  # After a new peer: several tend to come together.
PAUSE_S: Final = 5.0  # Between two rounds of providing, however many peers come.
LOOK_UPS_MAX: Final = 4  # At once; more for other vocabularies wait for nothing and are dropped.

ADDRS_READ_MAX: Final = 32  # Of which those of other transports are left out.

VALUES_MAX: Final = DHT_VALUES_MAX // 2  # Of other peers, put here by them.
ANSWERED_MAX: Final = 12  # Streams of others at once.

_CONNECTION: ContextVar[Any] = ContextVar("connection", default=None)
"""The muxed connection on which a DHT message came that is being answered."""

Found = Callable[[PeerId, tuple[str, ...]], None]


class _RecordValidator(Validator):  # type: ignore[misc]
    """`/swarmllm/<peer>` holds what that peer signed, and nothing else; the record of the latest
    start is the best."""

    def validate(self, key: str, value: bytes) -> None:
        _boot(key, value)

    def select(self, key: str, values: list[bytes]) -> int:
        return max(range(len(values)), key=lambda index: (_boot(key, values[index]), -index))


class _Provider(ProviderRecord):  # type: ignore[misc]
    """`block` is where it was when it first said so: whoever renews from elsewhere frees no place
    in the block that it came from."""

    def __init__(self, info: Any, block: Block | None) -> None:
        super().__init__(info)
        self.block = block


class _Providers(ProviderStore):  # type: ignore[misc]
    """Bounded in keys, and of each key's twenty providers those that came first and still say so
    stay (`core.peers.provider_shares`): the library keeps silent ones for two days.

    A peer provides for itself alone, on its own connection, and the share that it falls under is
    that of the connection's remote address: what it writes about itself is its own choice.
    """

    def __init__(self, host: Any, peer_routing: Any, is_loopback: Callable[[], bool]) -> None:
        super().__init__(host, peer_routing)
        self._is_loopback = is_loopback

    def add_provider(self, key: bytes, provider: Any) -> None:
        """Nothing for what is not a fingerprint, for hearsay, and where there is no place."""
        if len(key) != KEY_BYTES:
            return
        block = None
        if provider.peer_id != self.local_peer_id:
            conn = _CONNECTION.get()
            remote = (
                conn.get_remote_address()
                if conn is not None and conn.peer_id == provider.peer_id
                else None
            )
            if remote is None:
                return
            block = block_of(str(remote[0]))
        known = self.providers.pop(key, {})
        self.providers[key] = known  # Moved to the end: least recently heard of first.
        name = str(provider.peer_id)
        if name in known:
            block = known[name].block
        elif block is not None and not self._makes_room(known, block):
            return
        addrs = bounded([addr for addr in provider.addrs[:ADDRS_READ_MAX] if _is_usable(str(addr))])
        known[name] = _Provider(PeerInfo(provider.peer_id, addrs), block)
        for stale in [other for other in self.providers if other not in self.providing_keys][
            : max(0, len(self.providers) - KEYS_MAX)
        ]:
            del self.providers[stale]

    def _makes_room(self, known: dict[str, _Provider], block: Block) -> bool:
        # Our own place, which has no block, is none of theirs.
        held = {
            other: Place(one.block, one.timestamp)
            for other, one in known.items()
            if one.block is not None
        }
        now = time.time()
        is_taken, leaves = who_leaves(
            held, Place(block, now), BUCKET_SIZE - 1, now, is_loopback=self._is_loopback()
        )
        if is_taken:
            known.pop(leaves, None)
        return is_taken


class _Values(ValueStore):  # type: ignore[misc]
    """What others ask this node to keep: of each peer its own value, told on its own connection,
    and of one address block no more than its share. Otherwise one stranger with invented keys would
    push out everybody's, for the library forgets the oldest first.

    Half of the places are for what strangers put here; the rest is for our own value and for what
    our look-ups find.
    """

    def __init__(self, host: Any, local_peer_id: Any, is_loopback: Callable[[], bool]) -> None:
        super().__init__(host, local_peer_id)
        self._is_loopback = is_loopback
        self._places: dict[bytes, Place] = {}

    def put_record(self, key: bytes, record: Any) -> None:
        """ValueError, which ends the stream, for what a peer may not put here or has no place
        for."""
        conn = _CONNECTION.get()
        if conn is not None:
            self._take(key, conn)
        super().put_record(key, record)

    def _take(self, key: bytes, conn: Any) -> None:
        remote = conn.get_remote_address()
        if remote is None or key != _key_of(PeerId(conn.peer_id.to_base58())).encode():
            raise ValueError(f"{conn.peer_id} puts a value that is not its own")
        now = time.time()
        self._places = {one: place for one, place in self._places.items() if one in self.store}
        known = self._places.get(key)
        if known is None:
            held = {one.decode(): place for one, place in self._places.items()}
            newcomer = Place(block_of(str(remote[0])), now)
            is_taken, leaves = who_leaves(
                held, newcomer, VALUES_MAX, now, is_loopback=self._is_loopback()
            )
            if not is_taken:
                raise ValueError(f"no place for a value of {conn.peer_id}")
            if leaves:
                del self._places[leaves.encode()]
                self.remove(leaves.encode())
            known = newcomer
        self._places[key] = Place(known.block, now)


class _Dht(KadDHT):  # type: ignore[misc]
    """Tells the store of providers on which connection it is told, and shares out the streams that
    are answered at once.

    The library answers twelve and resets all others, so whoever holds twelve open and silent would
    be the only one that is heard. Here the oldest stream of whoever has most gives way, as at the
    front door (`core.peers.eviction.hurried`).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Those that give way are still there for a moment.
        self._inbound_limiter = trio.CapacityLimiter(4 * ANSWERED_MAX)
        self._pace = Pace()
        self._numbers = itertools.count()
        self._answered: dict[int, tuple[Block, trio.CancelScope]] = {}  # In order of age.

    async def handle_stream(self, stream: Any) -> None:
        conn = stream.muxed_conn
        remote = conn.get_remote_address()
        if remote is None:
            return
        # Every stream is answered in a task, and so in a context, of its own.
        _CONNECTION.set(conn)
        block = block_of(str(remote[0]))
        # Many nodes on one machine are a test or a demo: there each peer is counted for itself.
        if block.is_local:
            block = Block(str(conn.peer_id), str(conn.peer_id), is_local=True)
        waiting = {number: one for number, (one, _) in self._answered.items()}
        late = hurried(waiting, block, ANSWERED_MAX, ANSWERED_MAX // 3)
        if late is not None:
            self._answered.pop(late)[1].cancel()
        number = next(self._numbers)
        with trio.CancelScope() as scope:
            self._answered[number] = block, scope
            try:
                # A question that is not answered counts as well: its stream ends, and another one
                # begins.
                await trio.sleep(self._pace.wait_s(conn, trio.current_time()))
                await super().handle_stream(Paced(stream, self._pace))
            finally:
                self._answered.pop(number, None)


class Directory:
    """`dht` is a service to be run, and so is `run`. `found` is called for every provider;
    `is_loopback` tells whether this node is reached by loopback alone."""

    def __init__(
        self, host: Host, timing: NetworkTiming, found: Found, is_loopback: Callable[[], bool]
    ) -> None:
        self._us = PeerId(host.get_id().to_base58())
        self._timing, self._found = timing, found
        self.dht = _Dht(
            host,
            DHTMode.SERVER,
            validator=NamespacedValidator({NAMESPACE: _RecordValidator()}, strict_validation=True),
            validator_changed=True,
            strict_validation=True,
        )
        self.dht.provider_store = _Providers(host, self.dht.peer_routing, is_loopback)
        self.dht.value_store = _Values(host, host.get_id(), is_loopback)
        self._key = b""
        self._record = b""
        self._dirty = trio.Event()
        self._looking: set[bytes] = set()

    async def add(self, peer_id: Any) -> None:
        """A peer that we are connected to; the library's routing table does not learn of it by
        itself."""
        # Its addresses come with its first gossip frame, a moment after the connection; without
        # them it is not added.
        for delay_s in ADD_DELAYS_S:
            if await self.dht.add_peer(peer_id, skip_server_mode_check=True):
                break
            await trio.sleep(delay_s)
        if self._record and self.dht.get_routing_table_size() <= BUCKET_SIZE:
            # It belongs to the closest that there are, so it is to hold our record.
            self._dirty.set()

    def advertise(self, key: bytes, record: bytes) -> None:
        """Provide `key` with this record from now on; with an empty one, no more."""
        self._key, self._record = key, record
        if record:
            self._dirty.set()
        else:
            self._forget(key)

    def _forget(self, key: bytes) -> None:
        """Others keep what they have until it is old; from here nobody hears it any more."""
        store = self.dht.provider_store
        store.providing_keys.discard(key)
        store.providers.get(key, {}).pop(str(store.local_peer_id), None)
        self.dht.value_store.remove(_key_of(self._us).encode())

    async def run(self) -> None:
        """Provide what is advertised: at once, when new peers come, and every `provide_every_s`."""
        while True:
            with trio.move_on_after(self._timing.provide_every_s):
                await self._dirty.wait()
            await trio.sleep(SETTLE_S)
            self._dirty = trio.Event()
            if not self._record:
                continue
            try:
                with trio.move_on_after(PROVIDE_WITHIN_S):
                    await self.dht.provider_store.provide(self._key)
                    await self.dht.put_value(_key_of(self._us), self._record)
            # The guard's purpose: the DHT is a convenience, and its failures are not ours.
            except Exception as error:  # noqa: BLE001
                log.info("advertising in the DHT failed: %r", error)
            if not self._record:
                self._forget(self._key)  # Taken back while the network was being told.
            await trio.sleep(PAUSE_S)

    async def look_up(self, key: bytes) -> None:
        """Ask the closest peers who provides `key`; `found` is called for each that is not
        ourselves, in order of their ids."""
        if key in self._looking or len(self._looking) >= LOOK_UPS_MAX:
            return
        self._looking.add(key)
        try:
            with trio.move_on_after(self._timing.look_up_within_s):
                closest = await self.dht.peer_routing.find_closest_peers_network(key)
                # The library answers from its own store first, which then holds ourselves and
                # whoever told us: so ask, too.
                providers = {
                    one.peer_id: list(one.addrs)
                    for one in self.dht.provider_store.get_providers(key)
                }
                limiter = trio.CapacityLimiter(ALPHA)
                async with trio.open_nursery() as nursery:
                    for peer_id in closest:
                        nursery.start_soon(self._ask, peer_id, key, providers, limiter)
                for peer_id in sorted(providers, key=lambda one: one.to_bytes()):
                    await self._tell(peer_id, [str(addr) for addr in providers[peer_id]])
        # The guard's purpose: see `run`.
        except Exception as error:  # noqa: BLE001
            log.info("look-up in the DHT failed: %r", error)
        finally:
            self._looking.discard(key)

    async def _ask(
        self,
        peer_id: Any,
        key: bytes,
        providers: dict[Any, list[Any]],
        limiter: trio.CapacityLimiter,
    ) -> None:
        async with limiter:
            with trio.move_on_after(self._timing.call_within_s):
                found, _ = await self.dht.provider_store._get_providers_from_peer_with_closers(
                    peer_id, key
                )
                for one in found[:BUCKET_SIZE]:
                    providers.setdefault(one.peer_id, []).extend(one.addrs)

    async def _tell(self, peer_id: Any, hearsay: list[str]) -> None:
        """Addresses that the provider signed, if its record can be had; else what others say, which
        a dial will prove or not."""
        peer = PeerId(peer_id.to_base58())
        if peer == self._us:
            return
        addrs = hearsay
        with trio.move_on_after(self._timing.call_within_s):
            record = await self._latest_record(_key_of(peer))
            if record is not None:
                addrs = list(record.addrs)
        usable = tuple(addr for addr in dict.fromkeys(addrs) if _is_usable(addr))
        if usable:
            self._found(peer, usable[:ADDRS_MAX])

    async def _latest_record(self, key: str) -> ExpertRecord | None:
        """What the network holds. The library would answer from its own copy, however old, so that
        is put aside first."""
        store, name = self.dht.value_store, key.encode()
        copy = store.get(name)
        store.remove(name)
        value = await self.dht.get_value(key)
        records = [
            _record(key, data)
            for data in (value, copy.value if copy is not None else None)
            if data is not None
        ]
        best = max(records, key=lambda record: record.boot, default=None)
        if copy is not None and (value is None or best != records[0]):
            store.put_record(name, copy)
        return best


def _key_of(peer: PeerId) -> str:
    return f"/{NAMESPACE}/{peer}"


def _boot(key: str, value: bytes) -> int:
    return _record(key, value).boot


def _record(key: str, value: bytes) -> ExpertRecord:
    """InvalidRecordType, which is what the library understands, for a record that is malformed or
    not signed by the key's owner."""
    try:
        author, record = unseal(value, (ExpertRecord,), _verify, EXPERT_RECORD_MAX)
    except RemoteError as error:
        raise InvalidRecordType(str(error)) from error
    if wrong := unlisted((record.model,), record.addrs):
        raise InvalidRecordType(f"record of {author}: {wrong}")
    if key != _key_of(author):
        raise InvalidRecordType(f"record of {author} under {key[:80]}")
    return record


def _verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _is_usable(addr: str) -> bool:
    try:
        (parse_circuit if is_circuit(addr) else parse_addr)(addr)
    except RemoteError:
        return False
    return True
