"""An agent's part beside a real governance machine, with a disk, a clock and a world that are the
test's. The process can be killed before any effect is performed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, cast

from swarmllm.core.agent.cycle import (
    Ask,
    Done,
    Event,
    File,
    Filed,
    Observe,
    Observed,
    Proposed,
    Simulate,
    TakeBack,
    Validated,
    Withdraw,
)
from swarmllm.core.agent.observation import Observation
from swarmllm.core.agent.part import TICK_S, AgentPart
from swarmllm.core.agent.suggestion import Suggestion
from swarmllm.core.agent.surroundings import Surroundings
from swarmllm.core.effects import AppendToLedger, RunAgent, Save, StopAgent
from swarmllm.core.facts import TokenMeasured
from swarmllm.core.governance.canaries import Identity
from swarmllm.core.governance.mandate import DEFAULTS
from swarmllm.core.inputs import AgentDone, TimerFired
from swarmllm.core.settings.table import EXTRA
from swarmllm.messages import PeerId
from swarmllm.messages.governance import GovernanceTerms
from swarmllm.messages.ledger import AgentStep
from swarmllm.runtime.agent.filing import Filing
from swarmllm.runtime.ports import Keyring
from swarmllm.wire.codec import decode
from tests.core.governance.support import AGENTS, VOTERS, Node, Switch, charter
from tests.core.halt.support import founded, keys

KNOWN = {"late_share": 0.2, "token_ms": 40.0}
CHANGE = Suggestion(EXTRA, 2, "many rounds are late", ("late_share",), "late_share")
REPORT = b"\7" * 32
EXPERTS = tuple((PeerId(f"expert {number}"), ()) for number in range(16))


def terms_of(phase: int, **others: Any) -> GovernanceTerms:
    """No canary, so that what is carried is in force at once."""
    given = {"phase": phase, "agent": keys(AGENTS[:1]), "canary_permille": 0, **others}
    return replace(DEFAULTS, **given)


@dataclass
class Own:
    """The node's key, as a Keyring."""

    person: Any

    @property
    def peer(self) -> PeerId:
        return PeerId("agent")

    @property
    def public_key(self) -> bytes:
        key: bytes = self.person.public_key
        return key

    def sign(self, data: bytes) -> bytes:
        signed: bytes = self.person.sign(data)
        return signed


class Killed(Exception):
    """The process is gone."""


