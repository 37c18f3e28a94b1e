"""One seed, one run, to the byte: again, in another process, under another hash seed, and under
another Python."""

from __future__ import annotations

import hashlib
import math
import os
import random
import shutil
import subprocess
import sys
from functools import cache
from typing import Final

import pytest

from swarmllm.core.decoding.pooling import pool
from swarmllm.core.decoding.sampling import draw
from swarmllm.core.values import Sampling
from swarmllm.testing.world.engine import STATES, VOCABULARY, QuickModel
from swarmllm.testing.world.links import Delays, LinkModel
from swarmllm.testing.world.recorder import show
from swarmllm.testing.world.run import Outcome, run
from swarmllm.wire import context
from swarmllm.wire.sparse import decode_list
from tests import ROOT

SEEDS: Final = (4, 13, 24)  # A halt, a poisoner, twenty hosts: quick ones.
PYTHONS: Final = [f"python3.{minor}" for minor in (11, 12, 13, 14)]
OTHERS: Final = [name for name in PYTHONS if name != f"python3.{sys.version_info.minor}"]
NEEDS: Final = "import numpy, msgpack, cryptography"
MATERIAL: Final = "6d23c081c5ee51d4d31b1d915975102714758efb9dc1cc7e254a709dabf0e499"
"""Of `material`. It changes when links, models or lists of the world do, on purpose; it may not
change with the Python or the machine."""


def digest_elsewhere(python: str, seed: int, hash_seed: str) -> str:
    code = f"from swarmllm.testing.world.run import run; print(run({seed}).digest)"
    environment = {
        **os.environ,
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [python, "-c", code], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    return done.stdout.strip()


@cache
def first(seed: int) -> Outcome:
    """The first run here, which all others are compared with."""
    return run(seed)


def test_a_seed_gives_the_same_run_again() -> None:
    assert run(SEEDS[0]) == first(SEEDS[0])


def test_another_seed_gives_another_run() -> None:
    assert first(SEEDS[0]).digest != first(SEEDS[1]).digest


@pytest.mark.parametrize("seed", SEEDS)
def test_a_seed_gives_the_same_run_in_another_process_under_any_hash_seed(seed: int) -> None:
    here = first(seed).digest
    assert {digest_elsewhere(sys.executable, seed, hash_seed) for hash_seed in ("0", "4242")} == {
        here
    }


@pytest.mark.parametrize("name", OTHERS)
def test_a_seed_gives_the_same_run_under_every_python(name: str) -> None:
    python = shutil.which(name)
    if (
        python is None
        or subprocess.run([python, "-c", NEEDS], capture_output=True, check=False).returncode
    ):
        pytest.skip(f"no {name} with numpy, msgpack and cryptography is installed")
    for seed in SEEDS[:2]:
        assert digest_elsewhere(python, seed, "random") == first(seed).digest


def material() -> str:
    """A digest of all that a run is made of besides the node: chance, logarithms, made-up
    distributions, and what is drawn from them."""
    rng = random.Random("material")
    values: list[object] = [
        rng.random(),
        rng.expovariate(2.0),
        rng.uniform(1, 3),
        rng.getrandbits(64),
        rng.sample(range(99), 9),
    ]
    values += [
        rng.choices("abc", (1, 2, 3), k=5),
        rng.choice("abcdef"),
        math.pow(10, rng.random()),
        rng.lognormvariate(0, 0.4),
    ]
    delays = Delays(LinkModel(0.02, 0.1, loss=0.01, bytes_per_s=1e6), rng)
    values += [delays.draw_s(delays.base_s((0.1, 0.2), (0.9, 0.7)), size) for size in range(200)]
    lists = []
    for seed in range(3):
        model = QuickModel("m", seed, {}, 4096, 1)
        lists.append(
            [
                model.list_after(context.extend(context.EMPTY, state), 256, 0)
                for state in range(STATES)
            ]
        )
    values += lists
    for row in zip(*lists, strict=True):
        pooled = pool([decode_list(data, 256, VOCABULARY) for data in row], [0.5, 0.3, 0.2])
        values.append(draw(pooled, Sampling(temperature=0.8, top_p=0.95), rng, ()))
    return hashlib.sha256(" ".join(map(show, values)).encode()).hexdigest()


def test_a_world_is_made_of_the_same_material_everywhere() -> None:
    assert material() == MATERIAL
