"""The OpenAPI file: it is one, it tells of every route, and a node behaves as it says. What judges
the last is schemathesis, with all its checks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from openapi_spec_validator import validate

from scripts.make_api_page import page
from swarmllm.api import guard
from swarmllm.api.endpoints import ENDPOINTS
from swarmllm.api.openapi import document
from swarmllm.testing.scripted_text import EOS
from tests import ROOT
from tests.api.test_clients import KEY, against

# A body that the file allows may be refused with 400 all the same: `schemathesis_hooks` looks at
# why.
CONFIG: Final = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "400", "401", "403", "404"]
"""
# 503 here: the little swarm has neither governance nor an agent.
ABSENT: Final = ("governance", "proposals", "agent_status")
ENDS: Final = frozenset({EOS, *range(256, 400)})  # Answers are short.


@pytest.mark.parametrize("with_keys", [True, False])
def test_it_is_an_openapi_file(with_keys: bool) -> None:
    found = document(with_keys)
    validate(found)
    assert sum(len(one) for one in found["paths"].values()) == len(ENDPOINTS)


def test_the_page_has_the_fields_of_the_file() -> None:
    text = (ROOT / "docs/api.md").read_text()
    assert page(text) == text
    assert "`temperature` (0 to 100)" in text
    assert "`top_p` (above 0 to 1)" in text


def test_examples_are_bodies() -> None:
    for one in ENDPOINTS:
        if one.body is not None:
            one.body.model_validate(one.example)


def test_fields_that_are_not_served_may_be_null_and_harmless_ones_anything() -> None:
    fields = document(False)["components"]["schemas"]["ChatBody"]["properties"]
    assert fields["prediction"]["type"] == "null"
    assert "type" not in fields["user"]
    assert fields["temperature"]["anyOf"][0]["maximum"] == 100


@pytest.mark.slow
def test_a_node_behaves_as_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "PER_S", 1e9)  # Thousands of requests come at once.

    def use(url: str) -> None:
        headers = {"authorization": f"Bearer {KEY}"}
        found = httpx.get(f"{url}/openapi.json", headers=headers).json()
        (tmp_path / "openapi.json").write_text(json.dumps(with_known_models(found)))
        (tmp_path / "config.toml").write_text(CONFIG)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli"),
                *("--config-file", tmp_path / "config.toml"),
                *("run", tmp_path / "openapi.json", "--url", url),
                *("--header", f"Authorization: Bearer {KEY}"),
                *(f"--exclude-operation-id={name}" for name in ABSENT),
                *("--checks", "all", "--phases", "examples,coverage,fuzzing"),
                *("--max-examples", "6", "--generation-deterministic"),
                *("--request-timeout", "60", "--no-color"),
            ],
            env=os.environ
            | {
                "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks",
                "PYTHONPATH": str(ROOT),
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"Tested: {len(ENDPOINTS) - len(ABSENT)}" in done.stdout

    against(tmp_path, use, stop_tokens=ENDS, context_max=512, limit_s=600)


def with_known_models(found: dict[str, Any]) -> dict[str, Any]:
    """The file for a node whose models are known: of any others it knows nothing but a 404."""
    for one in ENDPOINTS:
        if one.body is not None and "model" in one.body.model_fields:
            schema = found["components"]["schemas"][one.body.__name__]
            schema["properties"]["model"] = {"enum": ["swarm", "local"]}
    return found
