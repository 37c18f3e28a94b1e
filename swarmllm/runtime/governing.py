"""Governance of a real node: put together, with what its store holds and the machine's clock."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Final

import trio

from swarmllm.core.governance.canaries import Identity
from swarmllm.core.governance.changes import Changes
from swarmllm.core.governance.clocks import Uptime
from swarmllm.core.governance.machine import GovernanceMachine, KillSwitch, Options
from swarmllm.core.governance.part import GovernancePart
from swarmllm.core.governance.steering import SettingsSteering
from swarmllm.core.settings.holder import Settings
from swarmllm.core.settings.table import BY_CODE
from swarmllm.runtime.ports import Keyring, Store

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")  # Linux; elsewhere there is no such file.


def governance_part(
    switch: KillSwitch,
    keyring: Keyring,
    store: Store,
    settings: Settings,
    canary: bool,
    review_pace: float = 1.0,
) -> GovernancePart:
    """`canary`: the owner lets this node be one. To be made when the kill switch has started."""
    now = trio.current_time()
    machine = GovernanceMachine(
        switch,
        Identity(keyring.peer, keyring.public_key, keyring.sign),
        BY_CODE,
        Changes(SettingsSteering(settings), BY_CODE),
        keyring.verify,
        random.Random(random.SystemRandom().getrandbits(128)),
        store.load,
        Options(
            canary=canary,
            review_pace=review_pace,
            unix_ms_at_zero=round((time.time() - now) * 1_000),
            uptime=uptime_now(now),
        ),
    )
    return GovernancePart(machine)


def uptime_now(now: float) -> Uptime:
    """The clock of this boot of the machine, which goes on over a restart of the node. Where a boot
    has no id nothing is known of the time between two lives of the node."""
    try:
        boot = BOOT_ID.read_bytes().strip()
    except OSError:
        return Uptime()
    return Uptime(boot, time.monotonic() - now)
