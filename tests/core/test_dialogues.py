"""A node that is fed with the client's frames of the published dialogues gives the published
answers.

Cites protocols/streams.md (STREAM), expert.md (EXPERT) and halt.md (HALT)."""

from __future__ import annotations

import importlib.util
import json
from types import ModuleType
from typing import Any

import pytest

from tests import ROOT

VECTORS = json.loads(
    (ROOT / "protocols" / "vectors" / "dialogues.json").read_text(encoding="utf-8")
)
DIALOGUES = {one["name"]: one["steps"] for one in VECTORS["dialogues"]}


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "make_dialogue_vectors", ROOT / "scripts" / "make_dialogue_vectors.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = loaded()


def compared(step: dict[str, Any]) -> dict[str, Any]:
    """What must be the same: everything but the fields that the file declares free."""
    if not step.get("any"):
        return step
    fields = {name: value for name, value in step["fields"].items() if name not in step["any"]}
    return {name: value for name, value in step.items() if name != "hex"} | {"fields": fields}


def test_the_published_dialogues_are_those_of_the_script() -> None:
    assert SCRIPT.PATH.read_text(encoding="utf-8") == SCRIPT.text(), (
        "run scripts/make_dialogue_vectors.py"
    )


@pytest.mark.parametrize("name", list(DIALOGUES))
def test_a_node_answers_the_clients_frames_as_published(name: str) -> None:
    make, _ = SCRIPT.SCENES[name]
    bench = make()
    for step in DIALOGUES[name]:
        if step["from"] == "node":
            continue
        bench.wait(step["at_ms"])
        if step["from"] == "world":
            bench.local(step["event"])
        else:
            bench.says(step["stream"], bytes.fromhex(step["hex"]))
    assert [compared(step) for step in bench.steps] == [compared(step) for step in DIALOGUES[name]]


def test_the_dialogues_hold_every_answer_that_a_node_without_a_broken_model_gives() -> None:
    said = [step for steps in DIALOGUES.values() for step in steps if step["from"] == "node"]
    kinds = {step.get("type") for step in said} - {None}
    assert kinds == {
        *(
            "Scores",
            "Need",
            "Busy",
            "Refused",
            "Halted",
            "Shuffle",
            "Shuffled",
            "HaltDigest",
            "Vectors",
            "Records",
            "Ack",
        )
    }
    assert {step["fields"]["code"] for step in said if step.get("type") == "Refused"} == {
        1,
        2,
        3,
        4,
        5,
        7,
    }
    assert [step for step in said if step.get("strike")]
