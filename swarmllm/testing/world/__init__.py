"""A swarm in one thread, from one seed: see `swarmllm.testing.world.world`."""

from swarmllm.testing.world.checks import Broken, Checker
from swarmllm.testing.world.engine import DEMO, DESKTOP_8B, LAPTOP_8B, SERVICES, VOCABULARY, Service
from swarmllm.testing.world.host import Host
from swarmllm.testing.world.links import LinkModel
from swarmllm.testing.world.network import Overlay
from swarmllm.testing.world.recorder import Recorder
from swarmllm.testing.world.roles import HONEST, Answer, Behaviour, Spec
from swarmllm.testing.world.world import World

__all__ = [
    "DEMO",
    "DESKTOP_8B",
    "HONEST",
    "LAPTOP_8B",
    "SERVICES",
    "VOCABULARY",
    "Answer",
    "Behaviour",
    "Broken",
    "Checker",
    "Host",
    "LinkModel",
    "Overlay",
    "Recorder",
    "Service",
    "Spec",
    "World",
]
