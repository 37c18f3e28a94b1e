"""The command `llm` against a node, as its users configure it: in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.e2e.judges.cases import main

MODELS = f"""
- model_id: swarm
  model_name: swarm
  api_base: {sys.argv[1]}/v1
  api_key_name: swarm
  supports_schema: true
"""


def asked(*words: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "extra-openai-models.yaml").write_text(MODELS)
        done = subprocess.run(
            [Path(sys.executable).with_name("llm"), "-m", "swarm", "--key", "none", *words],
            env=os.environ | {"LLM_USER_PATH": folder},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


def whole() -> None:
    assert asked("--no-stream", "-o", "max_tokens", "60", "Say hello.").strip()


def streamed() -> None:
    assert asked("-o", "max_tokens", "60", "Say hello.").strip()


def schema() -> None:
    found = asked(
        "--schema",
        '{"type":"object","properties":{"n":{"enum":[1,2]}},'
        '"required":["n"],"additionalProperties":false}',
        "-o",
        "max_tokens",
        "60",
        "Which?",
    )
    assert '"n"' in found


if __name__ == "__main__":
    main(whole, streamed, schema)
