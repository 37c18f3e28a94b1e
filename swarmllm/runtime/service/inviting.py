"""The question for an invite: the running node signs a line that brings others into its swarm.

The node makes it, and not the command: it alone knows the addresses at which it is reached now, and
its key never leaves it.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Final

from swarmllm.core.halt.charter import charter_hash
from swarmllm.core.halt.machine import HaltMachine
from swarmllm.core.inputs import TicketMade
from swarmllm.core.membership.part import MembersView
from swarmllm.core.membership.tickets import USES_MAX
from swarmllm.core.peers.relayed import CIRCUIT
from swarmllm.errors import LocalError, UsageError
from swarmllm.messages.invite import (
    INVITE_ADDR_MAX,
    INVITE_ADDRS_MAX,
    INVITE_LIFE_MAX_MS,
    TICKET_BYTES,
    Invite,
)
from swarmllm.runtime.invited import Invited, now_ms
from swarmllm.runtime.ports import Keyring
from swarmllm.runtime.service.json_events import record_of
from swarmllm.runtime.service.local_node import LocalNode
from swarmllm.runtime.service.record import Record
from swarmllm.wire.invite import write_line

EXPIRES_S: Final = 7 * 86_400.0
EXPIRES_MIN_S: Final = 60.0
EXPIRES_MAX_S: Final = INVITE_LIFE_MAX_MS / 1000
LOOPBACK_ONLY: Final = "only programs on this machine can reach the addresses in it"


class InviteService:
    def __init__(
        self,
        keyring: Keyring,
        machine: HaltMachine,
        local: LocalNode,
        feed: Callable[[TicketMade], Awaitable[None]],
        unix_ms: Callable[[], int] = now_ms,
    ) -> None:
        self._keyring, self._machine, self._local = keyring, machine, local
        self._feed, self._unix_ms = feed, unix_ms

    async def invite(self, params: Mapping[str, object]) -> Record:
        """UsageError for parameters that make no sense; LocalError while there is nothing to invite
        to."""
        expires_s = params.get("expires_s", EXPIRES_S)
        if strange := sorted(set(params) - {"expires_s", "uses"}):
            raise UsageError(
                f"invite takes the fields 'expires_s' and 'uses', not {strange[0][:40]!r}"
            )
        if (
            not isinstance(expires_s, (int, float))
            or isinstance(expires_s, bool)
            or not EXPIRES_MIN_S <= expires_s <= EXPIRES_MAX_S
        ):
            raise UsageError(
                f"the invite would end after {str(expires_s)[:40]} s; it is good for"
                f" {EXPIRES_MIN_S:.0f} to {EXPIRES_MAX_S:.0f} s"
            )
        uses, ticket = self._uses(params.get("uses")), b""
        if uses:
            ticket = secrets.token_bytes(TICKET_BYTES)
        invited = self._signed(expires_s, ticket)
        if uses:
            await self._feed(TicketMade(ticket, uses, invited.invite.expires_ms))
        return invite_record(invited) | {"uses": uses or None}

    def _uses(self, wanted: object) -> int:
        """How many may join with it; 0: the swarm is open."""
        views = (part for part in self._local.view().parts if isinstance(part, MembersView))
        members = next(views, None)
        if members is None:
            if wanted is not None:
                raise UsageError(
                    "an open swarm lets everybody in who knows an address of it, so the uses of an"
                    " invite to it cannot be counted; leave --uses out"
                )
            return 0
        if not members.may_invite:
            raise LocalError(
                "this node may let nobody into the closed swarm: a root key of its charter has to"
                " sign that it may, with `swarmllm members sign --inviter`"
            )
        uses = 1 if wanted is None else wanted
        if not isinstance(uses, int) or isinstance(uses, bool) or not 1 <= uses <= USES_MAX:
            raise UsageError(
                f"the invite would be good for {str(uses)[:40]} peers; 1 to {USES_MAX} are possible"
            )
        return uses

    def _signed(self, expires_s: float, ticket: bytes) -> Invited:
        chain = self._machine.state.charters
        if not chain:
            raise LocalError(
                f"the charter of swarm {self._machine.state.swarm.hex()[:16]} has not come yet, so"
                " there is nothing to invite to; try again when this node has found a peer"
            )
        now = self._unix_ms()
        invite = Invite(
            name=self._local.status().swarm,
            swarm=self._machine.state.swarm,
            charter_version=len(chain),
            charter_hash=charter_hash(chain[-1]),
            vocabulary=self._local.view().vocabulary,
            addrs=self._addrs(),
            issued_ms=now,
            expires_ms=now + round(expires_s * 1000),
            ticket=ticket,
        )
        line = write_line(invite, self._keyring.public_key, self._keyring.sign)
        return Invited(line, invite, self._keyring.peer)

    def _addrs(self) -> tuple[str, ...]:
        """Where others reach this node, without its own id at their ends; likeliest first, and
        room for what leads through relays."""
        own = f"/p2p/{self._keyring.peer}"
        found = [addr.removesuffix(own) for addr in self._local.addrs]
        found = [addr for addr in found if len(addr) <= INVITE_ADDR_MAX]
        if not found:
            raise LocalError(
                "this node has no address that others could reach, so an invite would lead nowhere;"
                " name one with --announce"
            )
        through = [addr for addr in found if CIRCUIT in addr][: INVITE_ADDRS_MAX // 2]
        direct = [addr for addr in found if CIRCUIT not in addr]
        return (*direct[: INVITE_ADDRS_MAX - len(through)], *through)


async def answer(
    wait_started: Callable[[], Awaitable[object]],
    found: Callable[[], InviteService | None],
    params: Mapping[str, object],
) -> AsyncGenerator[Record]:
    """The record that answers `invite`."""
    await wait_started()
    service = found()
    if service is None:
        raise LocalError("this node invites nobody; ask one that `swarmllm join` started")
    yield await service.invite(params)


def invite_record(invited: Invited) -> Record:
    """What an invite says, for programs."""
    invite = invited.invite
    near = all(addr.startswith(("/ip4/127.", "/ip6/::1/")) for addr in invite.addrs)
    return record_of(
        "invite",
        line=invited.line,
        swarm=invite.name,
        swarm_id=invite.swarm.hex(),
        charter_version=invite.charter_version,
        charter_hash=invite.charter_hash.hex(),
        vocabulary=invite.vocabulary.hex(),
        inviter=invited.peer,
        addrs=list(invited.addrs),
        issued_ms=invite.issued_ms,
        expires_ms=invite.expires_ms,
        closed=bool(invite.ticket),
        remarks=[LOOPBACK_ONLY] if near else [],
    )
