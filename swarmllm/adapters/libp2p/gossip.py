"""GossipSub v1.1 on the topic of halt records, with the library's switches that lose messages
turned off and bounds of our own instead.

Faults: 1 (an undecodable key or a raising validator stops the service), 6 (silent rate limits, a
heartbeat of two minutes), 9 (many tiny messages in one frame stall the loop). Beyond them: message
ids must not restart with the process, and a peer's registration follows the connection that we
settled on rather than any connection of the moment.

Records go first: in the queue to each peer they push out what gossip says of itself. What exceeds
their budget waits instead of being dropped. They prove themselves, so the same record is the same
message whoever published it, and one that the door does not want now is not held against the record
when it comes again.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import trio
from google.protobuf.message import DecodeError
from libp2p.exceptions import BaseLibp2pError, ParseError
from libp2p.host.exceptions import StreamFailure
from libp2p.io.exceptions import IncompleteReadError
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamError
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub, maybe_consume_signed_record
from libp2p.pubsub.pubsub_notifee import PubsubNotifee
from libp2p.pubsub.rpc_queue import RpcQueue
from libp2p.utils.varint import decode_uvarint, encode_varint_prefixed

from swarmllm.adapters.libp2p.host import Host, reset
from swarmllm.adapters.libp2p.lane import Bucket
from swarmllm.adapters.libp2p.options import NetworkLimits, NetworkOptions
from swarmllm.errors import RemoteError
from swarmllm.messages import PeerId

log = logging.getLogger("swarmllm.net")

# Fault 9. The longest records fit, and a dozen usual ones together.
RPC_BYTES_MAX: Final = 16 * 1024
# Of ours; the rest is for what the library puts round the messages.
RPC_SEND_MAX: Final = 12 * 1024
# Messages, subscriptions or control entries in one frame, each kind; what is beyond is not looked
# at.
RPC_ITEMS_MAX: Final = 64
# As long as other libraries make their frames. Those beyond `RPC_BYTES_MAX` are read past.
RPC_SKIPPED_MAX: Final = 1 << 20
# Before a stream that makes no sense is reset: opening the next at once would cost its peer
# nothing.
JUNK_PAUSE_S: Final = 1.0
# Own records that wait to be published; a newer one is worth more, so the oldest goes.
PUBLISH_QUEUE_MAX: Final = 32
DELIVERIES_MAX: Final = 1_000  # Timestamps that the library collects for a mode that is off.


class _Junk(Exception):
    """A frame after which the stream makes no sense, as its text says. What a frame may be, its
    sender's library decides and no document of ours: the stream ends, and nobody gets a strike."""


class _Router(GossipSub):  # type: ignore[misc]
    def __init__(self) -> None:
        self.sent_bytes = 0
        super().__init__(
            # Version 1.2 costs twice the processor time for small messages.
            protocols=[PROTOCOL_ID_V11],
            degree=6,
            degree_low=4,
            degree_high=12,
            gossip_window=5,
            gossip_history=10,
            heartbeat_initial_delay=0.1,
            heartbeat_interval=1,
            # Fault 6: drops everything above ten messages a second per forwarder; stretches the
            # heartbeat to a minute.
            spam_protection_enabled=False,
            adaptive_gossip_enabled=False,
            eclipse_protection_enabled=False,
        )

    def send_rpc(self, peer_id: Any, rpc: Any, priority: bool = False) -> None:
        """The library answers a request for many messages with one frame, however long; our peers
        would not look at all of it."""
        for part in parts_of(rpc):
            self._send_part(peer_id, part, priority)

    def _send_part(self, peer_id: Any, rpc: Any, priority: bool) -> None:
        self.sent_bytes += rpc.ByteSize()
        if rpc.publish:
            priority = True
            rpcs = self.pubsub.peer_queues.get(peer_id)
            if rpcs is not None and len(rpcs) >= rpcs._queue.max_size and rpcs._queue._non_priority:
                rpcs._queue._non_priority.popleft()  # A full queue would refuse this one.
        super().send_rpc(peer_id, rpc, priority)

    async def publish(self, msg_forwarder: Any, pubsub_msg: Any) -> None:
        await super().publish(msg_forwarder, pubsub_msg)
        for times in self.recent_message_deliveries.values():
            if len(times) > DELIVERIES_MAX:
                times.clear()


