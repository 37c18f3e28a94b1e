"""The frame of the studies: grids, keeping and resuming, records, and bad input. Points here are of
the study `halt`, small."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.errors import LocalError, UsageError
from swarmllm.sims.frame import code
from swarmllm.sims.frame import command as command_module
from swarmllm.sims.frame.code import version_of
from swarmllm.sims.frame.command import simulate
from swarmllm.sims.frame.options import parse
from swarmllm.sims.frame.points import POINTS_MAX, Point, grid, replay
from swarmllm.sims.frame.store import FILE
from swarmllm.sims.frame.summary import mean_of, summarise
from swarmllm.sims.study import Lines, Parameter, Result, Study, find
from tests import ROOT
from tests.cli.command import Finished, environment, run

SWEEP = (
    "halt",
    "--sweep",
    "nodes=20,30,40",
    "--sweep",
    "droppers=0,0.2",
    "--runs",
    "2",
    "--seed",
    "5",
)
DEADLINE_S = 120.0
COMPILED = "swarmllm.wire._sparse"


@dataclass(slots=True)
class Said:
    text: list[str] = field(default_factory=list)

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in "".join(self.text).splitlines()]


def say(*arguments: str) -> tuple[int, Said]:
    said = Said()
    code = simulate(arguments, said.text.append)
    return code, said


def essence(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what differs from run to run by its nature."""
    return [{k: v for k, v in r.items() if k not in {"time", "seconds", "key"}} for r in records]


# --- grids and values -----------------------------------------------------------------------------


def test_a_sweep_is_every_combination_in_order() -> None:
    study = find("halt")
    options = parse(study, SWEEP[1:])
    points = grid(study, options.given, options.sweep, options.seeds)
    seen = [(p.parameters["nodes"], p.parameters["droppers"], p.seed) for p in points]
    assert seen == [(n, d, s) for n in (20, 30, 40) for d in (0.0, 0.2) for s in (5, 6)]


def test_the_own_sweep_of_a_study_gives_way() -> None:
    study = find("halt")

    def sizes(*arguments: str) -> set[object]:
        options = parse(study, arguments)
        return {
            p.parameters["nodes"] for p in grid(study, options.given, options.sweep, options.seeds)
        }

    assert sizes() == set(study.sweep["nodes"])
    assert sizes("--nodes", "7") == {7}
    assert sizes("--loss", "0") == set(study.sweep["nodes"])
    assert sizes("--sweep", "loss=0,0.5") == {study.defaults["nodes"]}


@given(
    st.integers(2, 10**6),
    st.floats(0, 0.4),
    st.sampled_from(["control", "both"]),
    st.booleans(),
    st.integers(0, 2**60),
)
def test_the_replay_line_asks_for_exactly_this_point(
    nodes: int, share: float, path: str, digests: bool, seed: int
) -> None:
    study = find("halt")
    values = {**study.defaults, "nodes": nodes, "droppers": share, "path": path, "digests": digests}
    point = Point(tuple(values.items()), seed)
    words = replay(study, point).split()
    assert words[:3] == ["swarmllm", "simulate", "halt"]
    options = parse(study, words[3:])
    assert grid(study, options.given, options.sweep, options.seeds) == [point]


@given(st.floats(allow_nan=False, allow_infinity=False, width=64))
def test_a_number_is_read_as_it_is_shown(value: float) -> None:
    parameter = Parameter("x", 0.0, "")
    assert parameter.parse(parameter.show(value)) == value


