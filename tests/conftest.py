"""What holds for every test: property tests never judge by the clock and in CI try the same
examples each time, and the settings of whoever runs the tests are not theirs."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A slow example says that the machine is busy; `too_slow` would judge by the clock as well.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci", parent=settings.get_profile("here"), derandomize=True, print_blob=True
)
settings.load_profile("ci" if os.environ.get("CI") else "here")

for _variable in [name for name in os.environ if name.startswith("SWARMLLM_")]:
    del os.environ[_variable]  # Before anything is imported or started that could read it.
