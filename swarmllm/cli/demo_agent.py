"""`swarmllm demo --agent`: five node processes, one setting that makes their answers slow, and an
agent that finds it, says so, simulates a change, and waits for two people to vote for it.

The experts are as far away as volunteers on the internet, so that a token takes time on the line
and little of a processor: what hedging costs and brings here does not depend on how many cores all
of them share. In turn each stands still for a moment, as a laptop does that has something else to
do. The charter says that nobody is asked beyond those that are needed, and that each is waited for,
so each such moment stops an answer. Nobody tells the agent. Each sentence at the end is a check on
what the processes said when asked; exit code 0 only if each of them held.
"""

from __future__ import annotations

import itertools
import secrets
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final

import trio

from swarmllm.adapters.datadir import DataDir
from swarmllm.adapters.keyfile import load_or_create_key
from swarmllm.cli.demo_cast import tiny_cast
from swarmllm.cli.demo_chart import Load, check_picture, draw, lines_of
from swarmllm.cli.demo_links import distances
from swarmllm.cli.demo_stage import PROGRAM, Stage, until
from swarmllm.cli.demo_view import DemoView, known
from swarmllm.cli.demo_voters import CANARY_S, Voters
from swarmllm.cli.fetching import fetched
from swarmllm.cli.guard import run
from swarmllm.cli.output import answer, print_record
from swarmllm.cli.processes import Fleet, NodeProcess, kill_all, open_fleet
from swarmllm.cli.screen import Line
from swarmllm.core.agent.charter import Grant
from swarmllm.core.settings.setting import Setting
from swarmllm.core.settings.table import EXTRA, PATIENCE_FLOOR, SETTINGS
from swarmllm.errors import LocalError
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.runtime.service.record import Record

EXPERTS: Final = 4
FAULT: Final[Mapping[Setting[Any], int]] = {EXTRA: 0, PATIENCE_FLOOR: 2_000}
"""What the charter starts with: nobody is asked beyond those that are needed, and each of them is
waited for two seconds longer than usual."""
WEIGHTS: Final = {"bytes": 0.0, "computed": 0.0}
"""Of its objective: users' time alone counts, since volunteers' machines are idle."""
START_S: Final = 90.0
MEET_S: Final = 120.0  # Long enough for a machine that is busy with other work.
LOAD_S: Final = 20.0  # Each expert stands still twice.
CYCLE_S: Final = 240.0
ANSWER_TOKENS: Final = 200  # In its first round an answer waits for all, whoever is asked beyond.
# One way, each expert's own, and how much it varies (`testing.proxy.Link`).
DELAYS_S: Final = (0.030, 0.040, 0.050, 0.060)
JITTER: Final = 0.2
# How long an expert's machine stands still, and the time until the next one's does.
STILL_S: Final = 1.5
BETWEEN_S: Final = 1.0
LATE: Final = 0.03  # Of the tokens: as many as the agent's rules are about.
RECOVERED: Final = 1.15  # Times the tokens/s of before.
FAREWELL_S: Final = 15.0
DOMAIN: Final = "scheduling"


@dataclass
class Scene:
    stage: Stage
    fleet: Fleet
    loads: list[Load] = field(default_factory=list)

    @property
    def asker(self) -> NodeProcess:
        return self.stage.nodes[0]

    @property
    def experts(self) -> Sequence[NodeProcess]:
        return self.stage.nodes[1:]


