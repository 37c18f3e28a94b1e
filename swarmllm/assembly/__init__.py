"""The composition root: the one place that knows every part, puts them together in order, and takes
them apart again.

Everything local comes first (folder, key, store, vocabulary, engine), so that a mistake shows
before anybody hears of us; the local socket opens before the model is loaded, and the network
waits for nobody. Apart goes the other way round: stop serving, say goodbye, close, all within two
seconds whatever peers do.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import trio

from swarmllm.adapters import grpc_service
from swarmllm.adapters.datadir import DataDir, default_folders, locked
from swarmllm.adapters.grammar.grammars import Grammars
from swarmllm.adapters.halt_folder import HaltFolder
from swarmllm.adapters.keyfile import KeyFile, load_or_create_key
from swarmllm.adapters.ledger import part_of, performer_of
from swarmllm.adapters.libp2p import NetworkOptions, open_network
from swarmllm.adapters.llama.llama_text import LlamaText
from swarmllm.adapters.store import SqliteStore
from swarmllm.adapters.terms_file import read_terms_file, terms_path
from swarmllm.adapters.validation_process import ValidationProcess
from swarmllm.assembly.agent import NodeAgent, unix_ms
from swarmllm.assembly.expert import NodeExpert, settle, with_choice
from swarmllm.assembly.invite import Accepted, accepted
from swarmllm.assembly.lending import lending_of, look_of
from swarmllm.assembly.membership import members_of
from swarmllm.assembly.model import Parts as Parts
from swarmllm.assembly.model import SendFrame, TextSwarm, digests_of, open_model, perform_text
from swarmllm.assembly.watching import watching
from swarmllm.core.effects import AgentEffect, TokenizerEffect
from swarmllm.core.governance.machine import GovernanceMachine
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.inputs import AddressesFound, OwnerOffers, OwnerStops, RecordOffered
from swarmllm.core.ledger.part import LedgerView
from swarmllm.core.metrics.observer import Observer
from swarmllm.core.node import Node, NodeConfig
from swarmllm.core.part import Part
from swarmllm.core.peers.dialling import load_saved
from swarmllm.core.peers.reachability import Reachability
from swarmllm.core.peers.saving import SAVED_PEERS
from swarmllm.core.settings.holder import Settings
from swarmllm.core.tokenizers.exchange import TokenizerExchange
from swarmllm.core.trust.reputation import Terms
from swarmllm.core.validation.part import RecordingPart
from swarmllm.errors import LocalError
from swarmllm.messages import PeerId
from swarmllm.messages.declare import GOV, LEDGER, MEMBER, TOKENIZER
from swarmllm.runtime import logs
from swarmllm.runtime.agent.own_figures import OwnFigures
from swarmllm.runtime.booting import boot
from swarmllm.runtime.config import Config
from swarmllm.runtime.config.reading import load_config
from swarmllm.runtime.config.table import NO_PORT, pinned
from swarmllm.runtime.driver import Driver, Watch
from swarmllm.runtime.governing import governance_part
from swarmllm.runtime.halt_performer import HaltPerformer
from swarmllm.runtime.handing_in import HandingIn
from swarmllm.runtime.learned_text import LearnedText
from swarmllm.runtime.ledger_performer import LedgerPerformer
from swarmllm.runtime.lending import Look, lend
from swarmllm.runtime.local_api.server import serve
from swarmllm.runtime.ports import (
    Engine,
    Network,
    Text,
    Traffic,
    governance_channel,
    halt_channel,
    ledger_channel,
    member_channel,
    tokenizer_channel,
)
from swarmllm.runtime.sealing import sealing_with
from swarmllm.runtime.service.governance import GovernanceService
from swarmllm.runtime.service.halts import HaltService
from swarmllm.runtime.service.inviting import InviteService
from swarmllm.runtime.service.json_events import (
    Listening,
    Ready,
    ServiceOpened,
    Starting,
    Stopped,
    Stopping,
    Warned,
)
from swarmllm.runtime.service.ledgers import LedgerService
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.runtime.service.request import TextRequest, usual_request
from swarmllm.runtime.service.service import Service
from swarmllm.runtime.service.validation import ValidationService
from swarmllm.runtime.suspend_detector import SuspendDetector
from swarmllm.runtime.trusting import track_records_of, trust_of
from swarmllm.wire.identity import swarm_hash

# Of the two seconds that closing may take: for the ends of answers to reach the experts.
FAREWELL_S: Final = 0.5
DEFAULT_PORT: Final = 7339  # Nobody chose it, so the next free one is as good.
NETWORK_MODULE: Final = "swarmllm.adapters.libp2p.network"
LOG_FILE: Final = "node.log"
LEDGER_FILE: Final = "ledger.sqlite"
STOP_FILE: Final = "STOP"
# One look costs some microseconds, and a stop within a second is the promise.
STOP_FILE_EVERY_S: Final = 0.2

Opened = tuple[
    Network,
    Callable[[], tuple[str, ...]],
    Callable[[], Traffic],
    Callable[[], Reachability | None],
]
"""The network, what tells its troubles in sentences, what it counts, and how this node is reached
(None: it does not say)."""


def configure(**settings: object) -> Config:
    """The settings of this user and machine, with `settings` before all others. UsageError for a
    value that makes no sense."""
    return load_config(settings, os.environ, default_folders())


@asynccontextmanager
async def open_node(
    config: Config, *, tell: SendFrame = lambda _: None, parts: Parts | None = None
) -> AsyncIterator[LocalNode]:
    """A running node, for as long as the block lasts.

    `tell` hears of the node's life, from `Starting` to `Stopped`; it is called within the event
    loop and must not wait. LocalError or UsageError, one sentence each, if the node cannot be
    started. Closing takes at most two seconds.
    """
    started = False
    try:
        async with AsyncExitStack() as stack:
            data = stack.enter_context(locked(config.data_dir))
            stack.enter_context(logs.writing(data.path / LOG_FILE, config.log_level))
            joined = await trio.to_thread.run_sync(accepted, with_choice(config))
            tell(Starting(str(data.path), joined.config.swarm))
            stack.callback(tell, Stopped())
            node = await _start(stack, joined, data, tell, parts or Parts())
            started = True
            yield node
    except BaseExceptionGroup as group:
        # Nurseries wrap whatever passes through them; who called us wants the error itself.
        leaf = _only_leaf(group)
        if leaf is None:
            raise
        raise leaf from leaf.__cause__
    if not started:
        raise LocalError(
            "the node was asked to stop before it had started; start it again with `swarmllm join`"
        )


def _only_leaf(group: BaseExceptionGroup[BaseException]) -> Exception | None:
    """The one exception within, however deep; None if there are several, or if it is no error (a
    cancellation)."""
    inner: BaseException = group
    while isinstance(inner, BaseExceptionGroup):
        if len(inner.exceptions) != 1:
            return None
        inner = inner.exceptions[0]
    return inner if isinstance(inner, Exception) else None


async def _start(
    stack: AsyncExitStack, joined: Accepted, data: DataDir, tell: SendFrame, parts: Parts
) -> LocalNode:
    config = joined.config
    nursery = await stack.enter_async_context(trio.open_nursery())
    stack.callback(nursery.cancel_scope.cancel)
    defaults, settings = usual_request(config), Settings(pinned(config))
    service = Service(defaults, settings)
    api = await _open_doors(nursery, service, config, data, tell)
    keyring = await trio.to_thread.run_sync(load_or_create_key, data.key_file)

    def warn(text: str) -> None:
        tell(Warned(text))

    store = stack.enter_context(SqliteStore(data.store_file, warn))
    imported = _importing_network(nursery)
    rng = random.Random(random.SystemRandom().getrandbits(128))
    orders = await _boot_kill_switch(joined, data, keyring, rng, warn)
    text, engine, advice = await open_model(stack, nursery, config, tell, parts, orders, keyring)
    joined.check_vocabulary(text)
    await imported.wait()
    exchange = TokenizerExchange(digests_of(text) if isinstance(text, LlamaText) else None)
    governance = governance_part(
        orders.machine, keyring, store, settings, config.canary, parts.review_pace
    )
    recording, handing_in = _recording(store), HandingIn()
    seen = await watching(stack, nursery, config.otlp_endpoint, keyring.peer)
    agent = NodeAgent(config, governance.machine, settings, keyring, store)
    made = exchange, governance, part_of(keyring, rng, trio.current_time()), recording
    node = _node(joined, keyring, rng, orders, text, (*made, *agent.parts), settings, store)

    def perform(effect: TokenizerEffect) -> None:
        nursery.start_soon(perform_text, effect, text, driver)

    ledgers = performer_of(data.path / LEDGER_FILE, keyring, store, orders.machine, warn)
    driver = _driver(
        *(node, keyring, store, orders, perform, ledgers, handing_in, agent.perform), seen.watch
    )
    nursery.start_soon(ledgers.run, driver.feed)
    opened = await _open_network(stack, joined, keyring, driver, parts, orders.machine)
    network = opened[0]
    local = _local(config, node, driver, opened, text, defaults, advice, seen.observer)
    own = OwnFigures(seen.observer.samples, data.path, data.path / LEDGER_FILE)
    agent.open(nursery, local, driver, recording, own, _validator(data, parts))
    nursery.start_soon(_watch_stop_file, data.path / STOP_FILE, driver)
    expert = await _expert(nursery, config, data, engine, text, driver, tell, parts.look)
    await stack.enter_async_context(_driving(driver, network, engine))
    await stack.enter_async_context(_forwarding(local, tell))
    stack.callback(tell, Stopping("asked to"))
    tell(Listening(network.addrs))
    await _remember(joined, driver, store)
    if isinstance(text, LearnedText):
        nursery.start_soon(text.learn, TextSwarm(local, exchange, driver))
    await _offer_terms(config, governance.machine, driver, warn)
    governing = _governing(driver, handing_in, governance.machine, keyring, local)
    validation = ValidationService(driver, recording, governance.machine, settings, local.view)
    _open_service(service, local, orders, governing, driver, validation, agent, expert, keyring)
    service.http = await stack.enter_async_context(parts.http(service)) if parts.http else ""
    tell(_ready(network, api, service.http))
    return local


def _ready(network: Network, api: Path, http: str) -> Ready:
    return Ready(network.peer, f"unix:{api}", next(iter(network.addrs), ""), http)


async def _open_doors(
    nursery: trio.Nursery, service: Service, config: Config, data: DataDir, tell: SendFrame
) -> Path:
    """Where other programs of this machine ask: the local socket, whose path this is, and gRPC."""
    api: Path = await nursery.start(partial(serve, service, data.path, fallback=_short_folder()))
    nursery.start_soon(_obey, service, nursery.cancel_scope)
    if config.grpc_port != NO_PORT:
        serving = partial(grpc_service.serve, service, data.path, config.grpc_port)
        tell(ServiceOpened(await nursery.start(serving)))
    return api


async def _expert(
    nursery: trio.Nursery,
    config: Config,
    data: DataDir,
    engine: Engine | None,
    text: Text,
    driver: Driver,
    tell: SendFrame,
    look: Look | None,
) -> NodeExpert:
    """The owner's hand on the engine; before anybody is told of the expert."""
    if engine is not None:
        await nursery.start(lend, lending_of(config), look or look_of(config), driver.feed)
    choice, remarks = await trio.to_thread.run_sync(settle, config, data.path)
    for remark in remarks:
        tell(Warned(remark))
    if engine is not None and not choice.is_offered:
        await driver.feed(OwnerOffers(False))
    return NodeExpert(config, data.path, choice, engine, text, tell, nursery.start_soon)


