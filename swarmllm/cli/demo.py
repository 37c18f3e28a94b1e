"""`swarmllm demo` runs four node processes on this machine, each with its own key, data folder and
expert.

They answer together, lose one in the middle of an answer and get it back, and are stopped by one
operator (`demo_halt`).

Every sentence that the demo says of itself is a check on what the processes reported or on the
processes themselves; it exits 0 only if each of them held. Each wait ends by itself, and nothing
that was started here outlives it.
"""

from __future__ import annotations

import json
import secrets
import signal
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import psutil
import trio

from swarmllm.adapters.models.library import TINY as TINY_REMARK
from swarmllm.adapters.temporary_folder import temporary_folder
from swarmllm.cli.demo_cast import NODES, Cast, K, Prompt, real_cast, tiny_cast
from swarmllm.cli.demo_halt import halt_and_resume
from swarmllm.cli.demo_view import DemoView, known
from swarmllm.cli.dht_probe import providers
from swarmllm.cli.fetching import fetched
from swarmllm.cli.first_model import Chosen, brought, choose
from swarmllm.cli.guard import run
from swarmllm.cli.operators.throwaway_keys import Ring
from swarmllm.cli.output import answer
from swarmllm.cli.processes import Fleet, NodeProcess, is_alive, kill_all, open_fleet
from swarmllm.cli.rounds import RoundTable, mean_bytes, uses
from swarmllm.cli.screen import Line
from swarmllm.errors import LocalError
from swarmllm.runtime.config import Config
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.runtime.model_reference import AUTO, Auto, SmolLM2
from swarmllm.runtime.service.record import Record

# How a whole answer ended, for people.
ENDS: Final = {"length": "complete to its limit", "eos": "complete to the model's own end"}
START_S: Final = 90.0  # Four nodes load at once; on two busy cores that takes a fifth of this.
MEET_S: Final = 45.0
DHT_S: Final = 20.0
ANSWER_S: Final = 90.0
# A killed process resets its connections at once; a silent peer is noticed after 6 s.
NOTICE_S: Final = 15.0
# Nobody waits for it but the check; on an idle machine it takes half a second.
FAREWELL_S: Final = 15.0
HTTP_TOKENS: Final = 16
KILL_AFTER: Final = 12  # Tokens of the second answer.
# Per expert and token, positions of drafts that were not accepted included: a peer's limit.
BYTES_MAX: Final = 2000
# Tokens that must have come after it, or the answer was not caught in its middle.
AFTER_KILL: Final = 8
ATTEMPTS: Final = 3  # A model may end its text early by itself; then another seed is drawn.


def demo(config: Config, *, as_json: bool, keep: bool, yes: bool, tiny: bool) -> int:
    config = replace(config, model=AUTO)
    chosen = choose(config, yes=yes, tiny=tiny, as_json=as_json)
    assert chosen is not None, "the model is not left open"
    view = DemoView(answer(), as_json=as_json)
    fleets: list[Fleet] = []
    with temporary_folder(keep=keep) as folder:
        try:
            with view.silence:
                return run(
                    lambda: _story(config, chosen, view, folder, fleets),
                    at_force=lambda: kill_all(fleets),
                )
        finally:
            if keep:
                view.say(f"The nodes' folders and logs are in {folder}", "dim")


async def _story(
    config: Config, chosen: Chosen, view: DemoView, folder: Path, fleets: list[Fleet]
) -> int:
    began = trio.current_time()
    first = Line().append("Four nodes on this machine", "bold")
    view.say(
        first.append(
            ", each a process with its own identity, data folder and expert; none is in charge."
        )
    )
    cast = await _cast(config, chosen, view)
    view.say(cast.told, "dim")
    swarm = f"demo-{secrets.token_hex(4)}"  # Apart from any other demo on this machine.
    ring = Ring()
    common = _flags(config, swarm, ring.write(folder / "charter"))
    async with open_fleet(folder) as fleet:
        fleets.append(fleet)
        bootstrap = await _start(view, fleet, cast, common)
        nodes = list(fleet.nodes)
        await _meet(view, nodes, bootstrap, swarm)
        speaker, others = nodes[2], [n for n in nodes if n is not nodes[2]]
        columns = {n.peer: f"{n.name[-1]} {e}" for n, e in zip(nodes, cast.names, strict=True)}
        view.rounds = RoundTable(columns, speaker.peer)
        await _first_answer(view, speaker, cast)
        await _over_http(view, speaker, cast)
        workers = [worker for node in nodes for worker in node.workers()]
        victim = await _second_answer(view, speaker, others, cast)
        place = nodes.index(victim)
        await _survivors(view, [n for n in nodes if n is not victim], victim)
        nodes[place] = await _comes_back(
            view, fleet, victim, nodes, [*common, "--model", str(cast.experts[place])]
        )
        workers += nodes[place].workers()
        view.rounds = RoundTable(columns, speaker.peer)
        await halt_and_resume(view, nodes, ring, cast)
        await _farewell(view, fleet, nodes, workers)
    return 0 if view.summary(trio.current_time() - began) else 1


