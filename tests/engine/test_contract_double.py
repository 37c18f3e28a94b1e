"""The double keeps the same contract as the real engine."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from swarmllm.runtime.ports import Engine
from swarmllm.testing.scripted_engine import ScriptedEngine
from swarmllm.testing.scripted_model import ScriptedModel
from tests.contracts.engine_contract import EngineContract


class TestDouble(EngineContract):
    def open_engine(self) -> AbstractAsyncContextManager[Engine]:
        return ScriptedEngine(ScriptedModel(context_max=300), service_s=0.0)
