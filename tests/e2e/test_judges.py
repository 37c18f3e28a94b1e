"""What `scripts/judges` is made of, without the clients: the expert that does as it is told behind
the node's API, and the page of the verdicts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import ROOT
from tests.e2e.judges.obedient import COPIED, arguments_for, conversation, copying, obliging
from tests.e2e.judges.run import Verdict, node, page

SHELL: Any = {"name": "shell", "parameters": {"properties": {"command": {"type": "array"}}}}
READ: Any = {"name": "read", "parameters": {"properties": {"filePath": {"type": "string"}}}}
WRITE: Any = {
    "name": "write",
    "parameters": {"properties": {"content": {"type": "string"}, "filePath": {"type": "string"}}},
}


def test_a_prompt_is_read_as_the_conversation_that_it_was_made_of() -> None:
    prompt = "<|im_start|>system\na\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
    assert conversation(prompt) == [("system", "a\nb"), ("user", "c")]
    assert obliging(conversation(prompt)).startswith("Hello")


def test_the_task_takes_two_tools_whatever_the_agent_calls_them() -> None:
    assert '"filePath":"a"' in copying("a", "b", 0, [READ, WRITE])
    second = copying("a", "b", 1, [READ, WRITE])
    assert json.dumps(COPIED) + ',"filePath":"b"' in second
    assert '["bash","-c","cp a b"]' in copying("a", "b", 1, [SHELL])
    assert copying("a", "b", 2, [SHELL]) == "Copied."


def test_arguments_are_of_their_kinds() -> None:
    kinds = {"a": {"enum": ["x"]}, "b": {"type": "integer"}, "c": {"type": "string"}}
    assert arguments_for(kinds) == {"a": "x", "b": 1, "c": "Paris"}


def test_a_page_tells_what_did_not_pass_and_a_failure_without_a_reason_is_one() -> None:
    fine = Verdict("one", 3, {"chat-image-input": "HTTP 400"})
    bad = Verdict("two", 0, {"whole": "ValueError: a|b"})
    assert (fine.unexplained, bad.unexplained) == ([], ["whole"])
    found = page({"A node": [fine, bad]}, "x 1")
    assert "| one | 3 | 4 | chat-image-input |" in found
    assert "| two | 0 | 1 | whole: ValueError: a b |" in found


def test_the_page_of_the_judges_names_them_all() -> None:
    written = (ROOT / "docs/evidence/api.md").read_text()
    for name in ("llm-comply, anthropic", "LiteLLM", "LangChain", "pydantic-ai", "opencode"):
        assert f"| {name}" in written


@pytest.mark.slow
def test_the_obedient_node_calls_the_tool_that_it_is_offered(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    with node([sys.executable, "-m", "tests.e2e.judges.node", folder], folder) as url:
        tool = {"type": "function", "function": READ}
        said = [{"role": "user", "content": "copy a.txt to b.txt"}]
        body = {"model": "swarm", "messages": said, "tools": [tool]}
        found = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()
        [call] = found["choices"][0]["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == {"filePath": "a.txt"}
        show = ["run", "opencode", "--show", "--data-dir", str(folder)]
        command = [str(Path(sys.executable).with_name("swarmllm")), *show]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert url in shown
