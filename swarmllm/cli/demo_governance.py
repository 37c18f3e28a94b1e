"""`swarmllm demo --governance`: three node processes under one charter change how they work, by the
votes of three people and in no other way.

Keys are thrown away afterwards. What is signed goes in through one node and reaches the others by
the swarm alone. Each sentence at the end is a check on what the processes said when asked; exit
code 0 only if each of them held.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Final

import trio

from swarmllm.adapters.datadir import DataDir
from swarmllm.adapters.keyfile import load_or_create_key
from swarmllm.adapters.temporary_folder import temporary_folder
from swarmllm.cli.demo_cast import Cast, tiny_cast
from swarmllm.cli.demo_node import HOUR_S
from swarmllm.cli.demo_stage import PROGRAM, SPREAD_S, Stage, until
from swarmllm.cli.demo_view import DemoView, known
from swarmllm.cli.demo_voters import CANARY_S, Voters
from swarmllm.cli.fetching import fetched
from swarmllm.cli.guard import run
from swarmllm.cli.operators.publishing import hand_over
from swarmllm.cli.output import answer
from swarmllm.cli.processes import Fleet, NodeProcess, kill_all, open_fleet
from swarmllm.cli.screen import Line
from swarmllm.core.settings.table import EXPLORATION, EXTRA, WAIT_COST
from swarmllm.errors import HaltedError, LocalError, UsageError
from swarmllm.messages import Halt
from swarmllm.messages.governance import SetBounds, SetSetting, Suggest
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.runtime.service.record import Record
from swarmllm.wire.codec import encode

NODES: Final = 3
K: Final = 2
TOKENS: Final = 16
START_S: Final = 90.0
MEET_S: Final = 45.0
ANSWER_S: Final = 60.0
ACKS_S: Final = 5.0
LATE_S: Final = 0.5  # For replies that nobody waited for.
FAREWELL_S: Final = 15.0
UNKNOWN: Final = bytes.fromhex("92cc7801")  # Looks like an action, of a type that nobody has.
MEASURED: Final = "measurement.json"
FEWER, LESS_WAIT, LESS_TRYING = 0, 1_500, 50
"""What the three small changes set: experts, millinats/s, permille."""
CHANGES: Final = ((EXTRA, FEWER), (WAIT_COST, LESS_WAIT), (EXPLORATION, LESS_TRYING))


def governance_demo(config: Config, *, as_json: bool, keep: bool) -> int:
    view = DemoView(answer(), as_json=as_json)
    fleets: list[Fleet] = []
    with temporary_folder(keep=keep) as folder:
        try:
            with view.silence:
                return run(
                    lambda: _story(config, view, folder, fleets), at_force=lambda: kill_all(fleets)
                )
        finally:
            if keep:
                view.say(f"The nodes' folders and logs are in {folder}", "dim")


async def _story(config: Config, view: DemoView, folder: Path, fleets: list[Fleet]) -> int:
    began = trio.current_time()
    first = Line().append("Three nodes on this machine under one charter", "bold")
    view.say(
        first.append(
            ": ann, ben and cy may vote, two of them carry a small change; each of them may halt."
        )
    )
    cast = tiny_cast()
    for expert in dict.fromkeys(cast.experts):
        await fetched(expert, config, as_json=view.as_json)
    async with open_fleet(folder, PROGRAM) as fleet:
        fleets.append(fleet)
        stage = await _start(config, view, fleet, cast, folder)
        await _suggestion(stage)
        await _small_change(stage)
        await _unknown_action(stage)
        await _large_change(stage)
        await _halt(stage)
        await _farewell(stage, fleet)
        await _ledger(stage)
    return 0 if view.summary(trio.current_time() - began) else 1


# --- coming to life -------------------------------------------------------------------------------


async def _start(config: Config, view: DemoView, fleet: Fleet, cast: Cast, folder: Path) -> Stage:
    view.chapter("they start, and know who decides")
    agent_folder = folder / "node-1"
    agent_folder.mkdir(mode=0o700)
    # The charter names the agent's key, so that comes before the charter.
    agent = load_or_create_key(DataDir(agent_folder).key_file)
    voters = Voters(agent.public_key)
    flags = {
        "--swarm": f"demo-{secrets.token_hex(4)}",
        "--charter": voters.write(folder / "charter"),
    }
    flags |= {"--cache-dir": config.cache_dir, "--listen": "127.0.0.1", "--port": 0, "--threads": 1}
    common = ["--no-lan", *(str(word) for flag in flags.items() for word in flag)]
    names = list(cast.names[:NODES])
    with view.board(fleet.nodes, names), view.waiting("three nodes load their experts"):
        first = await fleet.start("node 1", [*common, "--model", str(cast.experts[0])])
        address = str((await first.wait_for("listening", START_S))["addrs"][0])
        for number, expert in enumerate(cast.experts[1:NODES], start=2):
            # Their owners let others go first: so it is known who the canary is.
            more = ["--no-canary", "--model", str(expert), "--peer", address]
            await fleet.start(f"node {number}", [*common, *more])
        for node in fleet.nodes:
            await node.wait_for("ready", START_S)
        for node in fleet.nodes:
            await _met(node)
    stage = Stage(view, list(fleet.nodes), voters, cast, folder)

    async def agreeing() -> int:
        seen = [await ask(node.folder, "governance") for node in stage.nodes]
        says = [(one["electorate"], one["minor_needs"], one["phase"]) for one in seen]
        return says.count((3, 2, 1))

    async def all_agree() -> bool:
        return await agreeing() == NODES

    # The phase is in force once the ledger has it, which may be a moment after the start.
    await until(all_agree)
    agree = await agreeing()
    detail = f"{agree} of {NODES} know three voters, two votes for a small change, phase 1"
    view.checked("one_charter_everywhere", agree == NODES, detail)
    return stage


async def _met(node: NodeProcess) -> None:
    with trio.move_on_after(MEET_S):
        while min(len(known(node, kind)) for kind in ("peer", "expert")) < NODES - 1:
            await node.change()
        return
    raise LocalError(f"{node.name} did not find the others within {MEET_S:.0f} s")


# --- chapters -------------------------------------------------------------------------------------


async def _suggestion(stage: Stage) -> None:
    view, agent = stage.view, stage.nodes[0]
    view.chapter("the agent suggests something: it is shown, and nothing follows from it")
    action = Suggest(encode(SetSetting(EXTRA.code, FEWER)))
    why = "hedging computes what nobody uses"
    draft = await ask(agent.folder, "propose", action=encode(action).hex(), why=why)
    await ask(agent.folder, "submit", records=[draft["signed"]])
    seen = await stage.everywhere(str(draft["id"]), lambda one: one["by_agent"])
    view.say(f"  {seen[0]['action']['text']} (“{seen[0]['why']}”)" if seen else "")
    try:
        await stage.voted(str(draft["id"]), "ann")
        refused = ""
    except UsageError as fault:
        refused = str(fault)
    unchanged = await stage.values(EXTRA.key) == [EXTRA.default] * NODES
    ok = len(seen) == NODES and unchanged and "nobody votes on it" in refused
    view.checked("a_suggestion_is_only_shown", ok, f"{len(seen)} nodes show it; {refused}")


async def _small_change(stage: Stage) -> None:
    view, voters, nodes = stage.view, stage.voters, stage.nodes
    view.chapter("a small change: one vote is not enough, two are, and one node tries it first")
    before = await _asked(stage)
    evidence = await _measurement(stage)
    through = nodes[1].folder
    action, why = SetSetting(EXTRA.code, FEWER), "as measured: fewer experts compute"
    id = await voters.propose(through, "ann", action, why, evidence)
    stage.ids.append(id)
    await stage.voted(id, "ann")
    seen = await stage.everywhere(id, lambda one: len(one["yes"]) == 1)
    still = await stage.values(EXTRA.key)
    ok = len(seen) == NODES and {one["state"] for one in seen} == {"open"}
    ok = ok and {one["tier_name"] for one in seen} == {"deploy-minor"}
    detail = (
        f"ann's alone: {seen[0]['waits'] if seen else 'not seen'}; {_in_words(still)} as before"
    )
    view.checked("one_vote_is_not_enough", ok and still == [EXTRA.default] * NODES, detail)
    view.say("  ben votes for it, too: node 1 is the canary")
    await stage.voted(id, "ben")
    await _canary(stage, id)
    seen = await stage.everywhere(id, lambda one: one["state"] == "enacted")
    found = await stage.values(EXTRA.key)
    detail = f"after {CANARY_S} s and the canary's report: {_in_words(found)} everywhere"
    view.checked("promoted_after_the_canary", found == [FEWER] * NODES, detail)
    after = await _asked(stage)
    detail = f"{before:.1f} experts replied to node 3 for each token before, {after:.1f} do now"
    # One fewer was asked; a reply may come too late to be counted.
    view.checked("the_router_does_as_was_voted", before - after > 1 / 3, detail)


async def _canary(stage: Stage, id: str) -> None:
    """Node 1 goes by the new value before the others; it answers meanwhile, to have something to
    report on."""
    tried: list[list[int]] = []

    async def look() -> bool:
        values = await stage.values(EXTRA.key)
        if values[0] == FEWER:
            tried.append(values)
        return bool(tried)

    await until(look)
    seen = await stage.proposal(stage.nodes[0], id)
    await _answer(stage, stage.nodes[0], {})
    values = tried[0] if tried else []
    alone = values == [FEWER, EXTRA.default, EXTRA.default]
    state = "" if seen is None else seen["state"]
    detail = f"node 1 ({state}) has {_in_words(values[:1])}, the others {_in_words(values[1:])}"
    stage.view.checked("a_canary_tries_it_first", alone and state == "canary", detail)


async def _unknown_action(stage: Stage) -> None:
    view = stage.view
    view.chapter("an action that no node knows, asked for as a suggestion")
    like = SetSetting(EXTRA.code, 1)
    id = await stage.voters.propose_unknown(stage.nodes[2].folder, "cy", like, UNKNOWN)
    before = [await stage.settings(node) for node in stage.nodes]
    await stage.voted(id, "ann", "ben", "cy", through=2)
    seen = await stage.everywhere(id, lambda one: len(one["yes"]) == 3)
    after = [await stage.settings(node) for node in stage.nodes]
    ok = len(seen) == NODES and all(
        one["tier"] == 4 and one["escalated"] and not one["can_be_done"] for one in seen
    )
    said = f"{seen[0]['tier_name']}: {seen[0]['why_tier']}" if seen else "not seen"
    detail = f"{said}; three votes for it, and nothing changed"
    view.checked("an_unknown_action_ends_at_deploy_major", ok and before == after, detail)


async def _large_change(stage: Stage) -> None:
    """Its review, in which the second and the third of the small changes are made."""
    view, voters, through = stage.view, stage.voters, stage.nodes[2].folder
    view.chapter("a large change: a majority of all voters, and an hour for everybody to look")
    view.say(f"  On these nodes' test clock an hour of review takes {HOUR_S:.0f} s.", "dim")
    low, high = EXTRA.bounds.low, 2 * EXTRA.bounds.high
    action = SetBounds(EXTRA.code, low, high)
    id = await voters.propose(through, "cy", action, "room for larger swarms")
    began = trio.current_time()
    await stage.voted(id, "cy", through=2)
    one_vote = await stage.everywhere(id, lambda one: len(one["yes"]) == 1)
    await stage.voted(id, "ben", through=2)
    passed = await stage.everywhere(id, lambda one: one["state"] == "passed")
    bounds = [(await stage.settings(node))[EXTRA.key]["high"] for node in stage.nodes]
    waits = passed[0]["waits"] if passed else ""
    ok = len(one_vote) == len(passed) == NODES and {o["state"] for o in one_vote} == {"open"}
    ok = ok and "review" in waits and bounds == [EXTRA.bounds.high] * NODES
    told = one_vote[0]["waits"] if one_vote else "not seen"
    view.checked("a_large_change_waits", ok, f"{told}, then with two of three: {waits}")
    await _two_more(stage)
    await stage.everywhere(id, lambda one: one["state"] == "enacted")
    took = trio.current_time() - began
    highs = [(await stage.settings(node))[EXTRA.key]["high"] for node in stage.nodes]
    detail = f"after {took:.1f} s every node has bounds of {low} to {high}"
    view.checked("in_force_after_its_review", highs == [high] * NODES and took >= HOUR_S, detail)


async def _two_more(stage: Stage) -> None:
    evidence = sha256((stage.folder / MEASURED).read_bytes()).digest()
    for setting, value in CHANGES[1:]:
        action = SetSetting(setting.code, value)
        folder = stage.nodes[1].folder
        id = await stage.voters.propose(folder, "ben", action, "one of three", evidence)
        stage.ids.append(id)
        await stage.voted(id, "ben", "cy")
    for id in stage.ids[1:]:
        await stage.everywhere(id, lambda one: one["state"] == "enacted")
    found = [await _changes_in_force(stage, node) for node in stage.nodes]
    detail = f"three settings are changed on {found.count(3)} of {NODES} nodes"
    stage.view.checked("three_changes_are_in_force", found == [3] * NODES, detail)


async def _changes_in_force(stage: Stage, node: NodeProcess) -> int:
    settings = await stage.settings(node)
    return sum(settings[setting.key]["value"] == value for setting, value in CHANGES)


async def _halt(stage: Stage) -> None:
    view, voters, nodes = stage.view, stage.voters, stage.nodes
    view.chapter("a halt in the middle freezes everything, and takes the last three changes back")
    action = SetBounds(WAIT_COST.code, 0, WAIT_COST.bounds.high)
    id = await voters.propose(nodes[0].folder, "ann", action, "the halt comes before its hour")
    await stage.voted(id, "ann", "cy", through=0)
    await stage.everywhere(id, lambda one: one["state"] == "passed")
    order, data = voters.halt("ann")
    await hand_over(nodes[1].folder, [data], ACKS_S, as_json=False)
    view.ordered(nodes[1], order)
    for node in nodes:
        await node.wait_for("halted", SPREAD_S)

    async def taken_back() -> bool:
        return [await _changes_in_force(stage, node) for node in nodes] == [0] * NODES

    ok = await until(taken_back)
    journal = (await ask(nodes[2].folder, "governance"))["journal"]
    why = {entry["taken_back"] for entry in journal if entry["proposal"] in stage.ids}
    detail = f"all three settings are as before on all nodes; the journal says: {_one(why)}"
    view.checked("a_halt_takes_three_changes_back", ok and "a halt took it back" in why, detail)
    await _frozen(stage, id)
    await _resume(stage, id, order)


async def _frozen(stage: Stage, id: str) -> None:
    """Past the hour of what was under review."""
    view, nodes = stage.view, stage.nodes
    with view.waiting("the hour of review goes by, halted"):
        await trio.sleep(HOUR_S + 0.5)
    seen = await stage.everywhere(id, lambda one: "halted" in one["waits"])
    lows = [(await stage.settings(node))[WAIT_COST.key]["low"] for node in nodes]
    try:
        await stage.voters.propose(nodes[2].folder, "cy", SetSetting(EXTRA.code, 2), "now")
        refused = ""
    except HaltedError as fault:
        refused = str(fault)
    ok = len(seen) == NODES and {one["state"] for one in seen} == {"passed"}
    ok = ok and lows == [WAIT_COST.bounds.low] * NODES and "suspended" in refused
    detail = f"past its hour the large change waits: {seen[0]['waits'] if seen else 'not seen'}"
    view.checked("halted_nothing_is_put_into_force", ok, detail)


async def _resume(stage: Stage, id: str, order: Halt) -> None:
    view, nodes = stage.view, stage.nodes
    data = stage.voters.resume("ann", order, ("ben", "cy"))
    await hand_over(nodes[0].folder, [data], ACKS_S, as_json=False)
    for node in nodes:
        await node.wait_for("resumed", SPREAD_S)
    await stage.everywhere(id, lambda one: one["state"] == "enacted")
    back = [await _changes_in_force(stage, node) for node in nodes]
    lows = [(await stage.settings(node))[WAIT_COST.key]["low"] for node in nodes]
    ok = back == [0] * NODES and lows == [0] * NODES
    detail = "the three stay taken back, and the large change, its hour over, comes into force"
    view.checked("resumed_by_two", ok, detail)


# --- the end --------------------------------------------------------------------------------------


async def _farewell(stage: Stage, fleet: Fleet) -> None:
    codes = await fleet.leave(stage.nodes, FAREWELL_S)
    told = ", ".join(f"{name} {code}" for name, code in codes.items())
    stage.view.checked("clean_farewell", set(codes.values()) == {0}, f"exit codes: {told}")


async def _ledger(stage: Stage) -> None:
    view, folder = stage.view, stage.nodes[1].folder
    view.chapter("somebody edits one entry of a ledger on the disk")
    with view.waiting("the ledger of node 2 is verified, edited, and verified again"):
        good = await _verified(folder)
        number = await trio.to_thread.run_sync(_edit, folder / "ledger.sqlite")
        bad = await _verified(folder)
    detail = f"{good.get('entries', 0)} entries verified before"
    view.checked("a_ledger_is_whole", bool(good.get("ok")), detail)
    faults = bad.get("faults") or ["nothing"]
    detail = f"entry {number} was edited; `swarmllm ledger verify`: {faults[0]}"
    view.checked("an_edited_entry_is_found", bad.get("ok") is False, detail)


async def _verified(folder: Path) -> Record:
    """What `swarmllm ledger verify` says of this folder."""
    command = [sys.executable, "-P", "-m", "swarmllm", "ledger", "verify", str(folder), "--json"]
    done = await trio.run_process(
        command, capture_stdout=True, capture_stderr=True, check=False, stdin=subprocess.DEVNULL
    )
    lines = done.stdout.decode().splitlines()
    return dict(json.loads(lines[-1])) if lines else {}


def _edit(file: Path) -> int:
    """One bit of one entry in the middle, as somebody does it who has the disk."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("DROP TRIGGER entry_stays")
        (count,) = connection.execute("SELECT count(*) FROM entry").fetchone()
        number = count // 2
        (leaf,) = connection.execute("SELECT leaf FROM entry WHERE number = ?", [number]).fetchone()
        edited = leaf[:-1] + bytes([leaf[-1] ^ 1])
        connection.execute("UPDATE entry SET leaf = ? WHERE number = ?", [edited, number])
    return int(number)