def agent_demo(config: Config, *, as_json: bool, keep: bool, picture: Path | None) -> int:
    if picture is not None:
        check_picture(picture)
    view = DemoView(answer(), as_json=as_json)
    fleets: list[Fleet] = []
    folder = Path(tempfile.mkdtemp(prefix="swarmllm-demo-"))
    try:
        with view.silence:
            return run(
                lambda: _story(config, view, folder, fleets, picture),
                at_force=lambda: kill_all(fleets),
            )
    finally:
        if keep:
            view.say(f"The nodes' folders and logs are in {folder}", "dim")
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def _story(
    config: Config, view: DemoView, folder: Path, fleets: list[Fleet], picture: Path | None
) -> int:
    began = trio.current_time()
    first = Line().append("A swarm that mends itself", "bold")
    view.say(
        first.append(
            ": five nodes on this machine; node 1 asks the experts of the four others, and ann, ben"
            " and cy vote."
        )
    )
    for expert in dict.fromkeys(tiny_cast().experts):
        await fetched(expert, config, as_json=view.as_json)
    async with open_fleet(folder, PROGRAM) as fleet:
        fleets.append(fleet)
        async with _awake(config, view, fleet, folder) as scene:
            async with _standing_still(scene.experts):
                await _slow(scene)
                proposal = await _cycle(scene)
                if proposal is not None:
                    await _votes(scene, proposal)
                    await _recovered(scene, proposal)
            await _farewell(scene)
    if picture is not None:
        draw(scene.loads, picture)
        view.say(f"The picture is {picture}", "dim")
    return 0 if view.summary(trio.current_time() - began) else 1


# --- coming to life -------------------------------------------------------------------------------


@asynccontextmanager
async def _awake(
    config: Config, view: DemoView, fleet: Fleet, folder: Path
) -> AsyncIterator[Scene]:
    """Five nodes, and the lines between the first one and the others."""
    view.chapter("they start under a charter that asks nobody beyond those it waits for")
    asker_folder = folder / "node-1"
    asker_folder.mkdir(mode=0o700)
    # The charter names the agent's key, so that comes before the charter.
    agent = load_or_create_key(DataDir(asker_folder).key_file)
    voters = Voters(agent.public_key, values=FAULT, phase=3, grant=Grant(weights=WEIGHTS))
    cast = tiny_cast()
    options = {
        "--swarm": f"demo-{secrets.token_hex(4)}",
        "--charter": voters.write(folder / "charter"),
        "--cache-dir": config.cache_dir,
        "--listen": "127.0.0.1",
        "--port": 0,
        "--threads": 1,
    }
    flags = ["--no-lan", *(str(word) for option in options.items() for word in option)]
    names = ["(none: it asks)", *cast.names[:EXPERTS]]
    async with AsyncExitStack() as stack:
        with view.board(fleet.nodes, names), view.waiting("four nodes load their experts"):
            asker = await fleet.start("node 1", [*flags, "--model", "none", "--agent"])
            address = str((await asker.wait_for("listening", START_S))["addrs"][0])
            lines = await stack.enter_async_context(distances(address, DELAYS_S, JITTER))
            for number, (expert, line) in enumerate(zip(cast.experts, lines, strict=True), start=2):
                # Their owners let others go first: so it is known who the canary is.
                more = ["--no-canary", "--model", str(expert), "--peer", line]
                await fleet.start(f"node {number}", [*flags, *more])
            for node in fleet.nodes:
                await node.wait_for("ready", START_S)
            await _met(asker)
        low, high = (round(1000 * end(DELAYS_S)) for end in (min, max))
        view.say(
            f"  Between node 1 and each expert lies a line of {low} to {high} ms in each direction;"
            f" {', '.join(f'{one.key} is {value}' for one, value in FAULT.items())}.",
            "dim",
        )
        yield Scene(Stage(view, list(fleet.nodes), voters, cast, folder), fleet)


async def _met(asker: NodeProcess) -> None:
    with trio.move_on_after(MEET_S):
        while len(known(asker, "expert")) < EXPERTS:
            await asker.change()
        return
    raise LocalError(f"{asker.name} did not find the experts within {MEET_S:.0f} s")


@asynccontextmanager
async def _standing_still(nodes: Sequence[NodeProcess]) -> AsyncIterator[None]:
    """One machine after the other stands still for a moment, for as long as the block lasts."""

    async def turn() -> None:
        while True:
            for node in nodes:
                node.send(signal.SIGSTOP)
                try:
                    await trio.sleep(STILL_S)
                finally:
                    node.send(signal.SIGCONT)
                await trio.sleep(BETWEEN_S)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turn)
        yield
        nursery.cancel_scope.cancel()