def _validator(data: DataDir, parts: Parts) -> ValidationProcess:
    return ValidationProcess(data.path, nice=parts.validation_nice)


def _recording(store: SqliteStore) -> RecordingPart:
    now = trio.current_time()
    return RecordingPart((time.time() - now) / 60, now, store.load)


def _node(
    joined: Accepted,
    keyring: KeyFile,
    rng: random.Random,
    orders: HaltPerformer,
    text: Text,
    parts: tuple[Part, ...],
    settings: Settings,
    store: SqliteStore,
) -> Node:
    config, members = joined.config, members_of(joined, keyring, orders.machine, store)
    fingerprint = b"" if isinstance(text, LearnedText) else text.vocabulary.fingerprint
    basics = NodeConfig(fingerprint, swarm_hash(config.swarm))
    boot_ms = int(time.time() * 1000)
    sealing = sealing_with(keyring)
    terms = Terms(config.trust_capped_days, config.trust_whole_days, config.trust_excluded_days)
    return Node(
        *(basics, keyring.peer, boot_ms, rng, sealing, orders.machine),
        *((*parts, *members), settings),
        track_records_of(store, time.time()),
        trust_of(keyring, store, terms, time.time() - trio.current_time()),
        screen=next(iter(members), None),
    )


def _local(
    config: Config,
    node: Node,
    driver: Driver,
    opened: Opened,
    text: Text,
    defaults: TextRequest,
    advice: Mapping[str, float],
    observer: Observer,
) -> LocalNode:
    network, troubles, traffic, reach = opened
    return LocalNode(
        *(node, driver, network, text),
        swarm=config.swarm,
        defaults=defaults,
        grammars=Grammars(),
        troubles=troubles,
        traffic=traffic,
        reach=reach,
        observer=observer,
        advice=advice,
    )


def _driver(
    node: Node,
    keyring: KeyFile,
    store: SqliteStore,
    orders: HaltPerformer,
    perform: Callable[[TokenizerEffect], None],
    ledgers: LedgerPerformer,
    handing_in: HandingIn,
    run_agent: Callable[[AgentEffect], None],
    watch: Watch,
) -> Driver:
    return Driver(
        node,
        keyring,
        store,
        orders=orders,
        suspend_detector=SuspendDetector(),
        texts=perform,
        ledgers=ledgers.perform,
        kept=handing_in.kept,
        agent=run_agent,
        watch=watch,
    )


def _governing(
    driver: Driver,
    handing_in: HandingIn,
    machine: GovernanceMachine,
    keyring: KeyFile,
    local: LocalNode,
) -> GovernanceService:
    peers = partial(_peers_of, local)
    return GovernanceService(driver, handing_in, machine, keyring, peers, unix_ms)


def _peers_of(local: LocalNode) -> tuple[PeerId, ...]:
    return local.view().peers


def _open_service(
    service: Service,
    local: LocalNode,
    orders: HaltPerformer,
    governance: GovernanceService,
    driver: Driver,
    validation: ValidationService,
    agent: NodeAgent,
    expert: NodeExpert,
    keyring: KeyFile,
) -> None:
    def ledger() -> LedgerView:
        return next(part for part in local.view().parts if isinstance(part, LedgerView))

    service.open(
        local,
        HaltService(driver, orders, partial(_peers_of, local)),
        governance,
        validation,
        LedgerService(driver, ledger),
        agent.service(driver, local, expert),
        InviteService(keyring, orders.machine, local, driver.feed),
    )


