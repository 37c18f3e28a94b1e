"""Names of models: short, sensible, and harmless whatever a file says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.llama.model_name import KEYS, NAME_BYTES_MAX, short_name


def keys(**values: object) -> dict[str, object]:
    return {f"general.{key}": value for key, value in values.items()}


SMOL = keys(
    name="Smollm2 135M 8k Lc100K Mix1 Ep2",
    basename="smollm2",
    size_label="135M",
    finetune="8k-lc100k-mix1-ep2",
    file_type=3,
)


@pytest.mark.parametrize(
    ("found", "stem", "name"),
    [
        (SMOL, "SmolLM2-135M-Instruct.Q4_1", "SmolLM2-135M-Instruct-Q4_1"),
        (SMOL, "model", "smollm2-135M-8k-lc100k-mix1-Q4_1"),
        (
            keys(name="Llama 3.2 1B Instruct", basename="Llama-3.2", size_label="1B", file_type=15)
            | keys(finetune="Instruct"),
            "whatever",
            "Llama-3.2-1B-Instruct-Q4_K_M",
        ),
        (
            keys(name="Meta Llama 3.1 70B Instruct", file_type=15),
            "Meta-Llama-3.1-70B-Instruct-Q4_K_M-00001-of-00002",
            "Meta-Llama-3.1-70B-Q4_K_M",
        ),
        (keys(name="LLaMA v2", file_type=2), "llama-2-7b.Q4_0", "LLaMA-v2-Q4_0"),
        ({}, "tinyllama-1.1b-chat.Q8_0", "tinyllama-1.1b-chat-Q8_0"),
        ({}, "gemma-2b-bf16", "gemma-2b-BF16"),
        ({}, "", "model"),
        (keys(name=7, file_type="Q4"), "a b\x1b[31m", "a-b-31m"),
    ],
)
def test_names_that_people_know(found: dict[str, object], stem: str, name: str) -> None:
    assert short_name(found, stem) == name


VALUES = st.text(max_size=300) | st.integers() | st.booleans() | st.lists(st.integers(), max_size=2)


@given(st.dictionaries(st.sampled_from(sorted(KEYS)), VALUES), st.text(max_size=300))
def test_a_name_fits_a_record_and_a_table(found: dict[str, object], stem: str) -> None:
    name = short_name(found, stem)
    assert 0 < len(name.encode()) <= NAME_BYTES_MAX
    assert all(c.isalnum() or c in "._+-" for c in name)


@given(
    st.text("abc -", min_size=1, max_size=80),
    st.sampled_from([(2, "Q4_0"), (7, "Q8_0"), (15, "Q4_K_M"), (30, "IQ4_XS")]),
)
def test_files_that_differ_in_quantisation_differ_in_name(name: str, kind: tuple[int, str]) -> None:
    assert short_name(keys(name=name, file_type=kind[0]), "x").endswith("-" + kind[1])
