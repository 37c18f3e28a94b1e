"""`swarmllm simulate`: hands over to the studies in `swarmllm.sims`, which are imported only then;
they know their own options."""

from __future__ import annotations

from collections.abc import Sequence

from swarmllm.cli.output import write_stdout


def simulate(arguments: Sequence[str]) -> int:
    from swarmllm.sims.frame.command import simulate as simulate_studies

    return simulate_studies(arguments, write_stdout)