async def _offer_terms(
    config: Config, governance: GovernanceMachine, driver: Driver, warn: Callable[[str], None]
) -> None:
    """The terms of governance that lie beside the charter's file; elsewhere peers have them."""
    if governance.damage:
        warn(governance.damage)
    if not config.charter or not governance.registry.needs_terms:
        return
    path = terms_path(Path(config.charter))
    if not await trio.to_thread.run_sync(path.exists):
        return
    data = await trio.to_thread.run_sync(read_terms_file, path)
    driver.act(RecordOffered(0, data, None, GOV))
    if governance.registry.needs_terms:
        warn(f"{path} does not hold the terms of governance that the charter in force names")


def _importing_network(nursery: trio.Nursery) -> trio.Event:
    """Seconds on a slow machine, while the model is loaded elsewhere. In a thread, so that the
    engine's lease and the local socket go on."""
    done = trio.Event()

    async def load() -> None:
        await trio.to_thread.run_sync(importlib.import_module, NETWORK_MODULE)
        done.set()

    nursery.start_soon(load)
    return done


async def _obey(service: Service, start: trio.CancelScope) -> None:
    """A client of the local socket wants the node to stop, be it running or still starting."""
    await service.wait_shutdown()
    if service.node is None:
        start.cancel()
    else:
        service.node.request_stop()


