"""A request for text: what a client may ask of an answer, its bounds, its defaults, and how it is
read from untyped fields.

Every way to ask ends here: an embedder's `LocalNode.generate`, the local socket's JSON, the options
of the commands. How to draw is one value in it, `sampling`; its parameters are declared in
`core.values.Sampling` alone, and read here as fields beside the others.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final

from swarmllm.core.chat import ChatMessage, check_messages, message_of
from swarmllm.core.decoding.sampling import validate
from swarmllm.core.grammar import GrammarSource
from swarmllm.core.settings.answering import usual_breadth
from swarmllm.core.settings.holder import Settings
from swarmllm.core.values import (
    ALL,
    MAX_TOKENS_USUAL,
    SAMPLING,
    USUAL_SAMPLING,
    Only,
    Sampling,
)
from swarmllm.errors import UsageError
from swarmllm.messages import CONTEXT_MAX, VOCABULARY_MAX
from swarmllm.runtime.config import SETTINGS, Config
from swarmllm.runtime.config.setting import Unfit
from swarmllm.runtime.service.stop_strings import check_stops
from swarmllm.runtime.user_text import check_text

# No context holds more: a token is 4 bytes of English on average, and seldom over 8.
PROMPT_BYTES_MAX: Final = 8 * CONTEXT_MAX
DOMAIN_BYTES_MAX: Final = 16  # Of a capacity record's domains.
LIKELIEST_MAX: Final = 20  # As in OpenAI's API.
OWN: Final = "own"
TURNS_MAX: Final = 4096  # A conversation of this many turns fills any context.


NOTHING: Final[Mapping[str, float]] = {}


@dataclass(frozen=True, slots=True)
class TextRequest:
    """One text to be continued, or one conversation to be answered: `prompt` (or its token ids,
    `prompt_ids`), or else `messages`, which the model's chat template makes a prompt of.
    `sampling`: the parameters of `core.values.Sampling` that are given, by name; the others are
    what the model advises for a conversation, or else the usual ones. `seed` None: one is drawn,
    and told in the result. `stop`: strings that end the answer, not shown.

    `k`, `extra` and `quality` None: what the settings of the node that answers have then, which the
    swarm may have changed. `quality` is the share of tokens that all `k` experts are asked about
    (1: every token; 0: always the best one alone). `speculation`: who may draft; None: as the node
    is set. `domain`: experts that claim it are believed
    more at first. `turns` are the places (in characters) where the prompt's author changes, first
    from outside to the ensemble and then back again, rising; what the ensemble wrote itself is no
    evidence of how well it writes. `grammar`: what the answer must be a text of.

    `clamp`: where `max_tokens` are more than the context has room for, the room is what counts.
    `only`: whose experts are asked: all (empty), this node's alone (`OWN`), or those of the model
    with this digest in hexadecimal. `likeliest` (None: not told): of each token its bytes are told,
    and so many of the most probable ones. `bias`: nats added to tokens by id.
    `receipt`: a name, drawn by whoever asks, under which the answer's signed receipt can be fetched
    when it has ended.
    """

    prompt: str = ""
    prompt_ids: tuple[int, ...] = ()
    messages: tuple[ChatMessage, ...] = ()
    k: int | None = None
    extra: int | None = None
    quality: float | None = None
    speculation: str | None = None
    domain: str = ""
    turns: tuple[int, ...] = ()
    max_tokens: int = MAX_TOKENS_USUAL
    sampling: Mapping[str, float] = field(default_factory=dict)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    grammar: GrammarSource | None = None
    clamp: bool = False
    only: str = ""
    likeliest: int | None = None
    bias: tuple[tuple[int, float], ...] = ()
    receipt: str = ""

    def drawn(self, advice: Mapping[str, float] = NOTHING) -> Sampling:
        """How the answer is drawn, where the model has this advice; with the request's bias and
        seed, which is drawn if none was given."""
        told: dict[str, Any] = {**(advice if self.messages else NOTHING), **self.sampling}
        return replace(
            USUAL_SAMPLING,
            **told,
            seed=random.SystemRandom().randrange(1 << 31) if self.seed is None else self.seed,
            bias=self.bias,
        )

    def experts(self) -> Only:
        """Whose experts are asked."""
        if self.only == OWN:
            return Only(own=True)
        return Only(bytes.fromhex(self.only)) if self.only else ALL

    def check(self) -> None:
        """UsageError for whatever can be seen to be wrong without a vocabulary."""
        if sum(map(bool, (self.prompt, self.prompt_ids, self.messages))) > 1:
            raise UsageError("there is a prompt and a conversation; give one of them")
        self.check_options()
        if self.messages:
            check_messages(self.messages)
            return
        if self.prompt_ids:
            self._check_ids()
            return
        if not self.prompt:
            raise UsageError("the prompt is empty; give the text that is to be continued")
        check_text(self.prompt, f"the text {self.prompt[:20]!r}")
        size = len(self.prompt.encode())
        if size > PROMPT_BYTES_MAX:
            raise UsageError(
                f"the prompt has {size} bytes, and no expert can hold more than {PROMPT_BYTES_MAX};"
                " shorten it"
            )
        if len(self.turns) > TURNS_MAX or list(self.turns) != sorted(
            {t for t in self.turns if 0 <= t <= len(self.prompt)}
        ):
            raise UsageError(
                f"turns must be at most {TURNS_MAX} rising places in the prompt; leave them out"
            )

    def _check_ids(self) -> None:
        if len(self.prompt_ids) > CONTEXT_MAX or self.turns:
            raise UsageError(
                f"a prompt of token ids has at most {CONTEXT_MAX} of them, and no turns; correct it"
            )
        if any(not 0 <= token < VOCABULARY_MAX for token in self.prompt_ids):
            raise UsageError(f"a token id is a whole number from 0 to {VOCABULARY_MAX - 1}")

    def check_options(self) -> None:
        """`check` for all but the prompt and its turns: before a text is there."""
        for text in (self.domain, *self.stop):
            check_text(text, f"the text {text[:20]!r}")
        for name in OWN_SETTINGS:
            value = getattr(self, name)
            if value is None:
                continue
            try:
                SETTINGS[name].read(value, False)
            except Unfit as error:
                raise UsageError(f"{name} is {value}, and it must be {error.expected}") from error
        if not 1 <= self.max_tokens <= CONTEXT_MAX:
            raise UsageError(
                f"max_tokens is {self.max_tokens}, and it must be a whole number from 1 to"
                f" {CONTEXT_MAX}"
            )
        if len(self.domain.encode()) > DOMAIN_BYTES_MAX:
            raise UsageError(
                f"the domain {self.domain[:32]!r} has more than {DOMAIN_BYTES_MAX} bytes;"
                " no expert can claim it"
            )
        if not re.fullmatch(rf"(?:{OWN}|[0-9a-f]{{64}})?", self.only):
            raise UsageError(
                f"only {self.only[:80]!r} is neither {OWN!r} nor a model's digest in hexadecimal"
            )
        if not 0 <= (self.likeliest or 0) <= LIKELIEST_MAX:
            raise UsageError(
                f"likeliest is {self.likeliest}, and it must be a whole number from 0 to"
                f" {LIKELIEST_MAX}"
            )
        if not re.fullmatch(r"(?:[0-9a-f]{32})?", self.receipt):
            raise UsageError(
                f"receipt {self.receipt[:40]!r} is not the name of one: 32 hexadecimal digits that"
                " nobody else has drawn"
            )
        check_stops(self.stop)
        if self.grammar is not None:
            self.grammar.check()
        validate(self.drawn())


OWN_SETTINGS: Final = tuple(f.name for f in fields(TextRequest) if f.name in SETTINGS)
"""The fields that a node has settings for: `k`, `extra`, `quality` and `speculation`. The settings'
bounds are those of the fields."""
DEFAULTS: Final = TextRequest()
"""What is asked for where nobody says anything, not even a node's config (`usual_request`)."""


