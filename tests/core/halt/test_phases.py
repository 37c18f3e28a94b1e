"""The picture of the kill switch's states in protocols/halt.md against the machine: random lives
show every change that is drawn there, and no other."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from functools import cache
from typing import Final

from swarmllm.core.effects import HaltEffect, Persist
from swarmllm.core.halt.machine import HaltMachine
from tests import ROOT
from tests.core.halt.support import FIRST, A, founded, halt, live, new_machine, offered, resume

Change = tuple[str, str]
ROW: Final = re.compile(r"\| (\w+) \| (\w+) \| .* \|")
DRAWN: Final = re.compile(r'data-from="(\w+)" data-to="(\w+)"')
STATES: Final = ("waiting", "running", "halted", "lifted")
LIVES: Final = 300
STEPS: Final = 40
GUARDED: Final = founded(replace(FIRST, beacon_ttl_s=30))


class Life:
    """One machine with a disk that may be slow or full, and everything that people can do to it."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.guarded = self.rng.random() < 0.5
        self.swarm = (GUARDED if self.guarded else founded()).swarm
        self.machine: HaltMachine = new_machine(GUARDED if self.guarded else None, seed=seed)
        self.now = 0.0
        self.seq = self.beat = 0
        self.writing: list[int] = []
        self.note(self.machine.start(self.now))

    @property
    def state(self) -> str:
        if self.machine.serves:
            return "running"
        if self.machine.state.reasons:
            return "halted"
        return "lifted" if self.machine.halted else "waiting"

    def note(self, effects: list[HaltEffect]) -> None:
        self.writing += [effect.number for effect in effects if isinstance(effect, Persist)]

    def offer(self, record: bytes) -> None:
        self.note(offered(self.machine, record, self.now)[1])

    def step(self) -> None:
        machine, rng = self.machine, self.rng
        self.now += rng.choice((0.0, 0.5, 3.0, 20.0))
        match rng.randrange(7):
            case 0:
                self.seq += 1
                self.offer(halt(A, self.seq, self.swarm))
            case 1 if self.seq:
                self.offer(resume({A: self.seq}, swarm=self.swarm))
            case 2:
                self.beat += 1
                self.offer(live(self.beat, swarm=self.swarm))
            case 3:
                self.note(machine.stop_here(self.now))
            case 4:
                self.note(machine.start_here(self.now))
            case 5 if self.writing:
                self.note(machine.persisted(self.writing.pop(0), rng.random() < 0.8, self.now))
            case _:
                self.note(machine.timer(self.now))


@cache
def changes() -> frozenset[Change]:
    found: set[Change] = set()
    for seed in range(LIVES):
        life = Life(seed)
        for _ in range(STEPS):
            before = life.state
            life.step()
            if life.state != before:
                found.add((before, life.state))
    return frozenset(found)


def test_every_change_is_in_the_table_and_no_other() -> None:
    text = (ROOT / "protocols" / "halt.md").read_text(encoding="utf-8")
    section = text.split("### States", 1)[1].split("\n## ", 1)[0]
    rows = [(one, two) for one, two in ROW.findall(section) if one in STATES]
    assert len(rows) == len(set(rows))
    assert set(rows) == changes()


def test_every_change_is_drawn_and_no_other() -> None:
    text = (ROOT / "docs" / "halt-states.svg").read_text(encoding="utf-8")
    assert set(DRAWN.findall(text)) == changes()
    for state in STATES:
        assert f">{state}</text>" in text
