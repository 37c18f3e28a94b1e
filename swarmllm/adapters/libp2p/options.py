"""Network options: every limit and every deadline of the libp2p network in one place.

Deadlines are fields so that tests can shorten them; the defaults are the ones that
docs/libp2p-faults.md was measured with.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from swarmllm.core.peers.liveness import DIAL_S, PING_S, SILENT_S
from swarmllm.core.peers.relay_quota import RelayLimits
from swarmllm.core.peers.strikes import REFUSE_S, STRIKES_MAX
from swarmllm.messages import PeerId
from swarmllm.runtime.ports import Channel


@dataclass(frozen=True, slots=True)
class NetworkLimits:
    """Bounds, each per node unless it says per peer or per address."""

    # 60 kB for each end: 15 MB. A third of them is for those that we dial.
    connections_max: int = 256
    # A household or small office behind one NAT; more from one address is an attempt to crowd
    # others out.
    per_address_max: int = 16
    # Inbound, from one IPv4 /24 or IPv6 /64: an office, or whatever one party rents at a time.
    per_block_max: int = 32
    per_loopback_max: int = 512  # Many nodes on one machine are a test or a demo, not an attack.
    # Peers that dialled us and do not speak the expert protocol: DHT clients, monitors, what pings.
    guests_max: int = 8
    # Asking streams that a peer may open, in place of the one before; a burst of eight.
    asking_openings_per_s: float = 1.0
    # Inbound connections that still shake hands; a quarter of them for one block. A few kB each.
    half_open_max: int = 64
    # Addresses that are being dialled at once, those of the owner's peers not counted.
    dial_sockets_max: int = 128
    # Inbound, open at once: expert, gossip, and a Kademlia look-up's worth.
    streams_per_peer_max: int = 32
    # Of all connections together; the one that holds most gives way.
    unread_bytes_max: int = 64 << 20
    # Per connection, over all its streams: the windows of the four that last, twice over.
    unread_bytes_per_peer_max: int = 2 << 20
    # Concurrent dials; look-ups of a large DHT must not exhaust file descriptors.
    dials_max: int = 16
    # A peer lists its interfaces; more than this is somebody else's list of targets.
    addrs_per_dial_max: int = 8
    # Per peer and stream: a minute of strict-mode rounds for one session.
    queue_messages_max: int = 64
    queue_bytes_max: int = 4 << 20  # Per peer and stream: 16 frames of the largest size.
    # Inputs the consumer has not taken yet; beyond it the network stops reading its peers.
    inputs_max: int = 256
    # Per stream, divided equally among the peers: most of a core; above it we read more slowly.
    messages_per_s: float = 2_000.0
    bytes_per_s: float = 8 * (1 << 20)  # Likewise.
    # Halt frames per peer: twice the core's budget, beyond which we read more slowly.
    channel_frames_per_s: float = 16.0
    # Likewise; a full exchange after a partition is some tens of kB.
    channel_bytes_per_s: float = 256 * 1024
    # Halt streams that a peer may open; each begins an exchange.
    channel_openings_per_s: float = 0.5
    # Halt records per forwarding peer, in a budget of their own; beyond it they wait.
    gossip_control_per_s: float = 5.0
    # Per forwarding peer, beyond which we read more slowly; as on halt streams.
    gossip_bytes_per_s: float = 256 * 1024
    # Likewise: a record in each, what gossip says of itself, and as much again.
    gossip_frames_per_s: float = 40.0
    # Frames per forwarding peer in which gossip speaks of itself: one each second, and some when
    # peers come.
    gossip_per_s: float = 20.0
    strikes_max: int = STRIKES_MAX


@dataclass(frozen=True, slots=True)
class NetworkTiming:
    """Deadlines in seconds."""

    ping_every_s: float = PING_S
    # Without a byte on the expert streams, or with one write stuck for as long.
    dead_after_s: float = SILENT_S
    # For a peer that does not speak the expert protocol: long enough for a look-up, too short to
    # stay.
    guest_s: float = 60.0
    # From an open connection to the first answer on our expert stream.
    ready_within_s: float = 10.0
    frame_within_s: float = 5.0  # For the rest of a frame that has begun.
    handshake_within_s: float = 5.0  # From an accepted socket to a multiplexed connection.
    negotiate_within_s: float = 5.0  # For the name of the protocol on a new stream.
    call_within_s: float = 10.0  # For one whole DHT or identify exchange that a peer began.
    dial_within_s: float = DIAL_S  # From the order to a peer that answers.
    # For an old connection to prove that it lives when a second one to the same peer appears.
    probe_within_s: float = 3.0
    refuse_for_s: float = REFUSE_S
    # Until a halt stream that died is opened again; doubles up to the next.
    channel_retry_min_s: float = 0.2
    channel_retry_max_s: float = 30.0
    bootstrap_min_s: float = 0.5
    bootstrap_max_s: float = 60.0
    provide_every_s: float = 600.0
    look_up_within_s: float = 20.0
    close_within_s: float = 1.0  # For goodbyes, of the two seconds that closing may take.


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """`seed` is the private half of the identity: 32 bytes, Ed25519.

    `listen` holds TCP multiaddrs; port 0 is any free port. With `port_auto` a taken port gives way
    to the next free one. `announce` replaces what peers are told, for nodes behind a forwarded port
    or a proxy. `bootstrap` multiaddrs end in `/p2p/<peer>` and are dialled for ever; of
    those that are `invited` a stranger has written down the name, and what it stands for is judged
    like what strangers tell. `swarm` names
    DHT and LAN service, so that two swarms in one place stay apart. `channels` are the protocols
    beside the expert protocol that this node speaks, the kill switch's first; without any it has no
    part in gossip. With `port_mapping` the router is asked to forward the port. With `relay` it
    lends circuits to peers that nobody can dial; with `behind_nat` it is such a peer itself from
    the start.
    """

    seed: bytes = field(repr=False)
    channels: tuple[Channel, ...] = ()
    listen: tuple[str, ...] = ("/ip4/0.0.0.0/tcp/7339",)
    port_auto: bool = False
    announce: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    invited: tuple[str, ...] = ()
    lan: bool = True
    dht: bool = True
    swarm: str = "private"
    port_mapping: bool = False
    relay: bool = False
    behind_nat: bool = False
    relay_limits: RelayLimits = field(default_factory=RelayLimits)
    limits: NetworkLimits = field(default_factory=NetworkLimits)
    timing: NetworkTiming = field(default_factory=NetworkTiming)


@dataclass(frozen=True, slots=True)
class BootstrapStatus:
    """How one bootstrap address does: `error` is why the last attempt failed, empty while connected
    or before the first."""

    addr: str
    peer: PeerId
    connected: bool
    attempts: int
    error: str
