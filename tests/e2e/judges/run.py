"""Other people's clients, compliance suites and coding agents against a node: what passed, as a
page.

python -m tests.e2e.judges.run PYTHON NPM [--out PAGE]

PYTHON is that of the environment with the clients, NPM the folder of the packages of npm;
`scripts/judges` makes both. Every judge meets two nodes: one whose expert does as it is told, so
that a failure is the API's, and one with the real SmolLM2, if this machine has it. Exits 1 if the
first has a failure that is not explained.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests import ROOT
from tests.e2e.judges.obedient import COPIED

PACKAGES: Final = ("llm-comply", "litellm", "langchain-openai", "pydantic-ai-slim", "llm")
NPM_PACKAGES: Final = ("openai", "opencode-ai", "@openai/codex")
FORMATS: Final = ("openai-chat", "open-responses", "anthropic")
CLIENTS: Final = {
    "litellm": "LiteLLM",
    "langchain": "LangChain ChatOpenAI",
    "pydantic_ai": "pydantic-ai",
    "llm": "llm",
}
# Words behind the tool's own name, before the task.
AGENTS: Final = {
    "opencode": ["run"],
    "codex": ["exec", "--skip-git-repo-check", "--sandbox", "danger-full-access"],
}
AGENTS_TASK: Final = "copy a file"
EXPLAINED: Final = {
    "image": "experts write text alone: an image is refused, by name",
    "reasoning": "skipped by llm-comply itself: it asks for OpenAI's reasoning models",
    AGENTS_TASK: "the real model has room for 8,192 tokens, and an agent begins with more",
    "thinking": "skipped by llm-comply itself: it asks for Claude",
}
LIMIT_S: Final = 150.0

Words = list[str | Path]


@dataclass(slots=True)
class Verdict:
    """One judge's: what did not pass, each with what it says."""

    name: str
    passed: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def unexplained(self) -> list[str]:
        words = EXPLAINED.keys() - {AGENTS_TASK}  # Of the real model alone.
        return [one for one in self.failures if not any(word in one for word in words)]


def output(command: Sequence[str | Path], more: Mapping[str, str], cwd: Path = ROOT) -> str:
    """What it wrote, on either stream; it has so long, and nothing to read."""
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": str(ROOT), **more},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not within {LIMIT_S:.0f} s"
    return done.stdout + ("" if done.stdout.rstrip().endswith(("}", "]")) else done.stderr)


