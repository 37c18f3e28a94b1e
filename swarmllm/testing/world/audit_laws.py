"""The laws of worlds in which hosts audit each other's experts (`core.trust`)."""

from __future__ import annotations

from typing import Final

from swarmllm.core.trust.reputation import Reputation
from swarmllm.messages import PeerId
from swarmllm.testing.world.checks import Checker
from swarmllm.testing.world.host import EPOCH_MS, Host
from swarmllm.testing.world.roles import HONEST


class NobodyIsWronged(Checker):
    """For worlds where those who lie about a model are fewer than those who have it. Who has lied
    once may be excluded when it is honest again."""

    HONEST_STAYS: Final = "an expert that answers with its model is never excluded"

    def __init__(self) -> None:
        self._lied: set[PeerId] = set()

    def stepped(self, host: Host, event: object) -> None:
        if not is_honest(host):
            self._lied.add(host.peer)
        if host.behaviour is not HONEST or not host.alive:
            return
        for peer in excluded(host.reputation, self.world.now):
            other = self.world.network.hosts[peer]
            if other.peer not in self._lied:
                raise self.broken(self.HONEST_STAYS, host, f"it excludes {peer}")


def is_honest(host: Host) -> bool:
    return host.behaviour is HONEST and host.spec.claims in {None, host.spec.model}


def excluded(reputation: Reputation, now: float) -> list[PeerId]:
    """Who is, by peer id."""
    now_s = EPOCH_MS / 1000 + now
    return sorted(key[0] for key, account in reputation if account.excluded_until_s > now_s)
