"""`swarmllm vote` and `swarmllm withdraw`: one key's say on a proposal."""

from __future__ import annotations

from swarmllm.cli.governance.places import Way
from swarmllm.cli.governance.propose import id_of
from swarmllm.cli.governance.signing import Signer, sign, told
from swarmllm.cli.guard import OK
from swarmllm.cli.output import notice
from swarmllm.errors import UsageError
from swarmllm.messages.governance import Vote, Withdrawal
from swarmllm.runtime.config import Config
from swarmllm.runtime.service.record import Record


def vote(config: Config, prefix: str, say: str, signer: Signer, way: Way, *, as_json: bool) -> int:
    """Votes are final: two different ones of one key count for nothing."""
    if say not in {"yes", "no"}:
        raise UsageError(f"a vote is yes or no, not {say[:40]!r}")
    id, yes = id_of(prefix), say == "yes"

    def is_wanted(drafted: Vote) -> bool:
        return drafted.proposal.hex().startswith(id) and bool(drafted.yes) == yes

    signed = sign(
        config, signer, "vote", Vote, is_wanted, lambda d: _show(d, as_json), way, id=id, yes=yes
    )
    proposal = signed.draft["proposal"]
    said = f"Vote {say} on proposal {proposal['id'][:16]}"
    told(signed, "voted", said, as_json=as_json, id=proposal["id"], yes=yes)
    return OK


def withdraw(config: Config, prefix: str, signer: Signer, way: Way, *, as_json: bool) -> int:
    """By its author at once, if it has not passed; by others when a majority of voters does."""
    id = id_of(prefix)

    def is_wanted(drafted: Withdrawal) -> bool:
        return drafted.proposal.hex().startswith(id)

    signed = sign(
        config, signer, "withdraw", Withdrawal, is_wanted, lambda d: _show(d, as_json), way, id=id
    )
    proposal = signed.draft["proposal"]
    said = f"Withdrawal of proposal {proposal['id'][:16]}"
    told(signed, "withdrawn", said, as_json=as_json, id=proposal["id"])
    return OK


def _show(draft: Record, as_json: bool) -> None:
    """What one is about to sign."""
    proposal = draft["proposal"]
    if not as_json:
        notice(f"Proposal {proposal['id'][:16]}: {proposal['action']['text']}.")
