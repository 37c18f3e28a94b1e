"""The options that several commands share, declared once so that they read the same everywhere.

A setting's option is made of its row in the table of settings, one of the sampling of its
declaration in `core.values`. Where commands share a whole group of options, the group is a
dataclass: a command takes one parameter of its type, and `spread` shows its fields to typer as if
each were a parameter of the command.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from swarmllm.cli.helping import default_is
from swarmllm.core.values import MAX_TOKENS_USUAL, SAMPLING, USUAL_SAMPLING
from swarmllm.runtime.config import SETTINGS
from swarmllm.runtime.config.setting import PANELS
from swarmllm.runtime.config.showing import NO_DEFAULT, default_text

if TYPE_CHECKING:  # Help must not cost their imports.
    from swarmllm.runtime.config import Config
    from swarmllm.runtime.service.request import TextRequest

NODE, MODEL, ANSWER, OUTPUT, _ = PANELS

ADVISED = ", or what the model advises for a chat"

Flags = dict[str, Any]
"""Settings as typed, by name, for `config_of`; None: not given."""


class Drawing(dict[str, float]):
    """The parameters of the sampling that were given, by name."""


Json = Annotated[
    bool,
    typer.Option(
        "--json", help="One JSON object a line on standard output.", rich_help_panel=OUTPUT
    ),
]


def option_of(name: str) -> Any:
    """The option of a setting, made of its row in the table."""
    row = SETTINGS[name]
    text = (row.help or row.about) + (" Repeatable." if row.kind is list else "")
    text = text.replace("`", "").replace("[", r"\[")
    usual = default_text(row).replace("`", "")
    if row.kind is not bool and usual != NO_DEFAULT:
        text += default_is(usual)
    return typer.Option(
        row.option, *row.also, metavar=row.metavar, help=text, rich_help_panel=row.panel
    )


@dataclass(frozen=True, slots=True)
class Takes:
    """Marks a parameter of type `Flags`: `spread` shows the named settings in its place."""

    names: tuple[str, ...]

    def parameters(self) -> list[inspect.Parameter]:
        found = []
        for name in self.names:
            kind: Any = list[str] if SETTINGS[name].kind is list else SETTINGS[name].kind
            default, kind = (False, kind) if kind is bool else (None, kind | None)
            found.append(_parameter(name, default, Annotated[kind, option_of(name)]))
        return found

    def taken(self, values: dict[str, Any]) -> Flags:
        """Out of the values of a command's parameters: its settings, a switch that was not given
        being None."""
        flags = {name: values.pop(name) for name in self.names}
        switches = {
            name: (SETTINGS[name].sets if flags[name] else None)
            for name in flags
            if SETTINGS[name].kind is bool
        }
        return flags | switches


DataDir = Annotated[str | None, option_of("data_dir")]
CacheDir = Annotated[str | None, option_of("cache_dir")]
Threads = Annotated[int | None, option_of("threads")]
Context = Annotated[int | None, option_of("context_max")]
ServingSettings = Annotated[
    Flags, Takes(tuple(name for name, row in SETTINGS.items() if row.panel != ANSWER))
]
AskingSettings = Annotated[
    Flags,
    Takes(
        (
            *(name for name, row in SETTINGS.items() if row.panel == ANSWER),
            *("peers", "swarm", "charter", "vocabulary", "lan", "data_dir", "cache_dir"),
        )
    ),
]

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="smollm2, hf:OWNER/REPO/FILE.gguf, hf:OWNER/REPO:QUANT, llama3-demo:NAME or a GGUF "
        "file.",
    ),
]

Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        "-y",
        help="Fetch SmolLM2 (93 MB) if it is not here and no model is named, without a question.",
        rich_help_panel=MODEL,
    ),
]
Tiny = Annotated[
    bool,
    typer.Option(
        "--tiny",
        help="Tiny demonstration experts, which need no download, in place of SmolLM2.",
        rich_help_panel=MODEL,
    ),
]

Domain = Annotated[
    str | None,
    typer.Option(
        "--domain",
        metavar="NAME",
        help="Give experts of this domain more weight at first.",
        rich_help_panel=ANSWER,
    ),
]
MaxTokens = Annotated[
    int, typer.Option("--max-tokens", help="Length of the answer at most.", rich_help_panel=ANSWER)
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        help="The same seed draws the same tokens from the same distributions.",
        rich_help_panel=ANSWER,
    ),
]
Stop = Annotated[
    list[str] | None,
    typer.Option(
        "--stop",
        metavar="TEXT",
        help="End the answer before this text (repeatable).",
        rich_help_panel=ANSWER,
    ),
]
JsonSchema = Annotated[
    str | None,
    typer.Option(
        "--json-schema",
        metavar="FILE|TEXT",
        help="The answer is JSON of this schema, which is in a file or given as text.",
        rich_help_panel=ANSWER,
    ),
]
Regex = Annotated[
    str | None,
    typer.Option(
        "--regex",
        metavar="EXPRESSION",
        help="The answer matches this regular expression as a whole.",
        rich_help_panel=ANSWER,
    ),
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        metavar="text|json",
        help="json: the answer is a JSON object.",
        rich_help_panel=ANSWER,
    ),
]
GrammarFile = Annotated[
    str | None,
    typer.Option(
        "--grammar",
        metavar="FILE",
        help="The answer is a text of the Lark grammar in this file.",
        rich_help_panel=ANSWER,
    ),
]
Chat = Annotated[
    bool,
    typer.Option(
        "--chat/--raw",
        help="--chat: the text is a question, written as the model's chat template says. --raw, the"
        " default: it is continued as it stands.",
        rich_help_panel=ANSWER,
    ),
]
System = Annotated[
    str,
    typer.Option(
        "--system",
        metavar="TEXT",
        help="Instructions to the assistant of a chat.",
        rich_help_panel=ANSWER,
    ),
]
Verbose = Annotated[
    bool,
    typer.Option(
        "-v",
        "--verbose",
        help="For each token: who answered, weights, agreement, time, bytes.",
        rich_help_panel=OUTPUT,
    ),
]
NoLocal = Annotated[
    bool,
    typer.Option(
        "--no-local",
        help="Without a running node: ask others alone, and load no model that is here.",
        rich_help_panel=MODEL,
    ),
]


@dataclass(frozen=True, slots=True)
class Answering:
    """What `generate` and `chat` take."""

    settings: AskingSettings = field(default_factory=dict)
    domain: Domain = None
    max_tokens: MaxTokens = MAX_TOKENS_USUAL
    sampling: Drawing = field(default_factory=Drawing)
    seed: Seed = None
    stop: Stop = None
    json_schema: JsonSchema = None
    regex: Regex = None
    format: Format = "text"
    grammar: GrammarFile = None
    no_local: NoLocal = False
    verbose: Verbose = False

    def config(self) -> Config:
        from swarmllm.cli.settings import config_of

        return config_of(**self.settings)

    def request(self, prompt: str, config: Config) -> TextRequest:
        from swarmllm.cli.grammars import grammar_of
        from swarmllm.runtime.service.request import usual_request
        from swarmllm.runtime.user_text import typed_text

        return replace(
            usual_request(config),
            prompt=typed_text(prompt, "the prompt"),
            domain=typed_text(self.domain or "", "--domain"),
            max_tokens=self.max_tokens,
            sampling=self.sampling,
            seed=self.seed,
            stop=tuple(typed_text(stop, "--stop") for stop in self.stop or ()),
            grammar=grammar_of(self.json_schema, self.regex, self.grammar, self.format),
        )


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """The command with its groups of options shown one by one, in place: the fields of a parameter
    whose type is a dataclass, the settings of one that is marked by `Takes`, the parameters of the
    sampling for a `Drawing`."""
    shown: list[inspect.Parameter] = []
    groups: dict[str, Callable[[dict[str, Any]], Any]] = {}
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        parameters, take = _group(hints[name])
        if take is None:
            shown.append(_parameter(name, parameter.default, hints[name]))
        else:
            groups[name] = take
            shown += parameters

    @wraps(command)
    def called(**values: Any) -> None:
        for name, take in groups.items():
            values[name] = take(values)
        command(**values)

    called.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]  # What typer reads.
    called.__annotations__ = {p.name: p.annotation for p in shown}
    return called


_Group = tuple[list[inspect.Parameter], Callable[[dict[str, Any]], Any] | None]


def _group(hint: Any) -> _Group:
    """The options that a group consists of, and how to take its value out of theirs; no group:
    none, and None."""
    takes = next(
        (mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Takes)), None
    )
    if takes is not None:
        return takes.parameters(), takes.taken
    if hint is Drawing:
        return _drawing_parameters(), lambda values: {
            name: value for name in SAMPLING if (value := values.pop(name)) is not None
        }
    if not is_dataclass(hint):
        return [], None
    assert isinstance(hint, type)
    return _fields_of(hint)


def _fields_of(kind: type) -> _Group:
    shown: list[inspect.Parameter] = []
    taken: dict[str, Callable[[dict[str, Any]], Any]] = {}
    within = get_type_hints(kind, include_extras=True)
    for f in fields(kind):
        parameters, take = _group(within[f.name])
        if take is None:
            assert f.default is not MISSING, f"{kind.__name__}.{f.name} has no default"
            parameters, take = [_parameter(f.name, f.default, within[f.name])], _popping(f.name)
        shown += parameters
        taken[f.name] = take
    return shown, lambda values: kind(**{name: take(values) for name, take in taken.items()})


def _drawing_parameters() -> list[inspect.Parameter]:
    found = []
    for name, row in SAMPLING.items():
        usual = f"{getattr(USUAL_SAMPLING, name):g}"
        about = row.about + default_is(usual + (ADVISED if row.advised else ""))
        option = typer.Option(f"--{name.replace('_', '-')}", help=about, rich_help_panel=ANSWER)
        kind: Any = row.kind
        found.append(_parameter(name, None, Annotated[kind | None, option]))
    return found


def _popping(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda values: values.pop(name)


def _parameter(name: str, default: object, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )
