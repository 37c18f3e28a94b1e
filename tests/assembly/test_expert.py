"""The expert as its owner steers it, with real models: another one is loaded and remembered, one of
another vocabulary is refused, and what the settings name goes first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from swarmllm.adapters.expert_file import OwnersChoice, read_choice, write_choice
from swarmllm.assembly import Parts, open_node
from swarmllm.assembly.expert import settle, with_choice
from swarmllm.errors import LocalError, UsageError
from swarmllm.runtime.local_api.client import ask, asking
from swarmllm.runtime.model_reference import AUTO
from swarmllm.testing.memory_network import MemorySwarm
from tests.adapters.llama.models import model
from tests.assembly.test_assembly import config_in, parts_on, run


def test_what_the_settings_name_goes_before_what_was_registered(tmp_path: Path) -> None:
    config = replace(config_in(tmp_path), data_dir=tmp_path, model=AUTO)
    assert with_choice(config).model == AUTO
    write_choice(tmp_path, OwnersChoice("smollm2:code", is_offered=False))
    assert with_choice(config).model == "smollm2:code"
    choice, (remark,) = settle(with_choice(config), tmp_path)
    assert choice == OwnersChoice("smollm2:code", is_offered=False)
    assert "withdrawn" in remark
    other = replace(config, model="smollm2")
    assert with_choice(other).model == "smollm2"
    choice, (remark, _) = settle(other, tmp_path)
    assert choice == OwnersChoice("", is_offered=False)
    assert "name the model smollm2, so smollm2:code" in remark
    assert read_choice(tmp_path).model == ""


def test_another_model_is_loaded_in_place_of_the_first_and_again_after_a_restart(
    tmp_path: Path,
) -> None:
    folder, first, other = tmp_path / "data", model(), model("f32")
    config = replace(
        config_in(tmp_path), model=str(first), context_max=300, sessions_max=2, threads=1
    )

    async def registered(reference: Path | str) -> str:
        async with asking(folder, "register_expert", model=str(reference)) as records:
            found = [record async for record in records]
        assert found[-1]["event"] == "expert_registered"
        assert {one["event"] for one in found[:-1]} <= {"progress"}
        (expert,) = (await ask(folder, "experts"))["experts"]
        return str(expert["digest"])

    async def body() -> None:
        async with MemorySwarm() as wire:
            parts = Parts(network=parts_on(wire).network)
            async with open_node(config, parts=parts) as node:
                await node.wait_ready()
                before = await registered("")
                after = await registered(other)
                assert after != before
                assert await registered(other) == after
                with pytest.raises(UsageError, match="another vocabulary"):
                    await registered(model(vocabulary_seed=1))
                with pytest.raises(LocalError, match=r"absent\.gguf"):
                    await registered(tmp_path / "absent.gguf")
                for wrong in ("none", "hf:x"):
                    with pytest.raises(UsageError, match=wrong):
                        await registered(wrong)
                assert await registered("") == after
            async with open_node(replace(config, model=AUTO), parts=parts) as node:
                await node.wait_ready()
                assert await registered("") == after

    run(body)
