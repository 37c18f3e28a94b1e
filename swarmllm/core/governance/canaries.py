"""Canaries of one node: of which changes it is one, and what it reports.

Any node that a hash chooses tries a change. Only an agent's node is believed, because its key
stands in the charter: strangers could else stop every change, or wave each one through. So where
there are agents their nodes take turns, until one has reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from swarmllm.core.governance.canary import draw, is_canary
from swarmllm.core.governance.entries import micros
from swarmllm.core.governance.mandate import Mandate
from swarmllm.core.governance.phases import Census
from swarmllm.core.governance.progress import REPORT_S, Progress
from swarmllm.core.governance.registry import Registry
from swarmllm.messages import PeerId
from swarmllm.messages.governance import CanaryReport
from swarmllm.wire.envelope import Sign
from swarmllm.wire.signed import key_id, sign_record


@dataclass(frozen=True, slots=True)
class Identity:
    """This node: its peer id, its public key, and what signs with it."""

    peer: PeerId
    public_key: bytes
    sign: Sign


class Canaries:
    """`is_willing`: the owner lets this node be one. `now` is the time of the last look."""

    def __init__(
        self, identity: Identity, registry: Registry, progress: Progress, census: Census
    ) -> None:
        self.is_willing = True
        self.now = -math.inf
        self._identity = identity
        self._key = key_id(identity.public_key)
        self._registry = registry
        self._progress = progress
        self._census = census

    def after(self, id: bytes) -> float | None:
        """How many seconds after it was ripe this node becomes a canary of a change; None: never,
        as far as it knows now."""
        mandate = self._registry.mandate
        if mandate is None or not self.is_willing:
            return None
        if self._key in mandate.agents:
            turn = sorted(mandate.agents, key=lambda key: draw(id, key)).index(self._key)
            return turn * (mandate.canary_s + REPORT_S)
        known = self._census.peers(self.now)
        chosen = is_canary(id, self._identity.peer, known, mandate.terms.canary_permille)
        return 0.0 if chosen else None

    def reports(self, mandate: Mandate, unix_ms: int) -> Iterator[bytes]:
        """What canaries on this node have found and nobody was told, signed; if it may speak."""
        if self._key not in mandate.agents:
            return
        for id, course in self._progress.courses.items():
            if course.trial not in ("fine", "worse") or course.reported:
                continue
            course.reported = True
            report = CanaryReport(
                mandate.swarm,
                mandate.version,
                id,
                self._key,
                int(course.trial == "worse"),
                course.before.count,
                course.during.count,
                micros(course.before.mean),
                micros(course.during.mean),
                unix_ms,
            )
            yield sign_record(report, [(self._identity.public_key, self._identity.sign)])