# --- chapters -------------------------------------------------------------------------------------


async def _slow(scene: Scene) -> None:
    """Answers while experts stand still in turn."""
    view = scene.stage.view
    view.chapter("the experts' machines stand still in turn, and answers are slow")
    view.say(f"  One for {STILL_S:g} s, and after {BETWEEN_S:g} s the next one.", "dim")
    with view.waiting("node 1 asks, and its answers are counted"):
        before = Load("before", LOAD_S, await _load(scene, LOAD_S))
    _counted(scene, before)
    late = late_share(before.tokens)
    detail = f"{before.rate:.1f} tokens/s; {100 * late:.0f} % of them wait for somebody"
    view.checked("answers_are_slow", late > LATE, detail)


def _counted(scene: Scene, load: Load) -> None:
    scene.loads.append(load)
    if scene.stage.view.as_json:
        tokens = [round(at, 3) for at in load.tokens]
        print_record({"event": "load", "title": load.title, "s": load.seconds, "tokens_at": tokens})
    scene.stage.view.say(f"  {told(load)}")


def told(load: Load) -> str:
    """What somebody who reads the answers notices."""
    gaps = sorted(gaps_of(load.tokens))
    if not gaps:
        return f"{len(load.tokens)} tokens in {load.seconds:.0f} s"
    half, slow = gaps[len(gaps) // 2], gaps[-max(1, len(gaps) // 20)]
    return (
        f"{len(load.tokens)} tokens in {load.seconds:.0f} s, {load.rate:.1f} a second: half of them"
        f" came within {1000 * half:.0f} ms, one of twenty took {1000 * slow:.0f} ms or longer"
    )


def late_share(tokens: Sequence[float]) -> float:
    """Of the tokens that came at these times, how many came after three times the median wait."""
    gaps = gaps_of(tokens)
    return sum(gap > 3 * median(gaps) for gap in gaps) / len(gaps) if gaps else 0.0


def gaps_of(tokens: Sequence[float]) -> list[float]:
    return [b - a for a, b in itertools.pairwise(tokens)]


async def _cycle(scene: Scene) -> Record | None:
    """A cycle of node 1's agent, step by step. Its proposal; None if none waits for votes."""
    view, stage = scene.stage.view, scene.stage
    view.chapter("node 1's agent looks at what its node has recorded")
    steps: list[Record] = []
    lane: Record = {}

    async def waits() -> bool:
        status = await ask(scene.asker.folder, "agent_status")
        lane.update(next(one for one in status["lanes"] if one["domain"] == DOMAIN))
        for note in status["notes"]:
            if note["domain"] == DOMAIN and note not in steps:
                steps.append(note)
                _show(view, note)
        return bool(lane["proposal"])

    with view.waiting("the agent looks, proposes and simulates"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_begin, scene.asker)
            await until(waits, CYCLE_S)
            nursery.cancel_scope.cancel()
    if not lane.get("proposal"):
        view.checked("it_says_what_would_help", False, steps[-1]["text"] if steps else "no step")
        return None
    seen = await stage.everywhere(str(lane["proposal"]), lambda one: one["by_agent"])
    if not seen:
        view.checked("it_says_what_would_help", False, "no node holds its proposal")
        return None
    proposal = seen[0]
    view.say(f"  {proposal['action']['text']}. {proposal['why']}")
    is_known = len(seen) == len(stage.nodes) and proposal["state"] == "open"
    detail = f"{proposal['action']['text']}; {len(seen)} nodes hold its proposal"
    view.checked("it_says_what_would_help", is_known, detail)
    verdicts = [str(one["text"]) for one in steps if one["step"] == "validating"]
    verdict = verdicts[-1] if verdicts else "not simulated"
    ok = verdict.endswith("better") and bool(proposal["evidence"])
    view.checked("it_was_simulated_first", ok, f"{verdict}, in paired runs with and without it")
    return proposal


async def _begin(node: NodeProcess) -> None:
    """A cycle now, if none has begun by itself."""
    with suppress(LocalError):
        async with asking(node.folder, "agent_run", domain=DOMAIN) as records:
            async for _ in records:
                pass


def _show(view: DemoView, step: Record) -> None:
    if view.as_json:
        print_record({"event": "agent_step", **step})
    view.say(f"  {step['step']}: {step['text']}", "dim")


async def _votes(scene: Scene, proposal: Record) -> None:
    stage, view, id = scene.stage, scene.stage.view, str(proposal["id"])
    view.chapter("ann and ben vote for it, and node 1 tries it first")
    setting = SETTINGS[proposal["action"]["setting"]]
    wanted = int(proposal["action"]["value"])
    before = await stage.values(setting.key)
    await stage.voted(id, "ann")
    seen = await stage.everywhere(id, lambda one: len(one["yes"]) == 1)
    still = await stage.values(setting.key)
    ok = still == before and {one["state"] for one in seen} == {"open"}
    detail = f"ann's alone: {seen[0]['waits'] if seen else 'not seen'}"
    view.checked("nothing_changes_without_two_votes", ok, detail)
    await stage.voted(id, "ben")
    tried: list[list[int]] = []

    async def is_tried() -> bool:
        values = await stage.values(setting.key)
        if values[0] == wanted and not tried:
            tried.append(values)
        return bool(tried)

    await until(is_tried)
    # It answers meanwhile, to have something to report on.
    await _load(scene, CANARY_S + 1.0)
    seen = await stage.everywhere(id, lambda one: one["state"] == "enacted")
    values = await stage.values(setting.key)
    alone = bool(tried) and tried[0] == [wanted, *before[1:]]
    detail = f"node 1 had it {CANARY_S} s before the others"
    view.checked("a_canary_tries_it_first", alone, detail)
    detail = f"{setting.key} = {wanted} on {values.count(wanted)} of {len(values)} nodes"
    view.checked("it_is_applied_everywhere", values == [wanted] * len(values), detail)


async def _recovered(scene: Scene, proposal: Record) -> None:
    view, action = scene.stage.view, proposal["action"]
    view.chapter("the machines stand still as before, and the answers come")
    with view.waiting("node 1 asks again, and its answers are counted"):
        tokens = await _load(scene, LOAD_S)
    _counted(scene, Load(f"after: {action['setting']} = {action['value']}", LOAD_S, tokens))
    for load, line in zip(scene.loads, lines_of(scene.loads), strict=True):
        view.say(f"  {line} {load.title}")
    before, after = (load.rate for load in scene.loads)
    detail = f"{before:.1f} tokens/s before, {after:.1f} now: {after / max(before, 0.1):.2f} times"
    view.checked("tokens_come_faster", after > RECOVERED * before, detail)


async def _farewell(scene: Scene) -> None:
    codes = await scene.fleet.leave(scene.stage.nodes, FAREWELL_S)
    told = ", ".join(f"{name} {code}" for name, code in codes.items())
    scene.stage.view.checked("clean_farewell", set(codes.values()) == {0}, f"exit codes: {told}")


# --- answers --------------------------------------------------------------------------------------


async def _load(scene: Scene, seconds: float) -> list[float]:
    """One answer after the other from node 1, as the swarm is set; when each token came."""
    began, tokens = trio.current_time(), list[float]()
    cast = scene.stage.cast
    request = {"prompt": cast.first.text, "max_tokens": ANSWER_TOKENS, **cast.sampling}
    with trio.move_on_after(seconds):
        while True:
            async with asking(scene.asker.folder, "generate", **request) as records:
                async for record in records:
                    if record["event"] == "token":
                        tokens.append(trio.current_time() - began)
                        scene.stage.view.silence.heard()
    return tokens