class _Budget:
    """What one forwarding peer may send."""

    def __init__(self, limits: NetworkLimits, now: float) -> None:
        self.frames = Bucket(limits.gossip_frames_per_s, 2.0, now)
        self.own = Bucket(limits.gossip_per_s, 2.0, now)  # In which gossip speaks of itself.
        self.records = Bucket(limits.gossip_control_per_s, 2.0, now)
        self.volume = Bucket(limits.gossip_bytes_per_s, 2.0, now)
        self.address_record = b""  # The last one; peers send the same with every frame.


class _Pubsub(Pubsub):  # type: ignore[misc]
    """`is_connected` says whether there is a settled connection to a peer."""

    def __init__(
        self, host: Host, options: NetworkOptions, is_connected: Callable[[Any], bool]
    ) -> None:
        router = _Router()
        self._records_max = {
            channel.topic: channel.record_max for channel in options.channels if channel.topic
        }
        super().__init__(
            host,
            router,
            strict_signing=True,
            msg_id_constructor=self._message_id,
            max_inbound_rpc_size=RPC_BYTES_MAX,
            max_subscriptions_per_rpc=RPC_ITEMS_MAX,
            max_subscriptions_per_peer=4 * len(self._records_max),
            allowed_topics=set(self._records_max),
        )
        self._is_connected = is_connected
        self._timing, self._limits = options.timing, options.limits
        # Of peers with a gossip stream; bounded by the connections.
        self._budgets: dict[Any, _Budget] = {}
        self.received_bytes = 0
        # The sequence number, too, starts where no earlier run of this node has been.
        self.counter: int = time.time_ns()
        network = host.get_network()
        for notifee in [one for one in network.notifees if isinstance(one, PubsubNotifee)]:
            network.remove_notifee(notifee)
        for protocol in router.get_protocols():
            host.set_stream_handler(protocol, self.stream_handler, lasting=True)

    def _peer_is_connected(self, peer_id: Any) -> bool:
        return self._is_connected(peer_id)

    async def _handle_new_peer(self, peer_id: Any) -> None:
        try:
            await super()._handle_new_peer(peer_id)
        except StreamFailure as error:
            # Which the library tries again, while it gives up on the other.
            raise SwarmException(str(error)) from error

    async def move(self, peer_id: Any) -> None:
        """A stream on the connection that is in use now takes the place of the one before; until it
        is open, and for what waits already, the one before is good. What the peer wants to hear
        stays known, for it says so once on each stream, and may have done so on its new one."""
        if peer_id not in self.peers:
            self._schedule_peer_stream_retry(peer_id)
            return
        try:
            stream = await self.host.new_stream(peer_id, self.protocols)
            await stream.write(encode_varint_prefixed(self.get_hello_packet().SerializeToString()))
        except (StreamFailure, SwarmException, StreamError) as error:
            log.debug("gossip with %s stays where it was: %s", peer_id, error)
            return
        before, queue = self.peer_queues.get(peer_id), RpcQueue()
        if before is None:  # It is gone since, or has come anew.
            await reset(stream)
            return
        self.peers[peer_id], self.peer_queues[peer_id] = stream, queue
        self.manager.run_task(self.handle_sending_messages, peer_id, stream, queue)
        before.close()

    async def handle_sending_messages(self, peer_id: Any, stream: Any, queue: Any) -> None:
        """As the library's, but that the end of a stream which has been replaced is nobody's."""
        while (rpc := await queue.pop()) is not None:
            try:
                await stream.write(encode_varint_prefixed(rpc.SerializeToString()))
            except (StreamError, BaseLibp2pError, OSError) as error:
                log.debug("gossip stream to %s ended: %r", peer_id, error)
                if self.peers.get(peer_id) is stream:
                    self._handle_dead_peer(peer_id)
                    return
                if (after := self.peer_queues.get(peer_id)) is not None:
                    after.push(rpc, priority=bool(rpc.publish))

    async def stream_handler(self, stream: Any) -> None:
        """Fault 1: junk ends the stream, an ending stream is nobody's fault, and only a record that
        breaks the rules of the kill switch is a strike (RemoteError)."""
        peer_id = stream.muxed_conn.peer_id
        try:
            while True:
                budget = self._budgets.setdefault(
                    peer_id, _Budget(self._limits, trio.current_time())
                )
                rpc, size = await self._read_rpc(stream, budget)
                now = trio.current_time()
                await trio.sleep(max(budget.volume.take(size, now), budget.frames.take(1, now)))
                await self._handle_rpc(peer_id, rpc, budget)
        except (StreamError, IncompleteReadError):
            log.debug("gossip stream of %s ended", peer_id)
        except (ParseError, DecodeError, _Junk) as error:
            log.info("reset a gossip stream of %s: %s", peer_id, error)
            await trio.sleep(JUNK_PAUSE_S)
            await reset(stream)

    async def _read_rpc(self, stream: Any, budget: _Budget) -> tuple[Any, int]:
        """The next frame that is not too long, and its size. Its first byte may come at any time,
        the rest within `frame_within_s`."""
        while True:
            prefix = bytearray(await self._read(stream, 1))
            with trio.move_on_after(self._timing.frame_within_s):
                while prefix[-1] & 0x80:
                    if len(prefix) > 3:
                        raise _Junk("length of more than four bytes")
                    prefix += await self._read(stream, 1)
                size = decode_uvarint(bytes(prefix))
                if size <= RPC_BYTES_MAX:
                    body = bytearray()
                    while len(body) < size:
                        body += await self._read(stream, size - len(body))
                    rpc = rpc_pb2.RPC()
                    self.received_bytes += size
                    rpc.ParseFromString(bytes(body))
                    return rpc, size
                if size <= RPC_SKIPPED_MAX:
                    await self._skip(stream, size, budget)
                    continue
                raise _Junk(f"frame of {size} bytes")
            raise _Junk(f"frame not finished within {self._timing.frame_within_s:g} s")

    async def _skip(self, stream: Any, size: int, budget: _Budget) -> None:
        """Read past a frame that is too long for us, as slowly as if it counted."""
        while size:
            chunk = await self._read(stream, min(size, RPC_BYTES_MAX))
            size -= len(chunk)
            self.received_bytes += len(chunk)
            await trio.sleep(budget.volume.take(len(chunk), trio.current_time()))

    async def _read(self, stream: Any, count: int) -> bytes:
        data: bytes = await stream.read(count)
        if not data:
            raise IncompleteReadError("gossip stream closed")
        return data

    async def _handle_rpc(self, peer_id: Any, rpc: Any, budget: _Budget) -> None:
        sent = rpc.control
        kinds = (sent.ihave, sent.iwant, sent.graft, sent.prune, sent.idontwant)
        for kind in (rpc.publish, rpc.subscriptions, *kinds):
            del kind[RPC_ITEMS_MAX:]
        if rpc.senderRecord != budget.address_record:
            budget.address_record = rpc.senderRecord
            if not maybe_consume_signed_record(rpc, self.host, peer_id):
                # The library's word, so no strike.
                log.debug("address record of %s left out", peer_id)
        for message in rpc.publish:
            if not self._is_subscribed_to_msg(message):
                continue
            most = max((self._records_max.get(topic, 0) for topic in message.topicIDs), default=0)
            if len(message.data) > most:
                raise RemoteError(f"record of {len(message.data)} bytes by gossip exceeds {most}")
            await trio.sleep(budget.records.take(1, trio.current_time()))
            await self.push_msg(peer_id, message)  # Here, not in a task of its own (fault 9).
            await trio.lowlevel.checkpoint()  # A frame holds many, and others have work, too.
        for entry in rpc.subscriptions:
            self.handle_subscription(peer_id, entry)
        if rpc.HasField("control") and budget.own.try_take(1, trio.current_time()):
            await self.router.handle_rpc(rpc, peer_id)

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        """A record proves itself, so the door looks at it first: what it knows already, which is
        most, costs no check of the signature that the library puts on every copy. Whoever spoilt
        that one has only kept the record from being passed on."""
        try:
            if self._is_msg_seen(msg) or not all(
                one.validator(msg_forwarder, msg) for one in self.get_msg_validators(msg)
            ):
                return
            await super().push_msg(msg_forwarder, msg)
        # The guard's purpose (fault 1): a message that makes the library raise is dropped.
        except Exception as error:  # noqa: BLE001
            log.debug("gossip message from %s dropped: %r", msg_forwarder, error)

    def notify_subscriptions(self, publish_message: Any) -> None:
        """Nobody reads the library's queue of 32 that drops what is too much: the validator has
        acted already."""

    async def validate_msg(self, msg_forwarder: Any, msg: Any) -> None:
        """Done in `push_msg`. The library would remember for five minutes what was refused, and a
        record that the door knows, or cannot judge yet, may be wanted later."""

    def _message_id(self, message: Any) -> bytes:
        """Of what was said, not by whom: and ids from sequence numbers collide after a restart."""
        return hashlib.sha256(
            b"|".join(("|".join(message.topicIDs).encode(), message.data))
        ).digest()

    def _handle_dead_peer(self, peer_id: Any) -> None:
        super()._handle_dead_peer(peer_id)
        if not self._is_connected(peer_id):
            self._budgets.pop(peer_id, None)


