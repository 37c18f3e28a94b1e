"""Words of strangers reach people through `cli.output`, `cli.screen` and `runtime.logs` alone, read
off the syntax trees.

Inside the door a string is a string (`test_door`); so all that is looked for here is code that
would go past it. `check` maps one module's source to the sentences that are wrong with it, so that
the checker itself can be shown bad code.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests import ROOT

FILES: Final = sorted(path.relative_to(ROOT) for path in (ROOT / "swarmllm").rglob("*.py"))
DOOR: Final = {
    *(f"swarmllm/cli/{name}.py" for name in ("output", "progress_line", "screen")),
    "swarmllm/runtime/logs.py",
}
# Run as children: they print what they found for the program that started them.
TO_PARENTS: Final = {
    "swarmllm/adapters/llama/measure.py",
    "swarmllm/adapters/upnp.py",
    "swarmllm/cli/bench/api_load.py",
}

# What may be taken from rich besides the door's own `Screen`, `Line` and `Flow`: nothing that makes
# a console, text or markup.
RICH: Final = {
    "rich.box": {"SIMPLE_HEAD"},
    "rich.console": {"Group", "RenderableType"},
    "rich.live": {"Live"},
    "rich.markdown": {"Markdown"},
    "rich.padding": {"Padding"},
    "rich.progress": {
        "BarColumn",
        "DownloadColumn",
        "MofNCompleteColumn",
        "Progress",
        "TextColumn",
        "TimeRemainingColumn",
    },
    "rich.rule": {"Rule"},
    "rich.table": {"Table"},
}
STREAMS: Final = {"stdout", "stderr", "__stdout__", "__stderr__"}
WRITING: Final = {"write", "writelines", "buffer"}
READING_MARKUP: Final = {"from_markup", "from_ansi"}
ASKING: Final = {"input", "getpass", "getpass.getpass"}
ECHOING: Final = {"typer.echo", "typer.secho", "click.echo", "click.secho"}
TRACING: Final = {
    "traceback.print_exc",
    "traceback.print_exception",
    "traceback.print_tb",
    "traceback.print_stack",
}
LOGGING: Final = {"logging.basicConfig", "logging.StreamHandler"}
# They write to a console of rich's own if they are given none.
OWN_CONSOLE: Final = {"Progress", "Live"}


def check(source: str) -> list[str]:
    """What goes past the door in one module, one sentence each."""
    tree = ast.parse(source)
    ours = {"Progress", "Live"} - {
        one.name
        for node in ast.walk(tree)
        for one in getattr(node, "names", [])
        if _is_of_rich(node)
    }
    found = [
        (node, wrong) for node in ast.walk(tree) for wrong in (*_imports(node), *_calls(node, ours))
    ]
    return [f"line {getattr(node, 'lineno', 0)}: {wrong}" for node, wrong in found]


def _is_of_rich(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rich.")


def _imports(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names):
            yield from (
                f"imports {alias.name}" for alias in names if alias.name.split(".")[0] == "rich"
            )
        case ast.ImportFrom(str(module), names) if module.split(".")[0] == "rich":
            yield from (
                f"takes {one.name} from {module}"
                for one in names
                if one.name not in RICH.get(module, set())
            )
        case _:
            pass


def _calls(node: ast.AST, ours: set[str]) -> Iterator[str]:
    match node:
        case ast.Attribute(ast.Attribute(ast.Name("sys"), stream), attr=way) if (
            stream in STREAMS and way in WRITING
        ):
            yield f"writes to sys.{stream}"
        case ast.Attribute(attr=name) if name in READING_MARKUP:
            yield f"reads {name.removeprefix('from_')}"
        case ast.keyword(arg="markup" | "emoji" | "highlight", value=ast.Constant(True)):
            yield f"asks for {node.arg}"
        case ast.Call(func, arguments, keywords):
            yield from _call(
                ast.unparse(func), arguments, {word.arg: word.value for word in keywords}, ours
            )
        case _:
            pass


def _call(
    name: str, arguments: list[ast.expr], words: dict[str | None, ast.expr], ours: set[str]
) -> Iterator[str]:
    if name == "print" and not all(isinstance(one, ast.Constant) for one in arguments):
        yield "prints"
    elif name == "os.write" and arguments and isinstance(arguments[0], ast.Constant):
        yield f"writes to file descriptor {arguments[0].value!r}"
    elif name in ASKING and not all(_is_our_own(one) for one in arguments):
        yield f"shows a question with {name}"
    elif (
        name in ECHOING and not all(ast.unparse(one).endswith(".get_help()") for one in arguments)
    ) or name in TRACING | LOGGING:
        yield f"writes with {name}"
    elif name in OWN_CONSOLE - ours and "console" not in words:
        yield f"leaves {name} to a console of its own"
    elif name == "TextColumn" and not (
        isinstance(reads := words.get("markup"), ast.Constant) and reads.value is False
    ):
        yield "lets TextColumn read markup"


def _is_our_own(text: ast.expr) -> bool:
    """A literal, a constant, or what was made visible."""
    return (
        isinstance(text, ast.Constant)
        or ast.unparse(text).isupper()
        or ast.unparse(text).startswith("one_line(")
    )


@pytest.mark.parametrize(
    "path", [path for path in FILES if str(path) not in DOOR | TO_PARENTS], ids=str
)
def test_nothing_goes_past_the_door(path: Path) -> None:
    wrong = check((ROOT / path).read_text(encoding="utf-8"))
    assert not wrong, f"{path}: take cli.output or cli.screen\n  " + "\n  ".join(wrong)


def test_the_door_is_where_it_was() -> None:
    assert set(map(str, FILES)) >= DOOR | TO_PARENTS


BAD: Final = [
    "from rich.console import Console",
    "from rich.text import Text",
    "from rich import print",
    "import rich",
    "import rich.console",
    "from rich.panel import Panel",
    "from rich.status import Status",
    "from rich.prompt import Prompt",
    "print(name)",
    "print(f'{name}')",
    "print(*names)",
    "sys.stdout.write(text)",
    "sys.stderr.write(text)",
    "sys.__stdout__.write(text)",
    "sys.stdout.buffer.write(data)",
    "say = sys.stdout.write",
    "os.write(1, data)",
    "Text.from_markup(text)",
    "console.print(text, markup=True)",
    "console.print(text, emoji=True)",
    "people(highlight=True)",
    "typer.echo(name)",
    "typer.secho(f'{name}', fg='red')",
    "input(f'{name}> ')",
    "getpass.getpass(question)",
    "traceback.print_exception(fault)",
    "logging.basicConfig(level=10)",
    "from rich.progress import Progress\nProgress(TextColumn('a', markup=False))",
    "from rich.live import Live\nLive(table)",
    "TextColumn('{task.description}')",
    "TextColumn('{task.description}', markup=flag)",
]
GOOD: Final = [
    "from rich.table import Table\nfrom rich.console import Group",
    "print('ready', flush=True)",
    "sys.stdout.isatty() and sys.stderr.fileno()",
    "os.write(descriptor, data)",
    "people().print(f'{name}')",
    "typer.echo(context.get_help())",
    "input(PROMPT) + getpass.getpass(one_line(question))",
    "from rich.live import Live\nLive(table, console=console)",
    "from swarmllm.runtime.service.json_events import Progress\nProgress(what, 1, 2)",
    "TextColumn('{task.description}', markup=False)",
    "sys.stdin.buffer.read(1)",
]


@pytest.mark.parametrize("source", BAD)
def test_code_that_goes_past_it_is_found(source: str) -> None:
    assert len(check(source)) == 1


@pytest.mark.parametrize("source", GOOD)
def test_code_that_does_not_is_left_in_peace(source: str) -> None:
    assert check(source) == []