async def _cast(config: Config, chosen: Chosen, view: DemoView) -> Cast:
    """The real one if SmolLM2 is here or could be fetched. All experts are files when this
    returns."""
    found = await brought(chosen, config, as_json=view.as_json)
    if isinstance(found, Auto):
        view.say(TINY_REMARK + ".", "yellow")
    cast = real_cast() if isinstance(found, SmolLM2) else tiny_cast()
    for expert in dict.fromkeys(cast.experts):
        await fetched(expert, config, as_json=view.as_json)
    return cast


# --- coming to life -------------------------------------------------------------------------------


def _flags(config: Config, swarm: str, charter: Path) -> list[str]:
    """What all nodes are told. The charter says who may halt them."""
    flags = {"--swarm": swarm, "--charter": charter, "--cache-dir": config.cache_dir}
    flags |= {"--listen": "127.0.0.1", "--port": 0, "--threads": 1}
    return ["--no-lan", *(str(word) for flag in flags.items() for word in flag)]


async def _start(view: DemoView, fleet: Fleet, cast: Cast, common: Sequence[str]) -> str:
    """The first node is told nothing; the others are told its address, which is returned, and
    nothing else."""
    view.chapter("they start and find each other")
    with view.board(fleet.nodes, cast.names):
        first = await fleet.start("node 1", [*common, "--model", str(cast.experts[0])])
        bootstrap = str((await first.wait_for("listening", START_S))["addrs"][0])
        for i, expert in enumerate(cast.experts[1:], start=2):
            await fleet.start(f"node {i}", [*common, "--model", str(expert), "--peer", bootstrap])
        for node in fleet.nodes:
            await node.wait_for("ready", START_S)
        for node in fleet.nodes:
            for kind in ("peer", "expert"):
                await _found_others(node, kind)
    peers = {node.peer for node in fleet.nodes}
    keys = {
        key.read_bytes() for node in fleet.nodes if (key := node.folder / "identity.pem").is_file()
    }
    real = len(peers) == len(keys) == len({n.pid for n in fleet.nodes}) == NODES
    view.checked(
        "four_processes", real, f"{len(peers)} identities, {len(keys)} data folders with a key"
    )
    return bootstrap


async def _found_others(node: NodeProcess, kind: str) -> None:
    """Until the node has reported the three other peers, or experts."""
    with trio.move_on_after(MEET_S):
        while len(known(node, kind)) < NODES - 1:
            await node.change()
        return
    raise LocalError(
        f"{node.name} found {len(known(node, kind))} of {NODES - 1} other {kind}s within"
        f" {MEET_S:.0f} s{node.last_words()}"
    )


async def _meet(view: DemoView, nodes: Sequence[NodeProcess], bootstrap: str, swarm: str) -> None:
    """What each node says of the others when asked, and what the DHT says to a stranger."""
    everybody = {node.peer for node in nodes}
    seen, experts, told = [], [], []
    for node in nodes:
        status = await ask(node.folder, "status")
        rows = {row["peer"]: row for row in (await ask(node.folder, "experts"))["experts"]}
        seen.append(set(status["peers"]) == everybody - {node.peer})
        experts.append(set(rows) == everybody)
        told.append(
            all(
                row["sessions_max"] > 0 and row["context_max"] > 0
                for peer, row in rows.items()
                if peer != node.peer
            )
        )
    view.checked(
        "everybody_sees_everybody", all(seen), f"{sum(seen)} of {NODES} are connected to the others"
    )
    view.checked(
        "everybody_knows_four_experts", all(experts), f"{sum(experts)} of {NODES} list all of them"
    )
    view.checked(
        "capacity_is_gossiped", all(told), f"{sum(told)} of {NODES} hold the others' signed records"
    )
    ready = nodes[0].found("model_ready")
    assert ready is not None
    with view.waiting("a stranger who knows one address asks the DHT"):
        found = await providers(
            bootstrap, swarm, bytes.fromhex(str(ready["vocab"])), everybody, DHT_S
        )
    detail = f"a stranger with one address was told of {len(found)}"
    view.checked("dht_names_the_experts", found == everybody, detail)


