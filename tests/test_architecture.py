"""The folder is the layer: who may import whom, what pure code may not touch, and how long things
may grow, read off the syntax trees.

`check` maps one module's source to the sentences that are wrong with it, so the checker itself can
be shown bad code.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests import ROOT

FUNCTION_LINES_MAX: Final = 60  # A function fits a screen.
# Worth a look for a second machine that hides inside: said, not refused.
MODULE_LINES_LONG: Final = 400
MODULE_LINES_MAX: Final = 600  # A module fits a sitting. Nothing is split for its length alone.
METHODS_MAX: Final = 20  # A class with more is two machines, as a rule.
# Those that have more. The numbers may only fall: a class that has come down is taken out.
MANY_METHODS: Final[dict[str, int]] = {
    "swarmllm.adapters.libp2p.link.Link": 27,
    "swarmllm.adapters.libp2p.links.Links": 31,
    "swarmllm.adapters.libp2p.network.Libp2pNetwork": 29,
    "swarmllm.adapters.llama.engine.LlamaEngine": 25,
    "swarmllm.core.halt.machine.HaltMachine": 35,
    "swarmllm.runtime.driver.Driver": 31,
    "swarmllm.testing.memory_network.MemoryNetwork": 27,
    "swarmllm.testing.world.network.SimulatedNetwork": 33,
    "swarmllm.testing.world.faults.Faults": 30,
    "swarmllm.testing.world.host.Host": 31,
    "swarmllm.testing.world.world.World": 26,
    "tests.core.halt.test_schedules.Swarm": 23,
}
# Modules that know each other in a circle, found as they stood when this was first looked at. May
# only shrink.
CIRCLES: Final[frozenset[frozenset[str]]] = frozenset(
    {
        frozenset(
            {
                "swarmllm.sims.frame.cluster",
                "swarmllm.sims.frame.command",
                "swarmllm.sims.frame.drawing",
                "swarmllm.sims.frame.options",
                "swarmllm.sims.frame.points",
                "swarmllm.sims.frame.running",
                "swarmllm.sims.frame.script",
                "swarmllm.sims.frame.store",
                "swarmllm.sims.frame.summary",
                "swarmllm.sims.frame.table",
                "swarmllm.sims.study",
            }
        ),
        frozenset({"swarmllm.testing.memory_network", "swarmllm.testing.memory_wire"}),
        frozenset(
            {
                "swarmllm.testing.world.checks",
                "swarmllm.testing.world.effects",
                "swarmllm.testing.world.network",
                "swarmllm.testing.world.host",
                "swarmllm.testing.world.recorder",
                "swarmllm.testing.world.roles",
                "swarmllm.testing.world.world",
            }
        ),
    }
)


class LongModule(UserWarning):
    """A module that somebody should look at."""


# Each layer imports only itself and what stands before it. `experts` is package data. `assembly`
# composes what stands before it; the root, `swarmllm` itself, is how embedders, agent, api and cli
# reach it.
LAYERS: Final = (
    ("errors", "messages", "experts"),
    ("wire",),
    ("core",),
    ("runtime",),
    ("adapters",),
    ("assembly",),
    ("",),
    ("agent",),
    ("api",),
    ("cli",),
    ("__main__",),
)
RANK: Final = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# What `testing` stands on: doubles and the virtual world need the ports and all below, and may
# compose whole nodes.
TESTING_IMPORTS: Final = frozenset(
    {"errors", "messages", "wire", "core", "runtime", "adapters", "assembly", "", "testing"}
)
# Nothing that ships imports `testing`, except: measuring over slow links and showing a node's death
# need the delay proxy; halting fifty nodes on one machine needs engines without a model and their
# vocabulary; how fast the world is, the world.
TESTING_EXCEPTIONS: Final = {
    "swarmllm.cli.bench": frozenset(
        f"swarmllm.testing.{name}"
        for name in (
            "proxy",
            "scripted_engine",
            "scripted_model",
            "scripted_text",
            "world",
            "world.event_queue",
        )
    ),
    "swarmllm.cli.demo": frozenset({"swarmllm.testing.proxy"}),
    "swarmllm.cli.demo_links": frozenset({"swarmllm.testing.proxy"}),
}
# Whoever runs simulations: the studies, and what would become of a proposed setting.
SIMS_USERS: Final = ("swarmllm.cli.simulate", "swarmllm.cli.validation.running")
SIMS_IMPORT: Final = frozenset({"errors", "messages", "wire", "core", "testing"})
# Studies are numpy and pictures; the frame around them shows progress and may compute on a cluster.
SIMS_THIRD_PARTY: Final = frozenset({"numpy", "matplotlib", "rich", "distributed"})

PURE: Final = frozenset({"errors", "messages", "wire", "core"})
PURE_THIRD_PARTY: Final = frozenset({"numpy", "msgpack"})
THIRD_PARTY: Final[dict[str, frozenset[str] | None]] = {  # None: any.
    "errors": frozenset(),
    "messages": frozenset(),
    "experts": frozenset(),
    "wire": PURE_THIRD_PARTY,
    "core": PURE_THIRD_PARTY,
    "runtime": frozenset({"trio"}),
    "assembly": frozenset({"trio"}),
    "": frozenset(),
    "__main__": frozenset(),
    "adapters": None,
    "agent": frozenset({"trio"}),
    "api": None,
    "cli": None,
    "testing": None,
}

# The parts of the standard library through which a clock, chance, another task or the world would
# come in.
IMPURE: Final = frozenset(
    """time datetime calendar sched asyncio threading _thread multiprocessing concurrent subprocess
    signal select selectors socket ssl socketserver http urllib ftplib smtplib email secrets uuid
    getpass logging warnings os posix io pathlib shutil tempfile glob fcntl mmap sqlite3 dbm shelve
    pickle ctypes importlib queue contextvars platform pwd resource gc weakref
    atexit""".split()  # noqa: SIM905
)
IMPURE_BUILTINS: Final = frozenset(
    {"print", "input", "open", "eval", "exec", "compile", "__import__", "breakpoint"}
)
ASYNC: Final = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, absolute; `name` is what `from` takes out of it. `is_lazy`: inside a
    function, or for the type checker only."""

    module: str
    name: str
    line: int
    is_lazy: bool