# --- answers --------------------------------------------------------------------------------------


async def _answer(stage: Stage, node: NodeProcess, asked: Record) -> list[Record]:
    """The tokens of one answer of K experts each; `asked` says more, or leaves it to the swarm."""
    request = {"prompt": stage.cast.first.text, "max_tokens": TOKENS, "seed": 1, "k": K, **asked}
    tokens: list[Record] = []
    with trio.move_on_after(ANSWER_S):
        async with asking(node.folder, "generate", **request, **stage.cast.sampling) as records:
            async for record in records:
                stage.view.streamed(node, record)
                if record["event"] == "token":
                    tokens.append(record)
        return tokens
    raise LocalError(f"{node.name} did not finish its answer within {ANSWER_S:.0f} s")


async def _asked(stage: Stage) -> float:
    """How many experts answer node 3 for each token, those of which it needs no answer any more
    included, where nobody but the swarm says how many it asks."""
    _, asked = await _counted(stage, stage.nodes[2], {})
    return asked


async def _counted(stage: Stage, node: NodeProcess, asked: Record) -> tuple[list[Record], float]:
    """An answer, and how many replies of experts came to each of its tokens."""
    before = await _replies(node)
    tokens = await _answer(stage, node, asked)
    await trio.sleep(LATE_S)
    return tokens, (await _replies(node) - before) / max(1, len(tokens))


