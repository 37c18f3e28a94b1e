"""A conversation as `swarmllm chat` keeps it: what was said, what the next request holds, and the
commands that change it.

Nothing here shows or asks anything, so that every line a person can type is tested without a
terminal.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from swarmllm.core.chat import ASSISTANT, SYSTEM, USER, ChatMessage
from swarmllm.runtime.service.request import TextRequest

COMMANDS: Final = {
    "/help": "show these commands",
    "/reset": "forget what was said; the instructions stay",
    "/system TEXT": "give the assistant instructions (without TEXT: none)",
    "/save FILE": "write the conversation into a file, as Markdown",
    "/receipt FILE": "what experts sign of the next answer is written into a file",
    "/experts": "which experts there are, and what this node has measured of them",
    "/quit": "leave (Ctrl-D does, too)",
}


# What a chat template writes around one message; published ones take about five.
TEMPLATE_TOKENS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Conversation:
    """`instructions` is the system message; empty: none, and the template's own where it has one.
    `said` are the messages of user and assistant in turn."""

    instructions: str = ""
    said: tuple[ChatMessage, ...] = ()

    @property
    def messages(self) -> tuple[ChatMessage, ...]:
        system = (ChatMessage(SYSTEM, self.instructions),) if self.instructions else ()
        return (*system, *self.said)

    def request(self, options: TextRequest) -> TextRequest:
        return replace(options, prompt="", turns=(), messages=self.messages)

    def ask(self, text: str) -> Conversation:
        return replace(self, said=(*self.said, ChatMessage(USER, text)))

    def answered(self, text: str) -> Conversation:
        return replace(self, said=(*self.said, ChatMessage(ASSISTANT, text)))

    def shortened(self, excess: int) -> Conversation | None:
        """Without the oldest questions and answers that are needed at the least to save so many
        tokens; None where all of them would not do."""
        begin = 0
        while excess > 0 and begin + 2 < len(self.said):
            excess -= sum(map(_tokens_at_most, self.said[begin : begin + 2]))
            begin += 2
        return None if excess > 0 else replace(self, said=self.said[begin:])

    def reset(self) -> Conversation:
        return replace(self, said=())

    def instructed(self, text: str) -> Conversation:
        return replace(self, instructions=text)

    def as_markdown(self) -> str:
        """For a file that people read."""
        names = {SYSTEM: "Instructions", USER: "You", ASSISTANT: "Swarm"}
        return "".join(f"## {names[m.role]}\n\n{m.content.strip()}\n\n" for m in self.messages)


def _tokens_at_most(message: ChatMessage) -> int:
    return len(message.content.encode()) + TEMPLATE_TOKENS_MAX


@dataclass(frozen=True, slots=True)
class Command:
    """A line that begins with a slash: `/name rest`."""

    name: str
    rest: str


def command_in(line: str) -> Command | None:
    """The command that a line is; None for something said. A path or a fraction is no command: the
    first word is a slash and letters."""
    name, _, rest = line.strip().partition(" ")
    return Command(name, rest.strip()) if name[:1] == "/" and name[1:].isalpha() else None
