"""A node of `swarmllm demo --governance` and `--agent`: the same as `swarmllm join`, but for its
clock of reviews, on which an hour goes by in seconds, and for its simulations, which do not give
way to other work: somebody looks on.

It is a program of its own, so that no option of a real node shortens a review.
"""

from __future__ import annotations

from typing import Final

import typer

from swarmllm.cli import options as o
from swarmllm.cli.guard import guarded

HOUR_S: Final = 6.0
"""What an hour of review takes on these nodes."""

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
@o.spread
def demo_node(settings: o.ServingSettings, until_eof: bool = False, json: o.Json = False) -> None:
    def body() -> int:
        from swarmllm.assembly import Parts
        from swarmllm.cli.join import join
        from swarmllm.cli.settings import config_of

        parts = Parts(review_pace=3_600 / HOUR_S, validation_nice=0)
        config = config_of(**settings)
        return join(config, as_json=json, until_eof=until_eof, yes=False, tiny=False, parts=parts)

    raise typer.Exit(guarded(body))


if __name__ == "__main__":
    from swarmllm.adapters.private import keep_private
    from swarmllm.cli.streams import prepare

    keep_private()
    prepare()
    app()
