"""`swarmllm proposals export` and `import`: proposals and votes carried by hand."""

from __future__ import annotations

from collections.abc import Sequence

from swarmllm.adapters.governance_file import GovernanceFile, case_of, opened, titled
from swarmllm.cli.governance.paper import paper_of
from swarmllm.cli.governance.places import (
    Delivery,
    Way,
    file_path,
    hand_in,
    held_by,
    refuse_unwritten,
    write_file,
)
from swarmllm.cli.governance.propose import id_of
from swarmllm.cli.governance.signing import reach_of
from swarmllm.cli.guard import FAILED, OK
from swarmllm.cli.operators.halt_source import refuse_other_swarm, standing_of, state_in
from swarmllm.cli.output import complain, people, print_record
from swarmllm.cli.screen import Line
from swarmllm.core.halt.state import HaltState
from swarmllm.core.wording import several
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.config import Config
from swarmllm.runtime.user_path import user_path


def export(config: Config, ids: Sequence[str], out: str, way: Way, *, as_json: bool) -> int:
    """The proposals whose ids begin so, or all, into a file to look at, sign and hand in anywhere.
    `way.state`: take them from another such file."""
    path = file_path(out)
    held = held_by(config) if way.state is None else paper_of(user_path(way.state)).file
    cases = [case for case in held.cases if not ids or _is_one(case, ids)]
    for id in ids:
        if not any(_is_one(case, [id]) for case in cases):
            raise UsageError(f"no proposal {id!r} is known; `swarmllm proposals` lists them")
    write_file(path, GovernanceFile(held.halts, held.terms, tuple(cases)))
    records = sum(map(len, cases))
    if as_json:
        told = {"file": str(path), "proposals": len(cases), "records": records}
        print_record({"event": "exported"} | told)
        return OK
    what = several(len(cases), "proposal")
    people().print(Line(f"{what} ({records} records) in {path}."), soft_wrap=True)
    return OK


def _is_one(case: Sequence[bytes], ids: Sequence[str]) -> bool:
    return case_of(opened(case[0])).hex().startswith(tuple(map(id_of, ids)))


def import_files(config: Config, files: Sequence[str], way: Way, *, as_json: bool) -> int:
    """Hand the records of files to the running node, or to peers. Exit code 1 if one is refused."""
    read = [(name, paper_of(user_path(name)).file) for name in files]
    for name, file in read:
        if not file.records:
            raise LocalError(f"{name} holds no proposals, so there is nothing to hand in")
    state = state_in(read[0][1].halts, read[0][0])
    ours = state if config.peers else standing_of(config).state
    for name, file in read:
        refuse_other_swarm(ours, file.halts, name)
    records = [record for _, file in read for record in file.records]
    terms = {file.terms for _, file in read}
    delivery = hand_in(config, records, way.wait_s, _newest(ours, read))
    refused = _tell(records, terms, delivery, as_json=as_json)
    if as_json:
        event = {"event": "imported", "outcomes": list(delivery.outcomes)}
        reach = {"peers": delivery.peers, "same": delivery.same}
        print_record(event | reach | {"durable": not delivery.fault})
    if refused:
        complain(f"{refused} of {len(records)} records were refused")
        return FAILED
    refuse_unwritten("what is in the files", delivery)
    if not as_json:
        people().print(Line(reach_of(delivery), "green"), soft_wrap=True)
    return OK


def _newest(state: HaltState, read: Sequence[tuple[str, GovernanceFile]]) -> HaltState:
    states = [state, *(state_in(file.halts, name) for name, file in read)]
    return max(states, key=lambda one: one.version)


def _tell(records: Sequence[bytes], terms: set[bytes], delivery: Delivery, *, as_json: bool) -> int:
    """What became of each; how many were refused."""
    refused = 0
    for data, outcome in zip(records, delivery.outcomes, strict=True):
        name = "TERMS of governance" if data in terms else titled(data)
        said = {"applied": "taken", "known": "known already"}.get(
            outcome["outcome"], f"refused: {outcome['reason']}"
        )
        is_refused = outcome["outcome"] == "refused"
        refused += is_refused
        style = "red" if is_refused else {"applied": "green"}.get(outcome["outcome"], "dim")
        if not as_json:
            people().print(Line(f"{name}: {said}", style), soft_wrap=True)
        elif is_refused:
            complain(f"{name}: {outcome['reason']}")
    return refused