BAD = [
    (("--nodes", "abc"), "--nodes 'abc'"),
    (("--nodes", "1.5"), "--nodes '1.5'"),
    (("--nodes", "1"), "--nodes 1 "),
    (("--nodes", ""), "--nodes ''"),
    (("--droppers", "nan"), "--droppers nan"),
    (("--droppers", "1.01"), "--droppers 1.01"),
    (("--droppers", "0.6", "--frozen", "0.5", "--nodes", "10"), "--frozen 0.5"),
    (("--degree-low", "9", "--degree-high", "8"), "--degree-low 9"),
    (("--path", "pigeon"), "'pigeon'"),
    (("--sweep", "nodes"), "'nodes'"),
    (("--sweep", "nodes="), "--nodes ''"),
    (("--sweep", "nodes=10,x"), "'x'"),
    (("--sweep", "wings=2"), "'wings'"),
    (("--sweep", "nodes=10", "--sweep", "nodes=20"), "nodes stands there twice"),
    (("--sweep", "nodes=10", "--nodes", "20"), "nodes is both"),
    (("--sweep", "nodes=" + ",".join(map(str, range(2, 1002))), "--runs", "101"), f"{POINTS_MAX}"),
    (("--runs", "0"), "--runs 0"),
    (("--seed", "-1"), "--seed -1"),
    (("--jobs", "many"), "--jobs 'many'"),
    (("--dask", "foo://bar"), "'foo://bar'"),
    (("--dask", "nowhere"), "'nowhere'"),
    (("--wings", "2"), "--wings"),
    (("surplus",), "surplus"),
    (("--runs",), "--runs"),
]


@pytest.mark.parametrize(("arguments", "names"), BAD, ids=lambda value: str(value)[:40])
def test_what_makes_no_sense_is_named_with_its_value(
    arguments: tuple[str, ...], names: str
) -> None:
    if "--dask" in arguments:
        pytest.importorskip("distributed")
    with pytest.raises(UsageError) as refused:
        say("halt", *arguments)
    assert names in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_unknown_study_is_named_and_those_there_are(tmp_path: Path) -> None:
    done = run(tmp_path, "simulate", "weather")
    assert done.code == 2
    assert "'weather'" in done.sentence()
    assert "halt" in done.sentence()


def test_without_a_name_the_questions_are_listed(tmp_path: Path) -> None:
    for arguments in ((), ("--help",)):
        done = run(tmp_path, "simulate", *arguments)
        assert done.code == 0
        assert "gossip" in done.out
        assert "?" in done.out


def test_help_shows_parameters_with_their_defaults(tmp_path: Path) -> None:
    done = run(tmp_path, "simulate", "halt", "--help")
    assert done.code == 0
    assert "--droppers" in done.out
    assert "[50.0 ms]" in done.out


# --- records, files, resuming ---------------------------------------------------------------------


def test_records_are_in_order_and_complete(tmp_path: Path) -> None:
    done = run(tmp_path, "simulate", *SWEEP, "--json", "--jobs", "2")
    assert done.code == 0, done.err
    records = done.records()
    assert [(r["parameters"]["nodes"], r["seed"]) for r in records] == [
        (n, s) for n in (20, 30, 40) for _ in "ab" for s in (5, 6)
    ]
    assert all(
        r["event"] == "point" and r["time"] > 0 and r["results"]["last_s"] > 0 for r in records
    )
    assert "halt: mean of 2 seeds" in done.err


def test_the_file_run_by_itself_does_the_same(tmp_path: Path) -> None:
    arguments = ("--nodes", "20", "--runs", "1", "--json")
    by_command = run(tmp_path, "simulate", "halt", *arguments)
    root = ROOT
    done = subprocess.run(
        [sys.executable, str(root / "sims" / "halt.py"), *arguments],
        capture_output=True,
        timeout=DEADLINE_S,
        check=False,
        env=environment(tmp_path, PYTHONPATH=str(root)),
    )
    by_file = Finished(done.returncode, done.stdout.decode(), done.stderr.decode())
    assert by_file.code == 0, by_file.err
    assert essence(by_file.records()) == essence(by_command.records())