# --- speaking -------------------------------------------------------------------------------------


async def _answer(
    view: DemoView,
    speaker: NodeProcess,
    prompt: Prompt,
    cast: Cast,
    seed: int,
    seen: Callable[[Record], None],
) -> tuple[list[Record], Record]:
    """One answer through the node's own socket: its token records and its end. `seen` is called
    with each token as it comes."""
    request = {**prompt.asked(), "max_tokens": prompt.tokens, **cast.asking, "seed": seed}
    found: list[Record] = []
    with trio.move_on_after(ANSWER_S):
        async with asking(speaker.folder, "generate", **request) as records:
            async for record in records:
                if record["event"] == "token":
                    found.append(record)
                    view.token(record)
                    seen(record)
                    continue
                view.other(record)
                if record["event"] == "end":
                    return found, record
        raise LocalError(f"{speaker.name} hung up after {len(found)} tokens{speaker.last_words()}")
    raise LocalError(
        f"{speaker.name} did not finish its answer within {ANSWER_S:.0f} s:"
        f" {len(found)} tokens came{speaker.last_words()}"
    )


def _is_whole(tokens: Sequence[Record], end: Record) -> bool:
    """Every token once, in order, and the end in accordance with them."""
    in_order = [t["index"] for t in tokens] == list(range(len(tokens)))
    same_text = end["text"] == "".join(t["text"] for t in tokens)
    return (
        in_order
        and same_text
        and end["tokens"] == len(tokens) > 0
        and end["reason"] in {"length", "eos"}
    )


async def _first_answer(view: DemoView, speaker: NodeProcess, cast: Cast) -> None:
    view.chapter(f"{speaker.name} asks: {K} of {NODES} experts decide every token together")
    view.legend()
    view.say(f"  “{cast.first.text}”\n", "bold")
    tokens, end = await _answer(view, speaker, cast.first, cast, 1, lambda _: None)
    view.text(cast.first, end, tokens, speaker.peer)
    view.checked(
        "first_answer_is_whole",
        _is_whole(tokens, end),
        f"{len(tokens)} tokens, {ENDS.get(end['reason'], end['reason'])}",
    )
    full = [t for t in tokens if t["k"] == K and len({u["peer"] for u in uses(t)}) == K]
    view.checked(
        "three_experts_for_each_token",
        len(full) == len(tokens),
        f"{len(full)} of {len(tokens)} tokens, by {K} different experts",
    )
    timed = [
        t
        for t in tokens
        if t["round_ms"] > 0 and all(u["bytes"] > 0 for u in uses(t) if u["peer"] != speaker.peer)
    ]
    view.checked(
        "time_and_bytes_of_each_round",
        len(timed) == len(tokens),
        f"{len(timed)} of {len(tokens)} rounds report both",
    )
    mean = mean_bytes(tokens, speaker.peer)
    view.checked(
        "few_bytes",
        0 < mean < BYTES_MAX,
        f"{mean:.0f} per expert and token, below {BYTES_MAX}",
    )


async def _over_http(view: DemoView, speaker: NodeProcess, cast: Cast) -> None:
    """The same question as any program may ask it."""
    ready = await speaker.wait_for("ready", START_S)
    question = cast.first.asked()
    body = json.dumps({"model": "swarm", "max_tokens": HTTP_TOKENS, **question})
    path = "chat/completions" if cast.first.is_question else "completions"
    url = f"{ready['http']}/v1/{path}"
    view.say("  Other programs ask it as they ask OpenAI's API:")
    view.say(f"  curl {url} -H 'content-type: application/json' -d '{body}'", "cyan")
    request = urllib.request.Request(url, body.encode(), {"content-type": "application/json"})

    def ask_it() -> tuple[int, str]:
        with urllib.request.urlopen(request, timeout=ANSWER_S) as reply:
            choice = json.load(reply)["choices"][0]
            said = choice["message"]["content"] if cast.first.is_question else choice["text"]
            return reply.status, str(said)

    try:
        status, text = await trio.to_thread.run_sync(ask_it)
        detail = f"status {status}: “{' '.join(text.split())[:40]}”"
    except (OSError, ValueError, KeyError) as error:
        status, text, detail = 0, "", str(error)
    view.checked("it_answers_over_http", status == 200 and bool(text), detail)


