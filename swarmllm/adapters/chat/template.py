"""A chat template writes a conversation as one text; control tokens in it come from the template
only.

What people say may spell `<|im_end|>`, and must not end their turn by it. Contents are given to the
template whole, since templates trim, split and compare them, but every name of a control token that
they spell is masked first by characters that neither of them uses, and put back afterwards as a
span that is encoded without control tokens.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

import jinja2

from swarmllm.adapters.chat.families import template_for
from swarmllm.adapters.chat.sandbox import Sandbox, TemplateRefuses, TooLong, quoted
from swarmllm.core.chat import ASSISTANT, USER, ChatMessage
from swarmllm.core.vocabulary import Span
from swarmllm.errors import LocalError, UsageError

# Private use: no template spells them, and a content that does gets others.
MASKS: Final = range(0xF0000, 0xFFFFE)
# Of a name's beginning or end; published names of control tokens have 40 characters at most.
PART_CHARS_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text. `own` are the stretches [from, to) of its characters that the
    assistant wrote; `stop` the strings that end the next answer where no control token does."""

    spans: tuple[Span, ...]
    own: tuple[tuple[int, int], ...]
    stop: tuple[str, ...]

    @property
    def text(self) -> str:
        return "".join(span.text for span in self.spans)


class ChatTemplate:
    """Of one model. `special_names` are how its control tokens are spelled, and `source` its own
    template; empty: it has none, and one for its family is taken."""

    def __init__(
        self,
        source: str,
        special_names: Collection[str],
        *,
        bos_text: str = "",
        eos_text: str = "",
        sandbox: Sandbox | None = None,
    ) -> None:
        """LocalError for a source that Jinja cannot read."""
        own_source, self._stop = (source, ()) if source else template_for(special_names)
        self._sandbox = sandbox or Sandbox()
        self._marks = {"bos_token": bos_text, "eos_token": eos_text}
        names = sorted(filter(None, special_names), key=lambda name: (-len(name), name))
        self._names = _Names(names)
        try:
            self._template = self._sandbox.compiled(own_source)
        except (
            jinja2.TemplateError,
            MemoryError,
            RecursionError,
            ValueError,
            SyntaxError,
        ) as error:
            raise LocalError(
                f"the model's chat template cannot be read ({_reason(error)}): use another "
                "conversion of the model, or generate --raw, which needs none"
            ) from error

    def render(
        self, messages: Sequence[ChatMessage], *, add_generation_prompt: bool = True
    ) -> Rendered:
        """UsageError if the template refuses these messages; LocalError if it fails or goes beyond
        a bound."""
        mask = _Mask(self._names, messages)
        text = self._written([mask.hide(m) for m in messages], add_generation_prompt)
        spans = mask.spans(text)
        return Rendered(spans, _own(spans, messages), self._stop)

    def turn_end(self) -> str:
        """What the template writes behind an assistant's message; empty if nothing can be said of
        it."""
        said = "swarmllm"  # Any word that no template writes by itself.
        messages = [ChatMessage(USER, "?"), ChatMessage(ASSISTANT, said)]
        try:
            found = self.render(messages, add_generation_prompt=False)
        except (UsageError, LocalError):
            return ""
        return found.text.rpartition(said)[2] if found.own else ""

    def _written(self, messages: list[dict[str, str]], add_generation_prompt: bool) -> str:
        variables: dict[str, Any] = {
            **self._marks,
            "messages": messages,
            "add_generation_prompt": add_generation_prompt,
            "tools": None,
            "documents": None,
        }
        try:
            text = self._sandbox.render_bounded(self._template, variables)
            text.encode()  # Half of a surrogate pair, which a template may spell, is no text.
            return text
        except TemplateRefuses as refusal:
            raise UsageError(
                f"the model's chat template refuses this conversation: {refusal}"
            ) from refusal
        except TooLong as bound:
            raise LocalError(
                f"the model's chat template {bound}: use another conversion of the model, or "
                "generate --raw, which needs none"
            ) from bound
        except Exception as error:  # Whatever a stranger's template brings about.
            raise LocalError(
                f"the model's chat template fails ({_reason(error)}): use another conversion of "
                "the model, or generate --raw, which needs none"
            ) from error