def layer_of(module: str) -> str | None:
    """`swarmllm.core.node` -> `core`; the root is ``; None outside the package. The folder sims is
    `swarmllm.sims`."""
    parts = module.split(".")
    if parts[0] != "swarmllm":
        return None
    return parts[1] if len(parts) > 1 else ""


def imports_of(tree: ast.Module, module: str, is_package: bool) -> Iterator[Import]:
    def walk(node: ast.AST, is_lazy: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            match child:
                case ast.Import(names):
                    yield from (Import(alias.name, "", child.lineno, is_lazy) for alias in names)
                case ast.ImportFrom(target, names, level):
                    base = _resolved(module, is_package, target, level)
                    yield from (Import(base, alias.name, child.lineno, is_lazy) for alias in names)
                case _:
                    pass
            deeper = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) or (
                isinstance(child, ast.If) and _is_typing_only(child)
            )
            yield from walk(child, is_lazy or deeper)

    return walk(tree, False)


def _resolved(module: str, is_package: bool, target: str | None, level: int) -> str:
    if level == 0:
        assert target is not None
        return target
    parts = module.split(".")
    parts = parts[: len(parts) - level + is_package]
    return ".".join([*parts, *([target] if target else [])])


def _is_typing_only(node: ast.If) -> bool:
    return ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def check(source: str, module: str, is_package: bool = False) -> list[str]:
    """What is wrong with one module, one sentence each."""
    tree = ast.parse(source)
    wrong = [*_lengths(tree, source, module), *_swallowed(tree)]
    layer = module.split(".", maxsplit=1)[0] if layer_of(module) is None else layer_of(module)
    assert layer is not None
    if layer in {"tests", "scripts"}:
        return wrong
    for found in imports_of(tree, module, is_package):
        wrong += _import(found, module, layer)
    if layer in PURE:
        wrong += _impure(tree)
    return wrong


