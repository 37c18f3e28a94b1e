"""The sandbox that chat templates run in: Jinja2's, with the names that templates on Hugging Face
expect, and with bounds on steps, processor time, memory and output.

A template comes with a stranger's model file. Jinja2's sandbox keeps it from Python's attributes
and from changing what it is given; it does not keep it from looping for ever, so every line that a
template executes is counted, and the time is looked at between calls of Python functions. A single
call of a function written in C that works for long on little is out of its reach (the products of
huge numbers are refused, comparing lists that hold each other is not): whoever runs this in a
process of its own bounds what is left by a time limit.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, Final, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

# The longest published template takes some 40 lines a message.
STEPS_MAX: Final = 1_000_000
# Of this thread, so that a busy machine makes no template hostile. 20,000 messages take half a
# second.
PROCESSOR_S: Final = 2.0
LOOK_EVERY: Final = 16  # Steps and calls between two looks at the time.
# The longest conversation has 4 MiB; a template adds some tens of characters to each message.
OUTPUT_CHARS_MAX: Final = 1 << 23
# What rendering may allocate on top of what is there.
MEMORY_BYTES: Final = 512 << 20
INTEGER_BITS_MAX: Final = 256
COMPILED_AS: Final = "<chat template>"

Clock = Callable[[], datetime]


class TemplateRefuses(Exception):
    """`raise_exception` in a template: what its author has against this conversation."""


class TooLong(Exception):
    """A template that goes beyond a bound; the text says beyond which."""


class Generation(Extension):
    """`{% generation %}...{% endgeneration %}`: marks what a model is trained to write. Nothing is
    done with it here."""

    tags = {"generation"}  # noqa: RUF012  Jinja's own way to declare them.

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """`clock` is what `strftime_now` reads."""

    intercepted_binops = frozenset({"+", "-", "*", "/", "//", "**", "%"})

    def __init__(self, clock: Clock = datetime.now) -> None:
        # Not optimised: constants would be computed while the template is read, without bounds.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=[loopcontrols, Generation],
        )
        self.filters["tojson"] = _to_json
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = lambda pattern: clock().strftime(pattern)

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any
    ) -> Any:
        if operator == "**":
            raise SecurityError("powers are not computed here")
        integers = [value for value in (left, right) if isinstance(value, int)]
        if any(value.bit_length() > INTEGER_BITS_MAX for value in integers):
            raise SecurityError(f"a number of more than {INTEGER_BITS_MAX} bits")
        if _size(operator, left, right) > OUTPUT_CHARS_MAX:
            raise TooLong(f"writes more than {OUTPUT_CHARS_MAX:,} characters")
        return super().call_binop(context, operator, left, right)

    def render_bounded(self, template: jinja2.Template, variables: dict[str, Any]) -> str:
        """What the template writes. TooLong for one that goes beyond a bound."""
        parts: list[str] = []
        size = 0
        try:
            with _memory_bounded(), _steps_counted():
                for part in template.generate(variables):
                    size += len(part)
                    if size > OUTPUT_CHARS_MAX:
                        raise TooLong(f"writes more than {OUTPUT_CHARS_MAX:,} characters")
                    parts.append(part)
        except MemoryError:
            raise TooLong(f"takes more than {MEMORY_BYTES >> 20} MiB of memory") from None
        return "".join(parts)

    def compiled(self, source: str) -> jinja2.Template:
        """jinja2.TemplateError for a source that is no template; MemoryError."""
        with _memory_bounded():
            code = self.compile(source, filename=COMPILED_AS)
        return self.template_class.from_code(self, code, self.make_globals(None))


def _size(operator: str, left: Any, right: Any) -> int:
    """How large a text or list these two make: at most."""
    if operator == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
        return len(left) + len(right)
    if operator == "*":
        for many, times in ((left, right), (right, left)):
            if hasattr(many, "__len__") and isinstance(times, int):
                return len(many) * max(0, times)
    return 0


def _to_json(value: object, indent: int | None = None, **_: object) -> str:
    """Without Jinja's escaping for HTML, which no model was trained on."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: object) -> NoReturn:
    raise TemplateRefuses(quoted(message, 500))


def quoted(words: object, chars_max: int) -> str:
    """A stranger's words, short, on one line and as text: a template may spell halves of
    surrogate pairs, which no pipe carries."""
    line = " ".join(str(words)[:chars_max].split())
    return line.encode(errors="replace").decode()


@contextmanager
def _steps_counted() -> Iterator[None]:
    """Counts the lines of compiled templates that this thread executes, and looks at its time."""
    left = STEPS_MAX
    looks = 0
    ends_at = time.thread_time() + PROCESSOR_S

    def step(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left, looks
        looks += 1
        if looks % LOOK_EVERY == 0 and time.thread_time() > ends_at:
            raise TooLong(f"takes more than {PROCESSOR_S:g} s of processor time")
        if frame.f_code.co_filename != COMPILED_AS:
            return None  # Of other functions only the calls are seen.
        left -= 1
        if left < 0:
            raise TooLong(f"takes more than {STEPS_MAX:,} steps")
        return step

    before = sys.gettrace()
    sys.settrace(step)
    try:
        yield
    finally:
        sys.settrace(before)


@contextmanager
def _memory_bounded() -> Iterator[None]:
    """A soft limit on the address space while a template runs, where the system knows how much is
    taken."""
    taken = Path("/proc/self/statm")
    if not taken.is_file():
        yield
        return
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = int(taken.read_text().split()[0]) * resource.getpagesize() + MEMORY_BYTES
    if before != resource.RLIM_INFINITY and before < wanted:
        yield
        return
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, hard))