def _short_folder() -> Path:
    """Where sockets of long data folders go."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    return (
        Path(runtime) / "swarmllm"
        if os.path.isabs(runtime)
        else Path(tempfile.gettempdir()) / f"swarmllm-{os.getuid()}"
    )


# --- the kill switch ------------------------------------------------------------------------------


async def _boot_kill_switch(
    joined: Accepted,
    data: DataDir,
    keyring: KeyFile,
    rng: random.Random,
    warn: Callable[[str], None],
) -> HaltPerformer:
    pin = await trio.to_thread.run_sync(joined.pin)
    orders, remarks = await boot(HaltFolder(data.path), keyring, pin, rng)
    for remark in (*joined.remarks, *remarks):
        warn(remark)
    return orders


async def _watch_stop_file(path: Path, driver: Driver) -> None:
    """The owner's own stop without a key or a network: a file of this name. Taking it away starts
    nothing; `swarmllm start` does."""
    seen = False
    while True:
        there = os.path.lexists(path)  # noqa: ASYNC240  A microsecond; a thread would cost a hundred times as much.
        if there and not seen:
            driver.act(OwnerStops())
        seen = there
        await trio.sleep(STOP_FILE_EVERY_S)


# --- the network ----------------------------------------------------------------------------------


async def _open_network(
    stack: AsyncExitStack,
    joined: Accepted,
    keyring: KeyFile,
    driver: Driver,
    parts: Parts,
    machine: HaltMachine,
) -> Opened:
    if parts.network is not None:
        network = await stack.enter_async_context(parts.network(keyring, driver))
        return network, tuple, Traffic, lambda: None
    options = replace(network_options(joined.config, keyring, driver), invited=joined.names)
    real = await stack.enter_async_context(open_network(options))

    def troubles() -> tuple[str, ...]:
        unreachable = [
            f"{b.addr} is unreachable: {b.error}"
            for b in real.bootstrap
            if b.error and not b.connected
        ]
        return (
            *joined.strangers(machine),
            *unreachable,
            *([f"the LAN is not searched: {real.lan_error}"] if real.lan_error else []),
        )

    return real, troubles, lambda: real.traffic, lambda: real.reach.now


def network_options(config: Config, keyring: KeyFile, driver: Driver) -> NetworkOptions:
    """Where to listen and whom to ask. Offline: on loopback only, and nobody beyond it."""
    host = "127.0.0.1" if config.offline else config.listen_host
    kind = "ip6" if ":" in host else "ip4"
    # Every interface means that of both families, where there are both.
    beside = (f"/ip6/::/tcp/{config.port}",) if host == "0.0.0.0" else ()
    return NetworkOptions(
        seed=keyring.seed,
        channels=(
            halt_channel(driver, driver.charter_swarm or config.swarm),
            tokenizer_channel(driver.door(TOKENIZER)),
            governance_channel(driver.door(GOV), driver.charter_swarm or config.swarm),
            ledger_channel(driver.door(LEDGER)),
            *([member_channel(driver.door(MEMBER))] if config.closed else []),
        ),
        listen=(f"/{kind}/{host}/tcp/{config.port}", *beside),
        port_auto=config.port == DEFAULT_PORT,
        announce=config.announce,
        bootstrap=tuple(addr for addr in config.peers if not config.offline or _is_loopback(addr)),
        lan=config.lan and not config.offline,
        swarm=config.swarm,
        port_mapping=config.port_mapping == "auto" and not config.announce and not config.offline,
        relay=config.relay,
        behind_nat=config.behind_nat,
    )


def _is_loopback(addr: str) -> bool:
    _, kind, host, *_ = addr.split("/")
    return kind in {"ip4", "ip6"} and ipaddress.ip_address(host).is_loopback


async def _remember(joined: Accepted, driver: Driver, store: SqliteStore) -> None:
    """The invite, for the next start, and peers of the last run: whoever is still there is found
    again without anybody's help."""
    await trio.to_thread.run_sync(joined.keep)
    if joined.invited is not None and joined.circuits:
        await driver.feed(AddressesFound(joined.invited.peer, joined.circuits, "bootstrap"))
    saved = await trio.to_thread.run_sync(store.load, SAVED_PEERS)
    for peer, addrs in load_saved(saved or b""):
        kept = tuple(addr for addr in addrs if not joined.config.offline or _is_loopback(addr))
        if kept:
            await driver.feed(AddressesFound(peer, kept, "saved"))


# --- running --------------------------------------------------------------------------------------


@asynccontextmanager
async def _driving(driver: Driver, network: Network, engine: Engine | None) -> AsyncIterator[None]:
    ended = trio.Event()

    async def drive() -> None:
        try:
            await driver.run(network, engine)
        finally:
            ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(drive)
        try:
            yield
        finally:
            driver.stop()
            with trio.CancelScope(shield=True, deadline=trio.current_time() + FAREWELL_S):
                await ended.wait()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def _forwarding(local: LocalNode, tell: SendFrame) -> AsyncIterator[None]:
    with local.events() as events:

        async def forward() -> None:
            async for event in events:
                tell(event)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(forward)
            yield
            nursery.cancel_scope.cancel()