def test_a_folder_gets_points_tables_and_pictures_and_nothing_is_computed_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "found")
    code, first = say(*SWEEP, "--json", "--jobs", "1", "--out", out)
    assert code == 0
    files = {path.name for path in (tmp_path / "found").iterdir()}
    assert files == {FILE, "halt.csv", "halt-summary.csv", "halt-size.png", "halt-course.png"}
    rows = list(csv.DictReader((tmp_path / "found" / "halt.csv").read_text().splitlines()))
    assert [float(row["last_s"]) for row in rows] == [
        r["results"]["last_s"] for r in first.records()
    ]
    summary = list(
        csv.DictReader((tmp_path / "found" / "halt-summary.csv").read_text().splitlines())
    )
    assert len(summary) == 6
    assert all(
        float(row["last_s_low"]) <= float(row["last_s"]) <= float(row["last_s_high"])
        for row in summary
    )
    capsys.readouterr()

    def never(*_: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(command_module, "run_here", never)
    monkeypatch.setattr(command_module, "run_pool", never)
    code, second = say(*SWEEP, "--json", "--out", out)
    assert code == 0
    assert essence(second.records()) == essence(first.records())
    assert "0 points computed, 12 reused" in capsys.readouterr().err


def test_a_torn_last_line_is_computed_again_and_the_rest_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = (*SWEEP, "--jobs", "1", "--json", "--out", str(tmp_path))
    _, first = say(*arguments)
    kept = tmp_path / FILE
    kept.write_bytes(kept.read_bytes()[:-20])
    capsys.readouterr()
    code, second = say(*arguments)
    assert code == 0
    assert "1 points computed, 11 reused" in capsys.readouterr().err
    assert essence(second.records()) == essence(first.records())


@pytest.mark.parametrize(
    "line", ["not json", "[]", '{"key": 1, "results": {}}', '{"key": "a", "results": 3}', "\udce4"]
)
def test_a_folder_with_another_file_of_that_name_is_left_alone(tmp_path: Path, line: str) -> None:
    content = line.encode(errors="surrogateescape") + b"\n"
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UsageError, match=r"line 1 of .*points\.jsonl"):
        say(*SWEEP, "--out", str(tmp_path))
    assert (tmp_path / FILE).read_bytes() == content


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="file"):
        say(*SWEEP, "--out", str(tmp_path / "file"))


def test_other_code_makes_other_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("halt", "--nodes", "20", "--runs", "1", "--out", str(tmp_path))
    say(*arguments)
    monkeypatch.setattr(command_module, "version_of", lambda _module: "another")
    capsys.readouterr()
    say(*arguments)
    assert "1 points computed, 0 reused" in capsys.readouterr().err


def test_the_version_covers_what_a_study_imports_and_not_the_frame() -> None:
    assert (
        version_of("swarmllm.sims.halt")
        == version_of("swarmllm.sims.halt")
        != version_of("swarmllm.sims.gossip")
    )
    assert len(version_of("swarmllm.sims.half_dies")) == 16


def test_the_version_is_the_same_whether_or_not_anything_is_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = "swarmllm.sims.half_dies"
    names: set[str] = set()

    def found(suffix: str) -> str:
        def find_spec(name: str) -> ModuleSpec | None:
            names.add(name)
            if name != COMPILED:
                return importlib.util.find_spec(name)
            return ModuleSpec(name, None, origin=f"/nowhere/_sparse{suffix}") if suffix else None

        monkeypatch.setattr(code, "find_spec", find_spec)
        version_of.cache_clear()
        return version_of(study)

    assert found(".abi3.so") == found(".dylib") == found("")
    assert COMPILED in names


