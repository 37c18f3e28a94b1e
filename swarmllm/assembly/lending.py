"""The terms on which a real node serves others, as its settings have them."""

from __future__ import annotations

from swarmllm.adapters.machine_load import MachineLoad
from swarmllm.core.serving.lending import Lending, LendingRules, hours_of
from swarmllm.runtime.config import Config
from swarmllm.runtime.lending import Look


def rules_of(config: Config) -> LendingRules:
    return LendingRules(config.yield_to_owner, hours_of(config.hours), config.on_battery == "serve")


def lending_of(config: Config) -> Lending:
    return Lending(rules_of(config))


def look_of(config: Config) -> Look:
    return MachineLoad(yields=config.yield_to_owner).look
