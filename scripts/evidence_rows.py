"""What was asked of this project, point by point, and the command that shows each: the rows of
docs/evidence/README.md.

Nothing here says that anything holds. A row names a command, what is expected of it, and a verdict
that looks at what it printed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

State = Literal["pass", "fail", "needs"]


@dataclass(frozen=True, slots=True)
class Output:
    code: int
    out: str
    err: str

    def records(self, event: str) -> list[dict[str, Any]]:
        """The JSON lines of standard output that are of this kind."""
        found = [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]
        return [record for record in found if record.get("event") == event]


@dataclass(frozen=True, slots=True)
class Judged:
    """`observed` is a fact, with figures."""

    state: State
    observed: str


Verdict = Callable[[Output], Judged]


@dataclass(frozen=True, slots=True)
class Row:
    """`command` follows `python -m`; empty: nothing here can show it. `beyond` is what would take
    more than one small machine."""

    name: str
    asked: str
    command: tuple[str, ...]
    inputs: str
    expected: str
    verdict: Verdict
    beyond: str = ""


# --- verdicts -----------------------------------------------------------------------------------


def tests_pass(output: Output) -> Judged:
    """Of pytest's last line. What is skipped has shown nothing."""
    counts = {
        what: int(number)
        for number, what in re.findall(r"(\d+) (passed|failed|skipped|errors?)\b", output.out)
    }
    observed = ", ".join(f"{number} {what}" for what, number in counts.items()) or "no test ran"
    if output.code != 0 or not counts.get("passed"):
        reasons = re.findall(r"^SKIPPED \[\d+\] [^:]+:\d+: (.*)$", output.out, re.MULTILINE)
        is_skipped = bool(counts.get("skipped")) and output.code == 0
        return Judged("needs" if is_skipped else "fail", "; ".join([observed, *reasons[:1]]))
    return Judged("needs" if counts.get("skipped") else "pass", observed)


def tests(*names: str) -> tuple[str, ...]:
    return ("pytest", "-rs", "-p", "no:cacheprovider", "-W", "ignore", *names)


def figures(event: str, look: Callable[[Sequence[Mapping[str, Any]]], tuple[bool, str]]) -> Verdict:
    """A verdict of the JSON lines of this kind; without any, nothing was shown."""

    def verdict(output: Output) -> Judged:
        found = output.records(event)
        if output.code != 0 or not found:
            said = (output.err.strip().splitlines() or ["nothing"])[-1]
            return Judged("fail", f"code {output.code}: {said[:200]}")
        holds, observed = look(found)
        return Judged("pass" if holds else "fail", observed)

    return verdict


def _points(found: Sequence[Mapping[str, Any]], by: str, result: str) -> dict[Any, list[float]]:
    points: dict[Any, list[float]] = {}
    for record in found:
        points.setdefault(record["parameters"][by], []).append(record["results"][result])
    return points