class Gossip:
    """`services` are to be run; then `join`. Records go through `publish`, peers come and go
    through `add` and `drop`."""

    def __init__(
        self, host: Host, options: NetworkOptions, is_connected: Callable[[Any], bool]
    ) -> None:
        self._channels = {channel.topic: channel for channel in options.channels if channel.topic}
        self._topics = {channel.name: channel.topic for channel in options.channels}
        self._pubsub = _Pubsub(host, options, is_connected)
        self._us = host.get_id()
        for topic in self._channels:
            # Synchronous: one that times out or fails once is held against the message for five
            # minutes, whoever sends it.
            self._pubsub.set_topic_validator(topic, self._check, is_async_validator=False)
        self.services = (self._pubsub, self._pubsub.router)
        self._queue: deque[tuple[str, bytes]] = deque(maxlen=PUBLISH_QUEUE_MAX)
        self._more = trio.Event()

    @property
    def volume(self) -> tuple[int, int]:
        """Bytes of frames that were sent and received so far."""
        return self._pubsub.router.sent_bytes, self._pubsub.received_bytes

    async def join(self) -> None:
        for topic in self._channels:
            await self._pubsub.subscribe(topic)

    def close(self) -> None:
        """The library's cache of seen messages keeps a thread."""
        self._pubsub.seen_messages.stop()

    def add(self, peer_id: Any) -> None:
        self._pubsub._schedule_peer_stream_retry(peer_id)

    def move(self, peer_id: Any) -> None:
        """Another connection to this peer takes the place of the one before: from now on we send
        there."""
        if self._pubsub.manager.is_running:
            self._pubsub.manager.run_task(self._pubsub.move, peer_id)

    def drop(self, peer_id: Any) -> None:
        self._pubsub._handle_dead_peer(peer_id)

    def publish(self, channel: str, record: bytes) -> None:
        topic = self._topics[channel]
        assert len(record) <= self._channels[topic].record_max, (
            f"record of {len(record)} bytes on {channel}"
        )
        self._queue.append((topic, record))
        self._more.set()

    async def run(self) -> None:
        while True:
            while self._queue:
                await self._pubsub.publish(*self._queue.popleft())
            self._more = trio.Event()
            await self._more.wait()

    def _check(self, forwarder: Any, message: Any) -> bool:
        if forwarder == self._us:
            return True
        channels = [self._channels.get(topic) for topic in message.topicIDs]
        if len(channels) != 1 or channels[0] is None:
            return False
        return channels[0].door.heard(PeerId(forwarder.to_base58()), bytes(message.data))


def parts_of(rpc: Any) -> list[Any]:
    """The frame itself if it keeps to the bounds, else several whose messages are the same ones in
    the same order."""
    if rpc.ByteSize() <= RPC_SEND_MAX and len(rpc.publish) <= RPC_ITEMS_MAX:
        return [rpc]
    rest = rpc_pb2.RPC()
    rest.CopyFrom(rpc)
    rest.ClearField("publish")
    parts = [rest] if rest.ByteSize() else []
    current = rpc_pb2.RPC()
    for message in rpc.publish:
        is_full = (
            current.ByteSize() + message.ByteSize() > RPC_SEND_MAX
            or len(current.publish) == RPC_ITEMS_MAX
        )
        if current.publish and is_full:
            parts.append(current)
            current = rpc_pb2.RPC()
        current.publish.add().CopyFrom(message)
    return [*parts, current] if current.publish else parts