def _import(found: Import, module: str, layer: str) -> Iterator[str]:
    root = found.module.split(".")[0]
    if root == "swarmllm":
        yield from _own_import(found, module, layer)
    elif root in sys.stdlib_module_names:
        if layer in PURE and root in IMPURE:
            yield f"line {found.line}: pure code imports {found.module}"
    elif root == "sims":
        yield (
            f"line {found.line}: {module} imports {found.module}; the studies are swarmllm.sims,"
            " and imported twice otherwise"
        )
    else:
        allowed = SIMS_THIRD_PARTY if layer == "sims" else THIRD_PARTY.get(layer, frozenset())
        if allowed is not None and root not in allowed:
            yield f"line {found.line}: {layer or 'the root'} imports the third-party {found.module}"


def _own_import(found: Import, module: str, layer: str) -> Iterator[str]:
    target = layer_of(found.module)
    assert target is not None
    if target == "" and (found.name in RANK or found.name in {"testing", "sims"}):
        target = found.name  # `from swarmllm import errors`
    shown = f"line {found.line}: {module} imports swarmllm{'.' + target if target else ''}"
    if target == "sims":
        if module not in SIMS_USERS and layer != "sims":
            yield f"{shown}, which only {' and '.join(SIMS_USERS)} may"
    elif layer == "sims":
        if target not in SIMS_IMPORT:
            yield f"{shown}; sims know {', '.join(sorted(SIMS_IMPORT))} only"
    elif layer == "testing":
        if target not in TESTING_IMPORTS:
            yield f"{shown}, which testing may not"
    elif target == "testing":
        allowed = TESTING_EXCEPTIONS.get(".".join(module.split(".")[:3]), frozenset())
        if not allowed & {found.module, f"{found.module}.{found.name}"}:
            yield f"{shown}, which only tests and sims may"
    elif target not in RANK:
        yield f"{shown}, which is in no layer"
    elif RANK[target] > RANK[layer]:
        yield f"{shown}, which is above it"
    elif layer == "" and target not in {"errors", "messages"} and not found.is_lazy:
        # Importing swarmllm.core runs swarmllm/__init__ first: that must not load trio, libp2p and
        # llama.cpp.
        yield f"{shown} at once; the root imports what is above messages only inside functions"


def _impure(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ASYNC) or (isinstance(node, ast.comprehension) and node.is_async):
            yield f"line {getattr(node, 'lineno', 0)}: pure code is async"
        match node:
            case ast.Call(ast.Name(id=name)) if name in IMPURE_BUILTINS:
                yield f"line {node.lineno}: pure code calls {name}"
            case ast.Call(
                ast.Attribute(ast.Name("random"), "Random") | ast.Name("Random"),
                args=[],
                keywords=[],
            ):
                yield f"line {node.lineno}: random.Random without a seed takes one from the system"
            case ast.Attribute(ast.Name("random"), name) if name != "Random":
                yield f"line {node.lineno}: global randomness, random.{name}"
            case ast.Attribute(ast.Name("np" | "numpy"), "random"):
                yield f"line {node.lineno}: numpy's randomness; take a random.Random as an argument"
            case ast.ImportFrom("random", names) if {alias.name for alias in names} - {"Random"}:
                yield f"line {node.lineno}: global randomness from random"
            case ast.ImportFrom("numpy", names) if "random" in {alias.name for alias in names}:
                yield f"line {node.lineno}: numpy's randomness"
            case ast.Import(names) if any(alias.name.startswith("numpy.random") for alias in names):
                yield f"line {node.lineno}: numpy's randomness"
            case ast.ImportFrom(str(target)) if target.startswith("numpy.random"):
                yield f"line {node.lineno}: numpy's randomness"
            case ast.Import(names) if any(
                alias.name == "random" and alias.asname for alias in names
            ):
                yield f"line {node.lineno}: random under a name that this check cannot follow"


def _lengths(tree: ast.Module, source: str, module: str) -> Iterator[str]:
    lines = len(source.splitlines())
    if lines > MODULE_LINES_MAX:
        yield f"the module has {lines} lines, more than {MODULE_LINES_MAX}"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield (
                    f"line {node.lineno}: {node.name} has {lines} lines,"
                    f" more than {FUNCTION_LINES_MAX}"
                )
        elif isinstance(node, ast.ClassDef):
            methods = sum(
                isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)) for one in node.body
            )
            most = MANY_METHODS.get(f"{module}.{node.name}", METHODS_MAX)
            if methods > most:
                yield f"line {node.lineno}: {node.name} has {methods} methods, more than {most}"
            elif most > METHODS_MAX and methods < most:
                yield (
                    f"line {node.lineno}: {node.name} has come down to {methods} methods;"
                    " lower its number in MANY_METHODS"
                )


