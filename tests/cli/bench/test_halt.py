"""The arithmetic of the halting benchmark, who knows whom in it, and one tiny run of the whole."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.limits import cores
from swarmllm.cli.bench.halt import HALTS_QUICK, NODES_QUICK, USUAL, plan_of
from swarmllm.cli.bench.halt_cycle import Cycle, _after, was_cut_off
from swarmllm.cli.bench.halt_figures import MAX_GOAL_MS, P99_GOAL_MS, Result, measurements, table
from swarmllm.cli.bench.halt_host import is_records
from swarmllm.cli.bench.halt_log import Log
from swarmllm.cli.bench.halt_swarm import (
    SCENARIOS,
    behind,
    choose_droppers,
    free_ports,
    in_one_piece,
    neighbours_of,
    writers_of,
)
from swarmllm.errors import LocalError, UsageError
from swarmllm.messages import Ack, HaltDigest, PeerId, Records
from swarmllm.wire.codec import encode
from tests.cli.command import DEADLINE_S, command, environment, run


def result(name: str, cycles: list[Cycle], nodes: int = 2) -> Result:
    return Result(SCENARIOS[name], nodes, neighbours=2.0, cycles=cycles)


def cycle(flags: list[float], **more: object) -> Cycle:
    return Cycle(0, "node 0", flags=flags, cpu_to_flag_s=0.010, cpu_s=0.030, **more)  # type: ignore[arg-type]


def test_percentiles_are_over_all_nodes_and_halts_and_goals_are_those_of_the_protocol() -> None:
    found = measurements(result("plain", [cycle([10.0, 20.0]), cycle([30.0, 700.0])]), None)
    flags = {m.parameters["of"]: m for m in found if m.name == "halt: order to flag, each node"}
    assert {of: m.value for of, m in flags.items()} == {"p50": 20.0, "p99": 700.0, "max": 700.0}
    assert (flags["p99"].goal, flags["p99"].reached) == (P99_GOAL_MS, False)
    assert (flags["max"].goal, flags["max"].reached) == (MAX_GOAL_MS, True)
    assert flags["p50"].goal is None
    last = {m.parameters["of"]: m.value for m in found if m.name == "halt: order to the last flag"}
    assert last == {"p50": 20.0, "p99": 700.0, "max": 700.0}


def test_the_least_is_the_processor_time_of_all_nodes_over_all_cores() -> None:
    plain = result("plain", [cycle([10.0, 20.0])])
    assert plain.cpu_to_flag_ms == pytest.approx(5.0)
    assert plain.cpu_ms == pytest.approx(15.0)
    found = measurements(result("streaming", [cycle([10.0])], nodes=40), plain)
    flags = next(m for m in found if m.name == "halt: order to flag, each node")
    assert flags.ceiling == pytest.approx(40 * 5.0 / cores())


@pytest.mark.parametrize(("late", "reached"), [(0, True), (1, False)])
def test_one_late_token_is_too_many(late: int, reached: bool) -> None:
    found = measurements(result("streaming", [cycle([10.0], last_tokens=[5.0], late=late)]), None)
    (tokens,) = [m for m in found if m.name == "halt: tokens and scores after 1 s"]
    assert tokens.reached is reached
    assert tokens.record()["value"] == late


def test_a_missed_halt_and_a_thawed_token_are_told() -> None:
    found = measurements(
        result(
            "frozen", [cycle([10.0], missed=1, thawed=[1500.0], thawed_tokens=3, thawed_late=2)]
        ),
        None,
    )
    assert {m.name: m.reached for m in found if m.value in (1, 2)} == {
        "halt: nodes that missed it": False,
        "halt: tokens and scores later than 1 s after SIGCONT": False,
    }
    assert [m.value for m in found if m.name == "halt: tokens and scores after SIGCONT"] == [3]
    assert {m.value for m in found if m.name == "halt: SIGCONT to flag, each node"} == {1500.0}


def test_halts_that_other_programs_disturbed_count_and_those_they_did_not_are_told_besides() -> (
    None
):
    found = measurements(result("plain", [cycle([10.0]), cycle([900.0], others_cores=0.9)]), None)
    values = {(m.name, m.parameters.get("of")): m.value for m in found}
    assert values["halt: order to flag, each node", "max"] == 900.0
    assert values["halt: order to flag, undisturbed halts", "max"] == 10.0
    assert not [
        m for m in measurements(result("plain", [cycle([10.0])]), None) if "undisturbed" in m.name
    ]
    flooded = measurements(result("flood", [cycle([10.0]), cycle([20.0], others_cores=0.9)]), None)
    assert not [m for m in flooded if "undisturbed" in m.name], "the flooders are the others"


def test_nodes_that_nothing_led_to_count_and_are_told_besides() -> None:
    found = measurements(
        result("slow", [cycle([10.0, 2000.0], cut_off=[2000.0], late=3, late_cut_off=2)]), None
    )
    values = {(m.name, m.parameters.get("of")): m.value for m in found}
    assert values["halt: order to flag, each node", "max"] == 2000.0
    assert values["halt: order to flag, nodes that were cut off meanwhile", "p50"] == 2000.0
    assert values["halt: nodes that were cut off meanwhile", None] == 1
    assert values["halt: tokens and scores after 1 s", None] == 3
    assert values["halt: tokens and scores after 1 s by nodes that were cut off", None] == 2
    assert not [
        m for m in measurements(result("slow", [cycle([10.0])]), None) if "cut off" in m.name
    ]


def test_a_node_is_cut_off_while_its_last_control_stream_is_gone() -> None:
    log = Log()
    log.linked(PeerId("a"))
    log.linked(PeerId("b"))
    log.unlinked(PeerId("a"))
    assert log.report(1)["cut"] == []
    log.unlinked(PeerId("b"))
    log.unlinked(PeerId("b"))
    ((since, until),) = log.report(0)["cut"]
    assert since <= until
    log.linked(PeerId("a"))
    (closed,) = log.report(1)["cut"]
    assert closed == log.report(1)["cut"][0]
    assert was_cut_off({"cut": [closed]}, closed[0] - 1, closed[0])
    assert was_cut_off({"cut": [closed]}, closed[1], closed[1] + 1)
    assert not was_cut_off({"cut": [closed]}, closed[1] + 0.1, closed[1] + 1)
    assert not was_cut_off({"cut": [closed]}, closed[0] - 1, closed[0] - 0.1)
    log.mark()
    assert log.report(1)["cut"] == []


def test_nothing_measured_is_nothing_told() -> None:
    assert measurements(result("plain", []), None) == []


def test_every_measurement_is_in_the_table() -> None:
    found = measurements(result("frozen", [cycle([10.0], last_tokens=[5.0], thawed=[1.0])]), None)
    assert table(found).row_count == 1 + len({m.name for m in found})


def test_tokens_are_counted_after_a_moment_and_not_at_it() -> None:
    assert _after({"tokens": [1.0, 2.0], "scores": [2.5, 0.5]}, 1.0) == 2


@given(st.integers(4, 60), st.integers(0, 1_000))
def test_the_swarm_is_in_one_piece_and_nobody_is_dialled_twice(nodes: int, seed: int) -> None:
    dials = neighbours_of(nodes, random.Random(seed))
    assert in_one_piece(dials, frozenset())
    pairs = [(min(i, j), max(i, j)) for i, found in enumerate(dials) for j in found]
    assert len(pairs) == len(set(pairs))
    assert all(i != j for i, j in pairs)


@given(st.integers(8, 60), st.integers(0, 1_000))
def test_those_who_pass_nothing_on_never_cut_the_swarm(nodes: int, seed: int) -> None:
    rng = random.Random(seed)
    dials = neighbours_of(nodes, rng)
    droppers = choose_droppers(dials, 0.3, rng)
    assert len(droppers) == round(0.3 * nodes)
    assert in_one_piece(dials, droppers)


def test_behind_relays_nodes_dial_these_and_each_other_and_relays_dial_nobody() -> None:
    dials = behind(range(2), neighbours_of(18, random.Random(1)))
    assert dials[:2] == [(), ()]
    assert all(found[:2] == (0, 1) and min(found[2:]) > 1 for found in dials[2:])
    assert in_one_piece(dials, frozenset({0, 1}))  # Relays pass nothing on.


@given(st.integers(1, 128), st.integers(1, 128))
def test_writers_are_spread_evenly_and_no_more_than_wanted(nodes: int, most: int) -> None:
    writers = writers_of(list(range(nodes)), most)  # type: ignore[arg-type]
    assert len(set(writers)) == len(writers) == min(nodes, most)
    gaps = {later - earlier for earlier, later in pairwise(writers)}  # type: ignore[operator]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_nodes_listen_where_nobody_is_served_who_dials() -> None:
    ports = free_ports(40)
    assert len(set(ports)) == 40
    lowest = (
        int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
        if sys.platform == "linux"
        else 32_768
    )
    assert max(ports) < lowest
    with socket.create_server(("127.0.0.1", ports[0])):
        pass


def test_a_chain_is_cut_by_its_middle() -> None:
    chain = [(1,), (2,), ()]
    assert in_one_piece(chain, frozenset())
    assert not in_one_piece(chain, frozenset({1}))
    assert in_one_piece(chain, frozenset({2}))
    with pytest.raises(LocalError):
        choose_droppers([(1,), ()], 1.0, random.Random(1))


def test_only_frames_with_records_are_dropped() -> None:
    assert is_records(encode(Records((b"x",))))
    assert not is_records(encode(Ack(bytes(8))))
    assert not is_records(encode(HaltDigest(bytes(32), 1, bytes(8))))


def test_the_plan_takes_what_was_asked_for() -> None:
    quick = plan_of(None, None, [], every=False, quick=True)
    assert (quick.nodes, quick.halts) == (NODES_QUICK, HALTS_QUICK)
    assert [s.name for s in quick.scenarios] == list(USUAL)
    assert [s.name for s in plan_of(5, 1, ["slow", "slow"], every=False, quick=True).scenarios] == [
        "slow"
    ]
    assert len(plan_of(5, 1, [], every=True, quick=False).scenarios) == len(SCENARIOS)


@pytest.mark.parametrize(
    ("nodes", "halts", "name"),
    [(1, 5, "plain"), (500, 5, "plain"), (5, 0, "plain"), (5, 5, "calm")],
)
def test_nonsense_is_refused_in_one_sentence(nodes: int, halts: int, name: str) -> None:
    with pytest.raises(UsageError):
        plan_of(nodes, halts, [name], every=False, quick=False)


@pytest.mark.slow
def test_four_nodes_are_halted_in_the_middle_of_their_answers(tmp_path: Path) -> None:
    arguments = (
        "bench",
        "halt",
        "--nodes",
        "4",
        "--halts",
        "3",
        "--scenario",
        "streaming",
        "--json",
    )
    done = run(tmp_path, *arguments, deadline_s=300)
    assert done.code == 0, done.err
    records = done.records()
    halts = [r for r in records if r["event"] == "halt"]
    assert [len(halt["flag_ms"]) for halt in halts] == [4, 4, 4]
    assert all(
        halt["missed"] == 0 and halt["tokens_per_s"] > 0 and min(halt["flag_ms"]) > 0
        for halt in halts
    )
    assert len({halt["by"] for halt in halts}) == 3
    found = {
        (r["name"], r["parameters"].get("of")): r for r in records if r["event"] == "measurement"
    }
    assert found["halt: tokens and scores after 1 s", None]["value"] == sum(
        halt["late_tokens"] for halt in halts
    )
    slowest = max(max(halt["flag_ms"]) for halt in halts)
    assert found["halt: order to flag, each node", "max"]["value"] == pytest.approx(
        slowest, abs=0.1
    )


@pytest.mark.slow
def test_an_interrupted_run_tells_what_it_has_and_leaves_no_process_behind(tmp_path: Path) -> None:
    arguments = command(
        "bench", "halt", "--nodes", "4", "--halts", "1000", "--scenario", "plain", "--json"
    )
    with subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(tmp_path),
    ) as bench:
        assert bench.stdout is not None
        assert '"event":"halt"' in bench.stdout.readline()
        below = psutil.Process(bench.pid).children(recursive=True)
        assert len(below) >= 4
        os.kill(below[-1].pid, signal.SIGSTOP)  # A stopped one goes, too.
        began = time.monotonic()
        bench.send_signal(signal.SIGINT)
        rest = bench.stdout.read()
        assert bench.wait(DEADLINE_S) == 130
        assert '"name":"halt: order to flag, each node"' in rest, time.monotonic() - began
        _, left = psutil.wait_procs(below, timeout=DEADLINE_S)
        assert not [p for p in left if p.status() != psutil.STATUS_ZOMBIE]