def _distances(found: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    """Against what the origin modelled at 100 ms one way."""
    rates, wanted = _points(found, "k", "tokens_per_s"), _points(found, "k", "reference")
    means = {k: sum(values) / len(values) for k, values in rates.items()}
    holds = all(means[k] >= wanted[k][0] for k in means)
    return holds, ", ".join(f"K = {k}: {means[k]:.2f} ({wanted[k][0]:.2f})" for k in sorted(means))


def _churned(found: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    asked = sum(record["results"]["answers"] for record in found)
    finished = sum(record["results"]["finished"] * record["results"]["answers"] for record in found)
    return finished >= 0.8 * asked, f"{finished:.0f} of {asked:.0f} answers were finished"


def _audited(found: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    shares = _points(found, "cheat", "within_100")
    means = {cheat: sum(values) / len(values) for cheat, values in shares.items()}
    said = ", ".join(f"{cheat}: {100 * share:.0f} %" for cheat, share in means.items())
    return min(means.values()) >= 0.95, f"{said}, of {len(found)} cheats"


def _streams(found: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    sizes = {
        record["parameters"]["phase"]: (
            record["results"]["streams_in_all"],
            record["results"]["size"],
            record["results"]["per_stream"],
        )
        for record in found
    }
    wanted = {"3": 7, "4": 37}
    holds = all(sizes[phase][0] >= wanted.get(phase, 1) for phase in sizes)
    return holds, "; ".join(
        f"phase {phase}: {streams} streams on {size} nodes, {rate:.1f} tokens/s each"
        for phase, (streams, size, rate) in sizes.items()
    )


def _small_lists(found: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    most = max(float(record["bytes_per_expert_per_token"]) for record in found)
    return 0 < most < 2048, f"{most:.0f} bytes per expert and token in {len(found)} answers"


def _checked(*wanted: str) -> Callable[[Sequence[Mapping[str, Any]]], tuple[bool, str]]:
    """Of a demonstration's checks: those wanted, by the beginnings of their names; else all."""

    def look(found: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
        mine = [one for one in found if not wanted or str(one["name"]).startswith(wanted)]
        broken = [str(one["name"]) for one in mine if not one["ok"]]
        if broken or not mine:
            return False, f"not shown: {', '.join(broken) or ', '.join(wanted)}"
        return True, f"{len(mine)} of {len(mine)} checks hold"

    return look


def _met(found: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    (one,) = found
    return one["worst_s"] < 5, (
        f"{one['runs']} runs: median {one['median_s']:.2f} s, worst {one['worst_s']:.2f} s"
    )


def _halted(found: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    times = {
        one["name"]: float(one["value"])
        for one in found
        if one["unit"] == "ms" and one["parameters"].get("of") == "p99" and "halt" in one["name"]
    }
    said = "; ".join(f"{name}: p99 {value:.0f} ms" for name, value in times.items())
    return bool(times) and max(times.values()) <= 1000, said or "no time was told"


def _mended(found: Sequence[Mapping[str, Any]]) -> tuple[bool, str]:
    won = {record["parameters"]["fault"]: float(record["results"]["won_back"]) for record in found}
    mended = sum(share >= 0.5 for share in won.values())
    told = ", ".join(f"{fault} {100 * share:.0f} %" for fault, share in won.items())
    return mended == len(won), f"{mended} of {len(won)} faults mended by half or more: {told}"


def _shown_elsewhere(_: Output) -> Judged:
    return Judged("needs", "nothing was run here")


# --- the rows -------------------------------------------------------------------------------------

E2E: Final = "tests/e2e/"
GOVERNANCE: Final = "tests/core/governance/"
DEMO: Final = ("swarmllm", "demo", "--tiny", "--json")

ROWS: Final[tuple[Row, ...]] = (
    Row(
        "alone",
        "every node holds a whole small model",
        tests(
            f"{E2E}test_generate.py::test_without_a_node_the_bundled_expert_answers_and_nothing_stays"
        ),
        "one process, a demonstration expert from its file",
        "it answers alone",
        tests_pass,
        "LLaMA-3-8B at 4 bits: 6 GB of free memory and its file",
    ),
    Row(
        "tokenizer",
        "one tokenizer; an expert with another vocabulary shares no answer",
        tests(f"{E2E}test_vocabularies.py"),
        "node processes with models of two sizes and of another vocabulary",
        "the two sizes answer together, the other one stays out",
        tests_pass,
    ),
    Row(
        "lists",
        "K of N experts per token, lists under 2 KB, one parallel round trip",
        DEMO,
        "four node processes, three experts for each token",
        "less than 2,048 bytes per expert and token",
        figures("end", _small_lists),
    ),
    Row(
        "sizes",
        "models of several sizes answer together",
        tests(f"{E2E}test_families.py"),
        "three node processes with models of one family",
        "they meet, and chat as one",
        tests_pass,
    ),
    Row(
        "degradation",
        "with fewer experts it falls back to one local model, and says so",
        tests(
            "tests/runtime/test_swarm.py",
            "tests/core/decoding/test_requests.py::"
            "test_three_of_four_frozen_leaves_the_local_expert_and_a_notice",
            "tests/cli/test_bad_input.py::test_more_experts_than_there_are_works_with_a_notice",
        ),
        "experts that are lost, frozen, or were never there",
        "the answer goes on, down to the node's own expert, with a notice",
        tests_pass,
    ),
    Row(
        "distance",
        "tokens/s over K at 100 ms one way: 3.51, 3.18, 2.89, 2.64 at K = 2, 4, 8, 16",
        (
            *("swarmllm", "simulate", "throughput", "--sweep", "k=2,4,8,16"),
            *("--sweep", "one_way_ms=100", "--runs", "5", "--json"),
        ),
        "32 simulated experts, answers of 64 tokens, 5 seeds, no drafts",
        "at least the modelled rate (in brackets) at each K",
        figures("point", _distances),
        "real machines 100 ms apart; the bench measures it through proxies",
    ),
    Row(
        "lan",
        "a LAN of two or three nodes forms in less than 5 s",
        ("scripts.evidence_probes", "lan", "20"),
        "three processes that find each other by multicast on loopback, 20 times",
        "the worst of 20 below 5 s",
        figures("lan_summary", _met),
        "machines on a real network",
    ),
    Row(
        "install",
        "from installation to first use in less than 5 minutes",
        (),
        "a clone on a machine without `.venv`",
        "`time scripts/demo --tiny` below 300 s",
        _shown_elsewhere,
        "a fresh machine with a network; compiling llama.cpp takes minutes there",
    ),
    Row(
        "nat",
        "port mapping, then hole punching, then a relay",
        tests("tests/reach"),
        "node processes in network namespaces with NAT",
        "homes behind NAT join and answer",
        tests_pass,
        "real routers; a machine on which the tests may make network namespaces",
    ),
    Row(
        "churn",
        "80 % of the work is done at 30 % churn over 72 h",
        (
            *("swarmllm", "simulate", "churn", "--sweep", "churn=0.3", "--runs", "3"),
            *("--answers", "4", "--json"),
        ),
        "40 simulated nodes, 30 % leave in each hour, answers of 256 tokens, 3 seeds",
        "at least 80 % of the answers are finished",
        figures("point", _churned),
        "72 hours on real machines",
    ),
    Row(
        "trust",
        "trust is capped for 7 days and whole after 30",
        tests("tests/core/trust/test_reputation.py"),
        "a clock that the test turns",
        "half a word until day 7, a whole one from day 30 on",
        tests_pass,
    ),
    Row(
        "audits",
        "a cheat is found within 100 audited tasks with 95 %",
        (
            *("swarmllm", "simulate", "audits", "--sweep"),
            *("cheat=another-model,a-smaller-model,truncated-context", "--runs", "100", "--json"),
        ),
        "lists of real models, 100 seeds for each kind of cheat",
        "at least 95 % found within 100 audits",
        figures("point", _audited),
    ),
    Row(
        "imposter",
        "an expert that answers with another model is excluded",
        tests(f"{E2E}test_audits.py"),
        "node processes, one of which lies",
        "it is excluded, and nobody else",
        tests_pass,
    ),
    Row(
        "ledger",
        "a Merkle ledger, signed, witnessed every ten minutes, verifiable offline",
        tests(
            "tests/assembly/test_assembly.py::"
            "test_two_nodes_witness_each_others_ledgers_and_the_files_prove_it",
            "tests/adapters/test_ledger.py",
            "tests/core/ledger/test_witnesses.py",
            "tests/cli/ledger/test_ledger_commands.py",
        ),
        "whole nodes, their files, and whatever is done to these",
        "neighbours cosign; each change is found; the files prove themselves elsewhere",
        tests_pass,
    ),
    Row(
        "votes",
        "proposals and votes by the command line, in one ledger",
        ("swarmllm", "demo", "--governance", "--tiny", "--json"),
        "three node processes with a charter",
        "every check of the demonstration holds",
        figures("check", _checked()),
    ),
    Row(
        "web-votes",
        "votes by a web page, in the same ledger",
        tests(
            "tests/api/console/test_browser.py::"
            "test_votes_of_the_page_and_of_the_command_line_are_in_one_ledger_and_pass_a_proposal",
            "tests/api/test_voting.py",
        ),
        "a node process with a charter, its console in Chromium, and the command line",
        "one vote by each, in the node's ledger, pass a proposal; nobody votes from elsewhere",
        tests_pass,
    ),
    Row(
        "tiers",
        "five action tiers; one allowed, one refused, one escalated; unknown is the highest",
        tests(f"{GOVERNANCE}test_tiers.py", f"{GOVERNANCE}test_votes.py"),
        "every type of action, a thousand paraphrases",
        "each has the tier of its type; what is unknown is a major change",
        tests_pass,
    ),
    Row(
        "canary",
        "staging, replay, a canary of 1 % for an hour, promotion",
        tests(f"{GOVERNANCE}test_canary.py", f"{GOVERNANCE}test_review.py"),
        "several nodes under a virtual clock",
        "an agent's node tries, reports, and the others follow, or it is taken back",
        tests_pass,
        "24 hours of a real swarm to replay",
    ),
    Row(
        "phases",
        "phases 0 to 4, each refused below its size, by vote only",
        tests(f"{GOVERNANCE}test_phases.py"),
        "swarms of every size",
        "no phase opens by itself or below its size",
        tests_pass,
    ),
    Row(
        "streams",
        "1,000 nodes write 3 to 7 texts at once, 5,000 nodes 37 and more",
        (
            *("swarmllm", "simulate", "scale", "--sweep", "phase=3,4", "--load", "0.02"),
            *("--runs", "1", "--json"),
        ),
        "1,000 and 5,000 simulated nodes that run the real decisions",
        "at least 7 and 37 texts at once",
        figures("point", _streams),
        "5,000 machines",
    ),
    Row(
        "cycle",
        "self-improvement: observe, analyse, propose, validate, review, apply, measure",
        tests("tests/core/agent/test_cycle.py", "tests/core/agent/test_part.py"),
        "an agent in each phase, killed and halted at each step",
        "each step happens, and nothing beyond its phase",
        tests_pass,
    ),
    Row(
        "faults",
        "it gives an actionable result on a planted fault",
        (
            *("swarmllm", "simulate", "agent", "--sweep", "proposer=rules_search"),
            *("--sweep", "fault=no_hedge_uneven,hedge_much_busy", "--fresh", "6", "--json"),
        ),
        "simulated swarms with a setting at a bad value",
        "more than half of what the fault costs is won back",
        figures("point", _mended),
    ),
    Row(
        "tasks",
        "five types of tasks, each with a result that somebody can act on",
        tests("tests/sims/planted/test_tasks.py"),
        "a simulated swarm with a planted fault, a task of each type",
        "each result is what its type is for, and another one is none",
        tests_pass,
    ),
    Row(
        "subsets",
        "agent subsets with routers of their own, isolated from each other",
        tests("tests/core/agent/test_subsets.py", "tests/core/agent/test_isolation.py"),
        "a swarm divided into four domains; the experts of one die",
        "nothing changes in the answers of the others",
        tests_pass,
    ),
    Row(
        "rate",
        "agent subsets work at the same time: tasks per minute over 1, 2 and 4 of them",
        (),
        "four domains, each with a router of its own",
        "more tasks in a minute with more subsets",
        _shown_elsewhere,
        "a study that counts tasks over 1, 2 and 4 subsets; there is none yet",
    ),
    Row(
        "halt",
        "kill switch: signed, everything stops within a second, cannot be overridden",
        ("swarmllm", "bench", "halt", "--nodes", "50", "--halts", "5", "--json"),
        "50 node processes on this machine, 5 halts",
        "99 % of the nodes within 1,000 ms",
        figures("measurement", _halted),
        "fifty machines: here two cores run all of them",
    ),
    Row(
        "halted",
        "a halt takes the last three changes back, and votes do not lift it",
        tests(f"{GOVERNANCE}test_halts.py", "tests/runtime/test_halt.py"),
        "whole nodes, full disks, restarts, partitions",
        "halted enacts nothing; three changes go; two keys resume",
        tests_pass,
    ),
    Row(
        "grpc",
        "RegisterExpert, GetRouterStatus, SubmitSelfTask, HaltMesh",
        tests("tests/adapters/grpc_service/test_grpc_service.py"),
        "a real gRPC client and whole nodes",
        "each call does what it says",
        tests_pass,
    ),
    Row(
        "slice",
        "self-improvement uses at most a slice of 5 to 10 %",
        tests(
            "tests/core/agent/test_charter.py",
            "tests/core/agent/test_part.py::"
            "test_a_users_answer_stops_what_experts_are_asked_and_it_is_asked_again_later",
        ),
        "a budget, and users that come in between",
        "within its share of the time, and never before a user",
        tests_pass,
        "real users; `python -m scripts.agent_load --real` measures five processes in some minutes",
    ),
    Row(
        "redaction",
        "logs, metrics and traces; a secret in a prompt is in none of them",
        tests(f"{E2E}test_prompt_canary.py", "tests/adapters/test_traces.py"),
        "a node process whose prompts hold a secret; all that it writes anywhere",
        "the secret is nowhere",
        tests_pass,
    ),
    Row(
        "fractal",
        "swarms that were cut off from each other merge without loss",
        tests(
            "tests/runtime/test_halt.py::test_heal_after_partition",
            f"{GOVERNANCE}test_votes.py::test_two_proposals_one_base_converge",
        ),
        "whole nodes in two parts, each governed, joined again",
        "no lost record, no changed halt state",
        tests_pass,
        "two networks that are joined; namespaces show it in tests/reach",
    ),
    Row(
        "uses",
        "three uses: people's texts, self-improvement, drafting of governance",
        tests(
            f"{E2E}test_generate.py::test_a_conversation_keeps_its_text_and_ends_with_its_input",
            "tests/assembly/test_agent.py",
            "tests/runtime/agent/test_performer.py",
        ),
        "a conversation, an agent's task, a proposal drafted by models",
        "each ends with what was asked for",
        tests_pass,
    ),
    Row(
        "whole",
        "real parts: an answer, a killed expert, a forged halt, a halt, a resume",
        DEMO,
        "four node processes on this machine",
        "every check of the demonstration holds",
        figures("check", _checked()),
    ),
    Row(
        "hostile",
        "adversarial tests at each release",
        tests("tests/adapters/libp2p/test_hostile.py", "tests/cli/governance/test_flood.py"),
        "malformed input on every protocol, floods of records",
        "at most the sender's own connection ends",
        tests_pass,
    ),
    Row(
        "lending",
        "a volunteer's machine is given back at once",
        ("scripts.evidence_probes", "yield", "3"),
        "an answer by two processes; two programs want both cores in its middle, 3 times",
        "paused within 1 s each time, the text unchanged",
        figures(
            "yield",
            lambda found: (
                all(one["pause_s"] < 1 and one["text_unchanged"] for one in found),
                f"paused after at most {max(one['pause_s'] for one in found):.2f} s, text unchanged"
                f" in {sum(one['text_unchanged'] for one in found)} of {len(found)}",
            ),
        ),
        "a person at a laptop",
    ),
)