@dataclass
class World:
    """What outlives the process, and what the agent is answered."""

    phase: int = 3
    terms: GovernanceTerms | None = None
    verdict: str = "better"
    known: Observation = field(default_factory=lambda: KNOWN)
    suggestions: list[Suggestion | None] = field(default_factory=lambda: [CHANGE])
    performed: list[Any] = field(default_factory=list)
    """All orders, each with the domain; what was killed before it was performed is not there."""
    cost_s: float = 0.0
    """Of the tokens that users are written; 0: nobody is."""
    kill_at: int = -1
    """The process dies before it performs so manieth an effect."""

    def __post_init__(self) -> None:
        terms = self.terms or terms_of(self.phase)
        self.node = Node(
            "agent", switch=Switch(founded(charter(terms))), person=AGENTS[0], terms=terms
        )
        self.disk: dict[str, bytes] = {}
        self.ledger: list[AgentStep] = []
        self.effects = 0
        self.now = 0.0
        self.stopped: list[int] = []
        self.held: list[RunAgent] = []
        self.is_held: Callable[[RunAgent], bool] = lambda _: False
        """What is under way and not answered, until the test says so."""
        self.boot()

    def boot(self) -> None:
        own = Own(AGENTS[0])
        identity = Identity(own.peer, own.public_key, own.sign)
        machine, settings = self.node.machine, self.node.settings
        surroundings = Surroundings(machine, settings, identity, 1_790_000_000_000)
        self.part = AgentPart(surroundings, self.disk.get)
        self.held = []
        self.filing = Filing(
            *(machine, settings, cast(Keyring, own), self._offer),
            lambda: self.now,
            lambda: 1_790_000_000_000 + round(1000 * self.now),
        )

    def _offer(self, event: Any) -> Any:
        self.node.now = self.now
        self.node.perform(self.node.machine.offered(event, self.now))
        return self.node.checked[-1]

    # --- the shell --------------------------------------------------------------------------------

    def give(self, event: Any) -> None:
        self.perform(self.part.handle(event, self.now))

    def perform(self, told: Sequence[Any]) -> None:
        for effect in told:
            if self.effects == self.kill_at:
                self.effects += 1
                raise Killed
            self.effects += 1
            match effect:
                case Save(key=key, value=value):
                    self.disk[key] = value
                case AppendToLedger(entry=entry):
                    self.ledger.append(decode(entry.payload, (AgentStep,)))
                case StopAgent(number=number):
                    self.stopped.append(number)
                    self.held = [one for one in self.held if one.number != number]
                case RunAgent():
                    self.performed.append(effect)
                    self.held.append(effect)
                case _:
                    raise AssertionError(effect)

    def answer(self) -> bool:
        """One thing that is under way comes back; whether there was one."""
        found = next((one for one in self.held if not self.is_held(one)), None)
        if found is None:
            return False
        self.held.remove(found)
        event = self._done(found)
        if self.effects == self.kill_at:  # Done, and nobody hears of it any more.
            self.effects += 1
            raise Killed
        self.effects += 1
        self.give(AgentDone(found.number, event, EXPERTS))
        return True

    def _done(self, order: RunAgent) -> Event:
        match order.work:
            case Observe():
                return Observed(self.known)
            case Ask() if order.domain != "scheduling":
                return Proposed(None)
            case Ask():
                found = (
                    self.suggestions.pop(0) if len(self.suggestions) > 1 else self.suggestions[0]
                )
                return Proposed(found, by="a test")
            case Simulate():
                return Validated(self.verdict, REPORT)
            case File(suggestion=suggestion, report=report, is_suggestion=is_suggestion):
                return Filed(self.filing.file(suggestion, report, is_suggestion=is_suggestion))
            case TakeBack(proposal=proposal, why=why):
                self.filing.take_back(proposal, why)
            case Withdraw(proposal=proposal):
                self.filing.withdraw(proposal)
        return Done()

    # --- time -------------------------------------------------------------------------------------

    def tick(self, seconds: float = TICK_S) -> None:
        """Time goes by, and all that can be answered is."""
        self.now += seconds
        self.node.now = self.now
        self.node.look()
        if self.cost_s:
            self.measure(self.cost_s)
        self.give(TimerFired())
        while self.answer():
            pass

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.tick()

    def run_killed(self, kill_at: int, seconds: float) -> bool:
        """As `run`, with a kill before effect `kill_at` and a new start after it; whether there was
        that effect."""
        self.kill_at = self.effects + kill_at
        until, was_killed = self.now + seconds, False
        while self.now < until:
            try:
                self.tick()
            except Killed:
                was_killed = True
                self.boot()
        self.kill_at = -1
        return was_killed

    # --- people -----------------------------------------------------------------------------------

    def measure(self, cost_s: float, count: int = 20) -> None:
        for number in range(count):
            self.give(TokenMeasured(cost_s + 0.001 * (number % 5)))

    def vote(self, id: bytes) -> None:
        self.node.now = self.now
        self.node.offer(*(self.node.vote(id, by) for by in VOTERS[:2]))

    def proposals(self) -> list[Any]:
        book = self.node.machine.registry.book
        assert book is not None
        return list(book.cases.values())

    def works(self, domain: str = "scheduling") -> Iterator[str]:
        return (type(o.work).__name__ for o in self.performed if o.domain == domain)

    def texts(self, domain: str = "scheduling") -> list[str]:
        return [one.text for one in self.ledger if one.domain == domain]

    def lane(self, domain: str = "scheduling") -> Any:
        return next(one for one in self.part.view(self.now).lanes if one.domain == domain)


def digest(text: str) -> bytes:
    return sha256(text.encode()).digest()