def test_a_reader_that_leaves_ends_it_quietly(tmp_path: Path) -> None:
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "swarmllm",
            "simulate",
            "halt",
            "--nodes",
            "300",
            "--runs",
            "200",
            "--jobs",
            "2",
            "--json",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(DEADLINE_S) == 0
        assert process.stderr.read() == b""


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(
    tmp_path: Path, jobs: str
) -> None:
    out = tmp_path / "found"
    arguments = (
        "simulate",
        "halt",
        "--nodes",
        "2000",
        "--runs",
        "60",
        "--jobs",
        jobs,
        "--json",
        "--out",
        str(out),
    )
    with subprocess.Popen(
        [sys.executable, "-m", "swarmllm", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
        # A test run that was itself started in the background has SIGINT ignored, and hands that
        # down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  A test with one thread.
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(3):
            assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out_text, err_text = process.stdout.read(), process.stderr.read().decode()
        assert process.wait(DEADLINE_S) == 130, err_text
    printed = 3 + len(out_text.splitlines())
    kept = len((out / FILE).read_bytes().splitlines())
    assert 3 <= printed <= kept <= printed + 1 < 60  # A point is kept before it is printed.
    assert "Traceback" not in err_text
    assert f"{kept} of 60 points are finished; the same command goes on from there" in " ".join(
        err_text.split()
    )
    done = run(tmp_path, *arguments, deadline_s=DEADLINE_S)
    assert done.code == 0, done.err
    assert len(done.records()) == 60
    assert f"{60 - kept} points computed, {kept} reused" in done.err


# --- a fault, and where it is computed ------------------------------------------------------------


def test_a_fault_in_a_study_is_one_sentence_and_costs_no_other_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = find("halt")
    honest = study.point

    def faulty(parameters: Any, seed: int) -> Any:
        if parameters["nodes"] == 40:
            raise ZeroDivisionError("by chance")
        return honest(parameters, seed)

    broken = Study(study.module, study.parameters, study.results, faulty)
    monkeypatch.setattr("swarmllm.sims.frame.running.find", lambda _name: broken)
    with pytest.raises(LocalError, match=r"nodes.*40.*ZeroDivisionError: by chance"):
        say(*SWEEP, "--jobs", "1", "--out", str(tmp_path))
    assert len((tmp_path / FILE).read_bytes().splitlines()) == 8


def test_it_is_the_same_wherever_it_is_computed() -> None:
    pytest.importorskip("distributed")
    found = [
        essence(say(*SWEEP, "--json", *where)[1].records())
        for where in (("--jobs", "1"), ("--jobs", "2"), ("--dask", "local"))
    ]
    assert len(found[0]) == 12
    assert found[0] == found[1] == found[2]


def test_a_scheduler_that_runs_elsewhere_is_used(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        done = run(
            tmp_path,
            "simulate",
            *SWEEP,
            "--json",
            "--dask",
            cluster.scheduler_address,
            deadline_s=DEADLINE_S,
        )
    assert done.code == 0, done.err
    assert essence(done.records()) == essence(say(*SWEEP, "--json", "--jobs", "1")[1].records())


def test_a_scheduler_that_does_not_answer_is_a_clear_error(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    done = run(
        tmp_path,
        "simulate",
        *SWEEP,
        "--dask",
        "tcp://127.0.0.1:1",
        "--out",
        str(tmp_path / "found"),
    )
    assert done.code == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in done.sentence()


def test_dask_that_is_not_there_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r"pip install 'swarmllm\[cluster\]'"):
        say(*SWEEP, "--dask", "local")


# --- sums -----------------------------------------------------------------------------------------


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_a_mean_lies_within_its_interval_and_one_value_has_none(values: list[float]) -> None:
    mean = mean_of(values)
    assert mean.n == len(values)
    assert min(values) - 1e-6 <= mean.value <= max(values) + 1e-6
    assert mean.half >= 0
    assert mean.half == 0 or len(set(values)) > 1


def test_what_some_seeds_lack_is_averaged_over_those_that_have_it() -> None:
    def point(seed: int) -> Point:
        return Point((("nodes", 2),), seed)

    (summary,) = summarise(
        [
            (point(1), {"a": 1.0, "b": None, "c": [0, 1]}),
            (point(2), {"a": 3.0, "b": 5, "c": [2, 3]}),
        ]
    )
    assert (summary.get("a"), summary.get("b")) == (2.0, 5.0)
    assert (summary.means["a"].n, summary.means["b"].n) == (2, 1)
    assert summary.curves["c"] == (1.0, 2.0)
    assert summary.seeds == (1, 2)


def test_labels_say_a_unit_once() -> None:
    assert Parameter("heal_s", 1.0, "", "s").label == "heal (s)"
    assert Result("bytes_per_s", "").label == "bytes per s"
    assert Lines("a", "b", "x", ("y",), "z").limit is None