def usual_request(config: Config) -> TextRequest:
    """What is asked for where nobody says anything but the node's config."""
    return replace(DEFAULTS, **{name: getattr(config, name) for name in OWN_SETTINGS})


def breadth_of(request: TextRequest, settings: Settings) -> dict[str, Any]:
    """`k`, `extra`, `quality` and `speculation` of a `GenerateRequest`, with what the settings have
    now for those that the request leaves open."""
    given = {name: getattr(request, name) for name in OWN_SETTINGS}
    found = usual_breadth(settings)
    return found | {name: value for name, value in given.items() if value is not None}


_KINDS: Final[dict[str, tuple[tuple[type, ...], str]]] = {
    "str": ((str,), "a text"),
    "str | None": ((str, type(None)), "a text or null"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "int | None": ((int, type(None)), "a whole number or null"),
    "float | None": ((int, float, type(None)), "a number or null"),
    "bool": ((bool,), "true or false"),
}
_LISTS: Final[dict[str, tuple[type, str]]] = {
    "stop": (str, "a list of strings"),
    "turns": (int, "a list of whole numbers"),
    "prompt_ids": (int, "a list of whole numbers"),
    "messages": (dict, "a list of messages"),
}
FIELDS: Final[dict[str, str]] = {
    one.name: str(one.type) for one in fields(TextRequest) if one.name != "sampling"
} | {name: f"{parameter.kind.__name__} | None" for name, parameter in SAMPLING.items()}
"""The fields of a request as a client writes them, those of `sampling` among the others, each with
its kind."""


def parse_request(params: Mapping[str, object], defaults: TextRequest = DEFAULTS) -> TextRequest:
    """The request in the fields of a question; `defaults` holds for those left out. UsageError for
    a missing, unknown or mistyped one.

    Whether the values make sense is said by `TextRequest.check`.
    """
    if not {"prompt", "prompt_ids", "messages"} & params.keys():
        for name in params:
            _kind_of(name)
        raise UsageError(
            "generate needs the field 'prompt', the text that is to be continued, or 'messages',"
            " the conversation that is to be answered"
        )
    values: dict[str, Any] = {name: _typed(name, value) for name, value in params.items()}
    given = {name: values.pop(name) for name in list(values) if name in SAMPLING}
    sampling = {name: value for name, value in given.items() if value is not None}
    return replace(defaults, sampling={**defaults.sampling, **sampling}, **values)


def params_of(request: TextRequest) -> dict[str, object]:
    """What `parse_request` reads: the way of a request to another process."""
    values: dict[str, Any] = {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(request).items()
    }
    sampling = values.pop("sampling")
    return values | {name: sampling.get(name) for name in SAMPLING}


def _kind_of(name: str) -> str:
    if name not in FIELDS:
        raise UsageError(f"generate takes no field {name[:40]!r}; it takes {', '.join(FIELDS)}")
    return FIELDS[name]


def _typed(name: str, value: object) -> object:
    kind = _kind_of(name)
    if name == "grammar":
        return _grammar_of(value)
    if name == "bias":
        return _bias_of(value)
    if name in _LISTS:
        item, expected = _LISTS[name]
        if not isinstance(value, (list, tuple)) or not all(type(one) is item for one in value):
            raise UsageError(
                f"the field {name!r} of generate is {expected}; correct or leave it out"
            )
        return tuple(map(message_of, value)) if item is dict else tuple(value)
    types, expected = _KINDS[kind]
    if not isinstance(value, types) or isinstance(value, bool) is not (kind == "bool"):
        raise UsageError(
            f"the field {name!r} of generate is {expected}, not {type(value).__name__};"
            " correct or leave it out"
        )
    return value


def _bias_of(value: object) -> tuple[tuple[int, float], ...]:
    """A list of pairs: a token id and a number."""
    found = []
    for pair in value if isinstance(value, (list, tuple)) else [None]:
        match pair:
            case (int(token), int() | float() as nats) if bool not in {type(token), type(nats)}:
                found.append((token, float(nats)))
            case _:
                raise UsageError(
                    "the field 'bias' of generate is a list of pairs, a token id and a number each;"
                    " correct or leave it out"
                )
    if len({token for token, _ in found}) < len(found):
        raise UsageError("the field 'bias' of generate names a token twice; correct it")
    return tuple(found)


def _grammar_of(value: object) -> GrammarSource | None:
    """Its fields are `kind` and `text`."""
    if value is None or isinstance(value, GrammarSource):
        return value
    if (
        not isinstance(value, Mapping)
        or not {"kind"} <= set(value) <= {"kind", "text"}
        or not all(isinstance(one, str) for one in value.values())
    ):
        raise UsageError(
            "the field 'grammar' of generate is an object with the texts 'kind' and 'text'; correct"
            " or leave it out"
        )
    return GrammarSource(value["kind"], value.get("text", ""))