def _swallowed(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.ExceptHandler)
            and _catches_all(node.type)
            and all(_does_nothing(line) for line in node.body)
        ):
            yield f"line {node.lineno}: every exception is swallowed in silence"
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in {"suppress", "contextlib.suppress"}
            and any(map(_catches_all, node.args))
        ):
            yield f"line {node.lineno}: every exception is swallowed in silence"


def _catches_all(kind: ast.expr | None) -> bool:
    if isinstance(kind, ast.Tuple):
        return any(map(_catches_all, kind.elts))
    return kind is None or ast.unparse(kind) in {"Exception", "BaseException", "builtins.Exception"}


def _does_nothing(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Pass, ast.Continue)) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    )


# --- the tree -------------------------------------------------------------------------------------

FOLDERS: Final = ("swarmllm", "sims", "scripts", "tests")
FILES: Final = sorted(
    path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")
)


def _module(path: Path) -> str:
    """As it is imported: the folder sims is `swarmllm.sims`, through the link `swarmllm/sims`."""
    name = ".".join(path.parts[:-1] if path.name == "__init__.py" else path.with_suffix("").parts)
    return f"swarmllm.{name}" if path.parts[0] == "sims" else name


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_module_keeps_the_architecture(path: Path) -> None:
    wrong = check(
        (ROOT / path).read_text(encoding="utf-8"), _module(path), path.name == "__init__.py"
    )
    assert not wrong, f"{path}:\n  " + "\n  ".join(wrong)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_a_long_module_is_pointed_out(path: Path) -> None:
    lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())
    if lines > MODULE_LINES_LONG:
        warnings.warn(
            f"{path} has {lines} lines: does a second machine hide inside?",
            LongModule,
            stacklevel=1,
        )


def _circles(arrows: dict[str, set[str]]) -> set[frozenset[str]]:
    """The sets of more than one module that all reach each other (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: set[frozenset[str]] = set()

    def visit(one: str) -> None:
        order[one] = low[one] = len(order)
        stack.append(one)
        for other in sorted(arrows[one]):
            if other not in order:
                visit(other)
                low[one] = min(low[one], low[other])
            elif other in stack:
                low[one] = min(low[one], order[other])
        if low[one] == order[one]:
            circle = frozenset(stack[stack.index(one) :])
            del stack[stack.index(one) :]
            if len(circle) > 1:
                found.add(circle)

    for one in sorted(arrows):
        if one not in order:
            visit(one)
    return found


def _arrows(files: Sequence[Path]) -> dict[str, set[str]]:
    """Who imports whom, for the type checker only or inside a function included; a package stands
    for itself, not for its modules."""
    modules = {_module(path): path for path in files}
    arrows: dict[str, set[str]] = {}
    for module, path in modules.items():
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        named = (
            {f"{found.module}.{found.name}", found.module}
            for found in imports_of(tree, module, path.name == "__init__.py")
        )
        arrows[module] = {
            max(names & modules.keys(), key=len) for names in named if names & modules.keys()
        } - {module}
    return arrows


def test_no_modules_know_each_other_in_a_circle() -> None:
    shipped = [path for path in FILES if path.parts[0] in {"swarmllm", "sims"}]
    circles = {circle for circle in _circles(_arrows(shipped)) if "swarmllm" not in circle}
    new = [sorted(circle) for circle in circles if not any(circle <= known for known in CIRCLES)]
    assert not new, f"these modules import each other in a circle: {new}"
    gone = [sorted(known) for known in CIRCLES if known not in circles]
    assert not gone, f"these circles have shrunk or are gone; correct CIRCLES: {gone}"


def test_a_circle_is_found() -> None:
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {frozenset({"b", "c"})}


def test_every_folder_of_the_package_is_a_layer() -> None:
    found = {path.parts[1].removesuffix(".py") for path in FILES if path.parts[0] == "swarmllm"} - {
        "__init__"
    }
    assert found <= {*RANK, "testing"}
    assert {"wire", "core", "runtime", "adapters", "testing"} <= found
