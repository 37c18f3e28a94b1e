"""Chat messages have roles; a model's chat template makes one prompt of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from swarmllm.core.thinking import Thinking
from swarmllm.core.vocabulary import check_text
from swarmllm.errors import UsageError

SYSTEM: Final = "system"
USER: Final = "user"
ASSISTANT: Final = "assistant"
ROLES: Final = (SYSTEM, USER, ASSISTANT)
MESSAGES_MAX: Final = 4096  # As many turns fill any context.


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """What one side said. What the assistant said is the ensemble's own text."""

    role: str
    content: str

    def as_fields(self) -> dict[str, str]:
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """A conversation in token ids, up to where the assistant's next message begins.

    `own` are the stretches [from, to) of `ids` that the ensemble wrote itself, rising and apart.
    `end_tokens` are the control tokens that the template writes behind the assistant's message, and
    `stop` the strings that end it where there are none. `thinking`: how the model marks it, if it
    does.
    """

    ids: tuple[int, ...]
    own: tuple[tuple[int, int], ...]
    end_tokens: frozenset[int]
    stop: tuple[str, ...] = ()
    thinking: Thinking | None = None


def check_messages(messages: Sequence[ChatMessage]) -> None:
    """UsageError for a conversation that nothing can be answered to."""
    if not messages:
        raise UsageError("the conversation is empty; give at least one message")
    if len(messages) > MESSAGES_MAX:
        raise UsageError(
            f"the conversation has {len(messages)} messages, and no context holds more than "
            f"{MESSAGES_MAX}; leave out the oldest"
        )
    for message in messages:
        if message.role not in ROLES:
            raise UsageError(
                f"the role {message.role[:32]!r} is none of {', '.join(ROLES)}; give one of these"
            )
        check_text(message.content)


def message_of(fields: object) -> ChatMessage:
    """A message as JSON carries it: an object of a role and a content. UsageError for another."""
    if not isinstance(fields, Mapping) or set(fields) != {"role", "content"}:
        raise UsageError("a message is an object of two texts, 'role' and 'content'; correct it")
    role, content = fields["role"], fields["content"]
    if not isinstance(role, str) or not isinstance(content, str):
        raise UsageError("a message is an object of two texts, 'role' and 'content'; correct it")
    return ChatMessage(role, content)