async def _second_answer(
    view: DemoView, speaker: NodeProcess, others: Sequence[NodeProcess], cast: Cast
) -> NodeProcess:
    """Kill an expert that has a part in the answer, in the middle of it."""
    view.chapter(f"{speaker.name} asks again, and one of its experts is killed meanwhile")
    view.say(f"  “{cast.second.text}”\n", "bold")
    for seed in range(1, ATTEMPTS + 1):
        killed: list[tuple[NodeProcess, int]] = []

        def watch(token: Record, killed: list[tuple[NodeProcess, int]] = killed) -> None:
            if token["index"] + 1 < KILL_AFTER or killed:
                return
            helping = {u["peer"] for u in uses(token)}
            # Node 1 if it can be: the one that the others began with.
            victim = next(n for n in others if n.peer in helping)
            victim.send(signal.SIGKILL)
            killed.append((victim, token["index"]))
            view.killed(victim)

        tokens, end = await _answer(view, speaker, cast.second, cast, seed, watch)
        if killed:
            break
        view.say("  (the experts ended their text early; once more)\n", "dim")
    else:
        raise LocalError(
            f"in {ATTEMPTS} attempts no answer was longer than {KILL_AFTER} tokens,"
            " so none could be interrupted"
        )
    victim, at = killed[0]
    view.text(cast.second, end, tokens, speaker.peer)
    with trio.move_on_after(NOTICE_S):
        await victim.process.wait()
    view.checked(
        "an_expert_was_killed",
        victim.process.returncode == -signal.SIGKILL,
        f"SIGKILL to {victim.name} after token {at}",
    )
    later = [t for t in tokens if t["index"] > at]
    last = max(
        (t["index"] for t in tokens if victim.peer in {u["peer"] for u in uses(t)}), default=-1
    )
    view.checked(
        "killed_in_the_middle",
        len(later) >= AFTER_KILL and last < len(tokens) - 1,
        f"{len(later)} more tokens, the last {len(tokens) - 1 - last} without it",
    )
    view.checked(
        "second_answer_is_whole",
        _is_whole(tokens, end),
        f"{len(tokens)} tokens, none lost or doubled",
    )
    return victim


# --- afterwards -----------------------------------------------------------------------------------


async def _survivors(view: DemoView, survivors: Sequence[NodeProcess], victim: NodeProcess) -> None:
    noticed = []
    with trio.move_on_after(NOTICE_S):
        for node in survivors:
            while victim.peer in known(node, "peer"):
                await node.change()
            noticed.append(node.name)
    view.checked(
        "the_others_noticed",
        len(noticed) == len(survivors),
        f"{len(noticed)} of {len(survivors)} report that {victim.name} is gone",
    )


async def _comes_back(
    view: DemoView,
    fleet: Fleet,
    victim: NodeProcess,
    nodes: Sequence[NodeProcess],
    arguments: Sequence[str],
) -> NodeProcess:
    """Start the killed node again: the same folder, and so the same identity. Who of the others it
    was told of does not matter."""
    neighbour = next(n for n in nodes if n is not victim)
    ready = neighbour.found("ready")
    assert ready is not None
    began = trio.current_time()
    with view.waiting(f"{victim.name} is started again"):
        back = await fleet.start(victim.name, [*arguments, "--peer", str(ready["invite"])])
        await back.wait_for("ready", START_S)
        for node in nodes:
            for kind in ("peer", "expert"):
                await _found_others(back if node is victim else node, kind)
    detail = (
        f"{victim.name} is process {back.pid} now,"
        f" and all know each other again {trio.current_time() - began:.1f} s later"
    )
    view.checked(
        "the_killed_node_is_back", back.peer == victim.peer and back.pid != victim.pid, detail
    )
    return back


async def _farewell(
    view: DemoView, fleet: Fleet, nodes: Sequence[NodeProcess], workers: Sequence[psutil.Process]
) -> None:
    """Stop all as Ctrl-C would, and see that no process of theirs is left, the killed node's worker
    included."""
    codes = await fleet.leave(nodes, FAREWELL_S)
    view.checked(
        "clean_farewell",
        set(codes.values()) == {0},
        "exit codes: " + ", ".join(f"{name} {code}" for name, code in codes.items()),
    )
    left = list(workers)
    with trio.move_on_after(NOTICE_S):
        while left := [worker for worker in left if is_alive(worker)]:  # noqa: ASYNC110  They are no children of ours, and tell nobody.
            await trio.sleep(0.05)
    found = (
        f"all {len(workers)} worker processes are gone"
        if not left
        else f"still there: {sorted(w.pid for w in left)}"
    )
    view.checked("nothing_left_running", bool(workers) and not left, found)
