"""`swarmllm generate`: the answer's text on standard output as it comes, everything else on
standard error."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from swarmllm.cli.client import NodeClient, open_client
from swarmllm.cli.guard import OK, run
from swarmllm.cli.output import notice, people, print_record_async, write_answer_async
from swarmllm.cli.progress_line import is_one_place
from swarmllm.cli.rounds import line_of, weighed_line
from swarmllm.cli.screen import Screen
from swarmllm.errors import HaltedError, LocalError
from swarmllm.runtime.config import Config
from swarmllm.runtime.service.record import Record
from swarmllm.runtime.service.request import TextRequest

Keep = Callable[[NodeClient], Awaitable[None]]


def generate(
    config: Config,
    request: TextRequest,
    *,
    as_json: bool,
    verbose: bool,
    local: bool,
    keep: Keep | None = None,
) -> int:
    """`keep` fetches and keeps the answer's receipt, if one is wanted."""
    request.check()  # Before anything is loaded or connected.

    async def body() -> int:
        async with open_client(config, local=local) as client:
            await ShownAnswer(client, people(), as_json=as_json, verbose=verbose).run(request)
            if keep is not None:
                await keep(client)
        return OK

    return run(body)


class ShownAnswer:
    """One answer as a person or a program sees it; `text` is what was shown so far."""

    def __init__(
        self,
        client: NodeClient,
        console: Screen,
        *,
        as_json: bool = False,
        verbose: bool = False,
        write: Callable[[str], Awaitable[None]] = write_answer_async,
    ) -> None:
        """`write` shows a piece of the text. `reason` tells why it ended, once it has."""
        self.text = ""
        self.reason = ""
        self._write = write
        self._client = client
        self._console = console
        self._as_json = as_json
        self._verbose = verbose
        # Rows of rounds and the text would mix on one screen or in one file; then the text, which
        # the rows show too, comes at the end.
        self._holds_text = verbose and is_one_place()

    async def run(self, request: TextRequest) -> None:
        """Show it to its end. UsageError, LocalError or HaltedError, in the node's words, if it did
        not get there."""
        async with self._client.answering(request) as records:
            async for record in records:
                await self._show(record)
        if not self.reason:
            # Or half an answer would pass for a whole one.
            if self.text and not self._as_json:
                await self._write(self.text + "\n" if self._holds_text else "\n")
            raise LocalError(
                "the node ended before the answer did; start it again with `swarmllm join`,"
                " and ask again"
            )

    async def _show(self, record: Record) -> None:
        if self._as_json:
            await print_record_async(record)
        match record["event"]:
            case "token" | "text":
                self.text += record["text"]
                if not self._as_json and not self._holds_text:
                    await self._write(record["text"])
                if self._verbose and record["event"] == "token":
                    self._console.print(line_of(record, self._client.peer), soft_wrap=True)
            case "weighed" if self._verbose:
                self._console.print(weighed_line(record), soft_wrap=True)
            case "notice":
                notice(record["text"])
            case "end":
                await self._end(record)
            case _:
                return  # A newer node may tell more than we know how to show.

    async def _end(self, record: Record) -> None:
        self.reason = record["reason"]
        if not self._as_json and (self.text or record["reason"] not in {"error", "halted"}):
            await self._write(self.text + "\n" if self._holds_text else "\n")
        if self._verbose:
            speed = (
                f"{record['tokens']} tokens in {record['seconds']:.1f} s"
                f" ({record['tokens_per_s']:.1f} tokens/s)"
            )
            size = f"{record['bytes_per_expert_per_token']:.0f} bytes per expert and token"
            notice(
                f"{speed}, {record['experts_per_token']:.2f} experts per token, {size},"
                f" seed {record['seed']}"
            )
        match record["reason"]:
            case "halted":
                raise HaltedError(
                    record.get("error") or "the swarm is halted; swarmllm status shows by whom"
                )
            case "error" | "cancelled" as reason:
                raise LocalError(record.get("error") or f"the answer ended early ({reason})")
            case _:  # It has all that was asked for.
                pass