@contextmanager
def node(command: Sequence[str | Path], folder: Path) -> Iterator[str]:
    """The address of the API of a node that is started, and ended."""
    log = folder.with_suffix(".log")
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, cwd=ROOT)
    try:
        for _ in range(600):
            found = re.search(r"(http://127\.0\.0\.1:\d+)", log.read_text())
            if found and answers(found[1]):
                yield found[1]
                return
            if process.poll() is not None:
                break
            time.sleep(0.2)
        raise RuntimeError(f"the node did not start: {log.read_text()[-500:]}")
    finally:
        process.terminate()
        process.wait(timeout=30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ready", timeout=60) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def comply(python: Path, url: str, form: str) -> Verdict:
    verdict = Verdict(f"llm-comply, {form}")
    base = ["-u", f"{url}/v1", "-k", "none", "-m", "swarm", "--timeout", "60"]
    command: Words = [python.with_name("llm-comply"), "run", "--format", form, "--json", *base]
    for one in json.loads(output(command, {}))["results"]:
        verdict.passed += one["status"] == "passed"
        if one["status"] != "passed":
            verdict.failures[one["id"]] = (one.get("errors") or [one["status"]])[0]
    return verdict


def client(name: str, command: Sequence[str | Path]) -> Verdict:
    verdict, said = Verdict(name), output(command, {})
    try:
        found = json.loads(said.strip().splitlines()[-1])
    except (ValueError, IndexError):
        return Verdict(name, 0, {"all": said[-300:]})
    verdict.passed = sum(not why for why in found.values())
    verdict.failures = {case: why.strip().splitlines()[-1] for case, why in found.items() if why}
    return verdict


def agent(tool: str, words: list[str], npm: Path, data: Path) -> Verdict:
    """A file is read by one tool and written by another."""
    verdict = Verdict(f"{tool}, by `swarmllm run {tool}`")
    with tempfile.TemporaryDirectory(prefix="agent-") as found:
        folder, home = Path(found) / "work", Path(found) / "home"
        folder.mkdir()
        home.mkdir()
        subprocess.run(["git", "init", "-q", folder], check=True)  # Where agents may work.
        (folder / "notes.txt").write_text(COPIED)
        task = f"copy {folder}/notes.txt to {folder}/copy.txt"
        start: Words = [Path(sys.executable).with_name("swarmllm"), "run", tool, "--data-dir", data]
        bins = f"{npm / 'node_modules/.bin'}:{os.environ['PATH']}"
        said = output(
            [*start, "--", *words, task], homes(home) | {"PATH": bins, "PWD": str(folder)}, folder
        )
        copy = folder / "copy.txt"
        if copy.is_file() and copy.read_text() == COPIED:
            verdict.passed = 1
        else:
            lines = [line for line in said.splitlines() if line.strip()] or ["nothing was said"]
            errors = [line for line in lines if "error" in line.lower()]
            verdict.failures[AGENTS_TASK] = re.sub(r"\x1b\[\d+m", "", (errors or lines)[-1])
    return verdict


def homes(home: Path) -> dict[str, str]:
    """The tool finds no settings of the user's, and nothing that it must not change."""
    kinds = ("DATA", "CONFIG", "CACHE", "STATE")
    return {"HOME": str(home)} | {f"XDG_{kind}_HOME": str(home / kind) for kind in kinds}


def judged(python: Path, npm: Path, url: str, data: Path) -> list[Verdict]:
    script = npm / "openai_client.mjs"
    script.write_bytes((Path(__file__).parent / "openai_client.mjs").read_bytes())
    found = [comply(python, url, form) for form in FORMATS]
    for name, shown in CLIENTS.items():
        module = f"tests.e2e.judges.{name}_client"
        found.append(client(shown, [python, "-W", "ignore", "-m", module, url]))
    found.append(client("openai (npm)", ["node", script, url]))
    found += [agent(tool, words, npm, data) for tool, words in AGENTS.items()]
    for one in found:
        print(f"  {one.name}: {one.passed} passed, {one.failures or 'none failed'}", flush=True)
    return found


def versions(python: Path, npm: Path) -> str:
    ask = f"from importlib.metadata import version; print(*map(version, {PACKAGES!r}))"
    told = output([python, "-c", ask], {}).split()
    found = [f"{name} {number}" for name, number in zip(PACKAGES, told, strict=True)]
    for name in NPM_PACKAGES:
        package = json.loads((npm / "node_modules" / name / "package.json").read_text())
        found.append(f"{name} {package['version']} (npm)")
    return ", ".join(found)


def page(verdicts: Mapping[str, list[Verdict]], told: str) -> str:
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [
        "# The HTTP API before other people's judges",
        "",
        "Written by `scripts/judges`; do not edit. Each judge meets a node whose expert does as it",
        "is told, so that what fails is the API's, and a node with the real SmolLM2 of 135 million",
        "parameters. The agents' task takes two tools: one reads a file, the other writes it.",
        "",
        f"{day}, {platform.system()} on {platform.machine()} with {os.cpu_count()} processors,"
        f" Python {platform.python_version()}.",
        "",
        f"Versions: {told}.",
        "",
    ]
    for kind, found in verdicts.items():
        lines += [f"## {kind}", "", "| judge | passed | of | not passed |", "|---|---|---|---|"]
        lines += [row(one) for one in found] + [""]
    lines += ["## What does not pass, and why", ""]
    lines += [f"- *{word}*: {why}." for word, why in EXPLAINED.items()]
    return "\n".join(lines) + "\n"


def row(one: Verdict) -> str:
    told = "; ".join(
        name if name not in one.unexplained else f"{name}: {re.sub(r'[|`]', ' ', why)[:200]}"
        for name, why in one.failures.items()
    )
    return f"| {one.name} | {one.passed} | {one.passed + len(one.failures)} | {told} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", type=Path)
    parser.add_argument("npm", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/evidence/api.md")
    given = parser.parse_args()
    swarmllm = Path(sys.executable).with_name("swarmllm")
    verdicts: dict[str, list[Verdict]] = {}
    with tempfile.TemporaryDirectory(prefix="judges-") as found:
        obedient, real = Path(found) / "o", Path(found) / "r"
        start: Words = [sys.executable, "-m", "tests.e2e.judges.node", obedient]
        with node(start, obedient) as url:
            verdicts["An expert that does as it is told"] = judged(
                given.python, given.npm, url, obedient
            )
        join: Words = ["join", "--model", "smollm2", "--data-dir", real, "--api-port", "0"]
        start = [swarmllm, *join, "--port", "0", "--listen", "127.0.0.1", "--no-lan"]
        with node(start, real) as url:
            verdicts["SmolLM2"] = judged(given.python, given.npm, url, real)
    given.out.parent.mkdir(exist_ok=True)
    given.out.write_text(page(verdicts, versions(given.python, given.npm)))
    first = next(iter(verdicts.values()))
    return int(any(one.unexplained for one in first))


if __name__ == "__main__":
    sys.exit(main())