def _reason(error: Exception) -> str:
    where = f"line {error.lineno}: " if isinstance(error, jinja2.TemplateSyntaxError) else ""
    return quoted(f"{where}{error or type(error).__name__}", 200)


class _Names:
    """How control tokens are spelled, the longest first."""

    def __init__(self, names: Sequence[str]) -> None:
        self._find = re.compile("|".join(map(re.escape, names))) if names else None
        cuts = range(1, PART_CHARS_MAX + 1)
        self._heads = frozenset(name[:cut] for name in names for cut in cuts if cut < len(name))
        self._tails = frozenset(name[-cut:] for name in names for cut in cuts if cut < len(name))

    def found(self, content: str) -> list[tuple[int, int]]:
        """Where a content spells a name, or the beginning of one at its end, or the end of one at
        its beginning, which its neighbours could complete."""
        if self._find is None:
            return []
        places = [match.span() for match in self._find.finditer(content)]
        cuts = range(1, min(PART_CHARS_MAX, len(content)) + 1)
        head = max((cut for cut in cuts if content[:cut] in self._tails), default=0)
        tail = max((cut for cut in cuts if content[-cut:] in self._heads), default=0)
        return [(0, head), *places, (len(content) - tail, len(content))]


class _Mask:
    """Puts a numbered mask in the place of every name that contents spell, and takes it away."""

    def __init__(self, names: _Names, messages: Sequence[ChatMessage]) -> None:
        self._names = names
        used = {c for m in messages for c in m.content if ord(c) in MASKS}
        free = (chr(code) for code in MASKS if chr(code) not in used)
        self._open, self._close = next(free), next(free)
        self._hidden: list[str] = []

    def hide(self, message: ChatMessage) -> dict[str, str]:
        content, parts, at = message.content, list[str](), 0
        for start, end in sorted(self._names.found(content)):
            begin = max(start, at)
            if end > begin:
                parts += [content[at:begin], self._masked(content[begin:end])]
                at = end
        return {"role": message.role, "content": "".join([*parts, content[at:]])}

    def _masked(self, name: str) -> str:
        self._hidden.append(name)
        return f"{self._open}{len(self._hidden) - 1}{self._close}"

    def spans(self, text: str) -> tuple[Span, ...]:
        """LocalError if the template has broken a mask."""
        parts = re.split(f"{self._open}([0-9]+){self._close}", text)
        spans = []
        for i, part in enumerate(parts):
            if i % 2 == 0:
                spans.append(Span(part, parse_special=True))
            elif int(part) < len(self._hidden):
                spans.append(Span(self._hidden[int(part)]))
        shown = "".join(span.text for span in spans)
        if self._open in shown or self._close in shown:
            raise LocalError(
                "the model's chat template takes apart the names of control tokens in what people "
                "write, so nobody could tell them from its own: generate --raw needs no template"
            )
        return tuple(span for span in spans if span.text)


def _own(spans: Sequence[Span], messages: Sequence[ChatMessage]) -> tuple[tuple[int, int], ...]:
    """Where the assistant's messages stand in the text; those that the template has changed beyond
    a trim count as others' words."""
    text, found, at = "".join(span.text for span in spans), list[tuple[int, int]](), 0
    for message in messages:
        content = message.content.strip()
        start = text.find(content, at) if content else -1
        if start < 0:
            continue
        at = start + len(content)
        if message.role == ASSISTANT:
            found.append((start, at))
    return tuple(found)


def token_ranges(
    own: Sequence[tuple[int, int]], text: str, sizes: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """The stretches of tokens that lie within stretches of characters. `sizes` are the bytes of
    `text` that each token stands for, in order."""
    begins = [0, *accumulate(sizes)]
    places = [len(text[:char].encode()) for stretch in own for char in stretch]
    found = []
    for start, end in list(pairwise(places))[::2]:
        inside = [i for i, (a, b) in enumerate(pairwise(begins)) if a >= start and b <= end]
        if inside:
            found.append((inside[0], inside[-1] + 1))
    return tuple(found)