async def _replies(node: NodeProcess) -> int:
    rows = (await ask(node.folder, "experts"))["experts"]
    return sum(int(row["replies"]) for row in rows)


async def _measurement(stage: Stage) -> bytes:
    """The same answer of node 1 as it is set and as it would be, in the place of a report of
    `swarmllm validate set`, which takes minutes. SHA-256 of the file."""
    rows = []
    for extra in (EXTRA.default, FEWER):
        tokens, asked = await _counted(stage, stage.nodes[0], {"extra": extra})
        rows.append(
            {
                EXTRA.key: extra,
                "tokens": len(tokens),
                "replies": round(asked, 2),
                "round_ms": round(_mean([token["round_ms"] for token in tokens]), 1),
            }
        )
    text = json.dumps(rows, indent=1) + "\n"
    (stage.folder / MEASURED).write_text(text, encoding="ascii")
    told = [f"{row['replies']} replies and {row['round_ms']} ms a token" for row in rows]
    stage.view.say(f"  measured: {told[0]} as it is, {told[1]} with the change", "dim")
    stage.view.say(
        "  (where a report of `swarmllm validate set` belongs, which takes some minutes)", "dim"
    )
    return sha256(text.encode()).digest()


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0


def _in_words(values: Sequence[int]) -> str:
    distinct = sorted(set(values))
    return f"{EXTRA.key} = {' and '.join(map(str, distinct))}"


def _one(sentences: set[str]) -> str:
    return next(iter(sorted(sentences - {""})), "nothing")
