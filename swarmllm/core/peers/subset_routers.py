"""The routers of agent subsets: an answer that may ask only some experts has a router of its own,
with its own measurements and its own chance.

So what becomes of one subset's experts changes nothing of another's answers, nor of a user's: not
whom they ask, and not what they think of each.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from typing import Final

from swarmllm.core.facts import Fact
from swarmllm.core.inputs import Input
from swarmllm.core.part import Part, Told
from swarmllm.core.peers.router import Router
from swarmllm.core.settings.holder import Settings
from swarmllm.messages import PeerId

SUBSETS_MAX: Final = 8  # Four domains, of this epoch and the one before.


class SubsetRouters(Part):
    """`router` is that of all other answers. They all hear the same."""

    inputs = Router.inputs

    def __init__(self, router: Router, own: PeerId, settings: Settings) -> None:
        self._router, self._own, self._settings = router, own, settings
        self._subsets: OrderedDict[frozenset[PeerId], Router] = OrderedDict()

    def handle(self, event: Input | Fact, now: float) -> Told:
        for router in (self._router, *self._subsets.values()):
            router.handle(event, now)
        return ()

    def of(self, experts: frozenset[PeerId]) -> Router:
        """That of this subset: the one that was used for it before, or a new one, whose chance
        follows from who is in it."""
        found = self._subsets.get(experts)
        if found is None:
            seed = "\0".join(sorted(experts))
            found = Router(self._own, random.Random(f"{self._own}\0{seed}"), self._settings)
            self._subsets[experts] = found
            while len(self._subsets) > SUBSETS_MAX:
                self._subsets.popitem(last=False)
        self._subsets.move_to_end(experts)
        return found
