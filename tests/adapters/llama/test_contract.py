"""llama.cpp behind the port keeps the contract (half precision: its rows need company to be exact,
see `llama_api`)."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from swarmllm.adapters.llama.engine import LlamaEngine
from swarmllm.adapters.llama.engine_options import EngineOptions
from swarmllm.runtime.ports import Engine
from tests.adapters.llama.models import model
from tests.contracts.engine_contract import EngineContract


class TestLlama(EngineContract):
    def open_engine(self) -> AbstractAsyncContextManager[Engine]:
        options = EngineOptions(context_max=300, sessions_max=5, threads=2, reproducible=True)
        return LlamaEngine(model("f16"), options)
