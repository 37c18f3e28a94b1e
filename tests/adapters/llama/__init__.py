"""Some of these tests run llama.cpp in their own process: it must find what the engine gives its
worker, before it is loaded."""

import os

from swarmllm.adapters.llama.engine import environment
from swarmllm.adapters.llama.engine_options import EngineOptions

os.environ.update(environment(EngineOptions(reproducible=True)))
