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
    "/experts": "which experts there are, and what this node has measured of them",
    "/quit": "leave (Ctrl-D does, too)",
}


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

    def shortened(self) -> Conversation:
        """Without its oldest question and answer; the same where there is only one question."""
        return replace(self, said=self.said[2:]) if len(self.said) > 2 else self

    def reset(self) -> Conversation:
        return replace(self, said=())

    def instructed(self, text: str) -> Conversation:
        return replace(self, instructions=text)

    def as_markdown(self) -> str:
        """For a file that people read."""
        names = {SYSTEM: "Instructions", USER: "You", ASSISTANT: "Swarm"}
        return "".join(f"## {names[m.role]}\n\n{m.content.strip()}\n\n" for m in self.messages)


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
