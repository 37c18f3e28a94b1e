"""Laws of model references: what parses is spelled again the same, and nothing else parses."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.runtime.model_reference import (
    Auto,
    DemoExpert,
    HubModel,
    NoModel,
    NotAReference,
    OwnFile,
    SmolLM2,
    parse_reference,
)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("auto", Auto()),
        ("none", NoModel()),
        ("smollm2", SmolLM2()),
        ("smollm2:ops", SmolLM2("ops")),
        ("llama3-demo:prose-small", DemoExpert("prose-small")),
        ("demo:code", DemoExpert("code")),
        ("demo", DemoExpert("prose")),
        ("llama3-demo", DemoExpert("prose")),
        ("hf:some-org/Some.Model-GGUF/x.gguf", HubModel("some-org/Some.Model-GGUF", file="x.gguf")),
        ("hf:a/b/q4/x-00001-of-00003.gguf", HubModel("a/b", file="q4/x-00001-of-00003.gguf")),
        ("hf:a/b:Q4_K_M", HubModel("a/b", quant="Q4_K_M")),
        ("/models/x.gguf", OwnFile(Path("/models/x.gguf"))),
        ("./smollm2", OwnFile(Path.cwd() / "smollm2")),
        ("automatic.gguf", OwnFile(Path.cwd() / "automatic.gguf")),
        ("auto:x", OwnFile(Path.cwd() / "auto:x")),
        ("hf", OwnFile(Path.cwd() / "hf")),
        ("~/x.gguf", OwnFile(Path.home() / "x.gguf")),
    ],
)
def test_each_kind(text: str, reference: object) -> None:
    assert parse_reference(text) == reference


@pytest.mark.parametrize(
    "text",
    [
        *("", "a\0b", "hf:", "hf:a", "hf:a/b", "hf:a/b/", "hf:a/b/x.bin", "hf:a/b:", "hf:a/b:Q4 K"),
        *(
            "hf:a/b/../x.gguf",
            "hf:a/b//x.gguf",
            "hf:a/b/./x.gguf",
            "hf:../b/x.gguf",
            "hf:a/b--c:Q4",
        ),
        *("hf:a/b..c:Q4", "hf:a/b\\c/x.gguf", "hf:a b/c/x.gguf", "hf:https://x/a/b:Q4"),
        *("smollm2:", "smollm2:../x", "smollm2:Ops", "demo:", "llama3-demo:a/b", "~nobody-here/x"),
        "x" * 5000,
    ],
)
def test_what_is_no_reference_says_what_would_be_one(text: str) -> None:
    with pytest.raises(NotAReference) as caught:
        parse_reference(text)
    assert caught.value.expected


@given(st.text(max_size=60) | st.text("hf:a/b-._:Qsmol2demnut", max_size=30))
def test_a_reference_is_spelled_as_it_is_parsed(text: str) -> None:
    try:
        reference = parse_reference(text)
    except NotAReference:
        return
    assert parse_reference(str(reference)) == reference


@given(st.text(max_size=60))
def test_a_reference_to_the_hub_leads_into_one_repository(text: str) -> None:
    try:
        reference = parse_reference(f"hf:{text}")
    except NotAReference:
        return
    assert isinstance(reference, HubModel)
    steps = [*reference.repo.split("/"), *reference.file.split("/")]
    assert reference.repo.count("/") == 1
    assert not {".", ".."} & set(steps)
    assert bool(reference.file) != bool(reference.quant)
