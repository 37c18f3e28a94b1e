"""Write docs/configuration.md and docs/settings.md from the tables of settings, so that the pages
say what the program checks.

python scripts/make_configuration.py            writes both pages
python scripts/make_configuration.py --check    exits 1 if one is not up to date
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Final

from swarmllm.core.settings.setting import UNITS
from swarmllm.core.settings.table import SETTINGS as SWARM_SETTINGS
from swarmllm.core.values import SAMPLING, USUAL_SAMPLING
from swarmllm.runtime.config import SETTINGS
from swarmllm.runtime.config.reading import CONFIG_FILE, CONFIG_VERSION, OTHER_VARIABLES
from swarmllm.runtime.config.setting import PREFIX, Setting
from swarmllm.runtime.config.showing import allowed_text, default_text

DOCS = Path(__file__).resolve().parents[1] / "docs"
WIDTH = 100

HEAD = f"""# Configuration

This page is written by `scripts/make_configuration.py` from the table in
`swarmllm/runtime/config/table.py` and from `Sampling` in `swarmllm/core/values.py`. Do not edit it.

A setting is taken from the first place that has it:

1. an option of the command, such as `--port 7340`;
2. an environment variable, such as `{PREFIX}PORT=7340` (an empty one counts as not set);
3. the config file `{CONFIG_FILE}`;
4. the default.

The config file is in the user's config folder (`~/.config/swarmllm` on Linux). A data folder that
is named by `--data-dir` or `{PREFIX}DATA_DIR` brings its own config file. The file begins with
`version = {CONFIG_VERSION}`:

    version = {CONFIG_VERSION}
    model = "/home/ann/models/Llama-3.2-1B-Instruct-Q4_K_M.gguf"
    peers = ["/ip4/203.0.113.7/tcp/7339/p2p/12D3KooWMCqGiCdfJvbDXYmu7xYvrBihm8aFCVKWHGuK6mmY29W3"]
    threads = 4

An unknown key, an unknown `{PREFIX}*` variable and a value that is not allowed are errors: the
command says which, and starts nothing. Another program is called swarmllm as well and has the same
default folders. What it made there is refused by name and left alone; `--data-dir` gives this node
a folder of its own. A data folder of ours holds the file `swarmllm-node`.

What the swarm can change while it runs is in [settings.md](settings.md).

What `model` takes, and which model is loaded where nobody names one, is in [models.md](models.md).

Paths in the file are absolute (`~` is expanded). Not every command has every option; `--help` lists
those that it takes.

| key | option | variable | default |
|---|---|---|---|
"""

DRAWING = """
## How tokens are drawn

These are no settings of a node but parameters of each answer: options of `swarmllm generate` and
`swarmllm chat`, fields of a `generate` question at the local socket, and arguments of
`node.generate`. The defaults are the same in all three. In a chat (`swarmllm chat`, `generate
--chat`, `messages`) what the makers of this node's own model advise goes before the default: its
file's `general.sampling.*`, or for SmolLM2, whose file says nothing, temperature 0.2 and top_p 0.9.
`swarmllm models show MODEL` tells it.

| parameter | option | default | allowed | meaning |
|---|---|---|---|---|
"""

TAIL = """
Some variables are read by the commands themselves: `SWARMLLM_DEBUG=1` shows a traceback where an
error is otherwise one sentence, `SWARMLLM_PASSPHRASE_FILE` names the file with an operator's
passphrase, `SWARMLLM_PATIENCE_S` says after how many seconds a command stops waiting for a node
that does not answer, and `SWARMLLM_ALLOW_DUMPS=1` leaves core dumps and debuggers as the system has
them.

An option of the build, not of a node: to compile llama.cpp for a GPU, give its options to the first
run of a script, for example `CMAKE_ARGS="-DGGML_CUDA=on" scripts/demo`.
"""


SWARM = """# Settings that the swarm can change

This page is written by `scripts/make_configuration.py` from the table in
`swarmllm/core/settings/table.py`. Do not edit it.

These settings decide how answers are made and how nodes work for each other: whom the router asks,
how long a round waits, what experts weigh. The swarm can change them while it runs, by vote; a
change holds from the next decision on. Nothing that concerns keys, code, files, addresses or the
kill switch is among them.

A value is a whole number of the unit, everywhere: on this page, in votes, in the config file and on
the screen. Within the **bounds** a change is a small one; a charter may set other bounds. Beyond
them it takes the whole electorate, and beyond the **limits** no value is possible. Changes of a
setting that is the **operator**'s always take the whole electorate.

## See them, and pin them

    swarmllm settings                                # all: what this node goes by
    swarmllm settings show router.hedging_extra      # one, with who changed it last

Whoever owns a node may **pin** any of them for it, whatever the swarm sets:

    swarmllm join --pin router.hedging_extra=2       # repeatable

or in the config file:

    [pins]
    router.hedging_extra = 2

`k`, `extra` and `quality` of the [configuration](configuration.md) pin `answer.experts`,
`router.hedging_extra` and `cascade.wide_share`; and who asks for an answer may still ask for other
numbers. A pin is shown by `swarmllm settings`, with the value of the swarm beside it.

## The settings

| setting | unit | default | bounds | limits | owner | code |
|---|---|---|---|---|---|---|
"""


def page() -> str:
    """docs/configuration.md."""
    assert all(f"`{variable}" in TAIL for variable in OTHER_VARIABLES), (
        "a variable is missing at the end of the page"
    )
    rows = [
        f"| `{name}` | {option(row)} | {variable(row)} | {default_text(row)} |"
        for name, row in SETTINGS.items()
    ]
    meanings = [
        meaning(f"- `{name}`: {row.about} Allowed: {allowed_text(row)}.")
        for name, row in SETTINGS.items()
    ]
    drawing = [
        (
            f"| `{name}` | `--{name.replace('_', '-')}` | {getattr(USUAL_SAMPLING, name):g} |"
            f" {reach(name)} | {row.about} |"
        )
        for name, row in SAMPLING.items()
    ]
    settings = "\n".join(rows) + "\n\n## What each setting means\n\n" + "\n".join(meanings) + "\n"
    return HEAD + settings + TAIL + DRAWING + "\n".join(drawing) + "\n"


def swarm_page() -> str:
    """docs/settings.md."""
    rows = [
        f"| `{s.key}` | {s.unit} | {s.default} | {s.bounds.low} to {s.bounds.high} |"
        f" {s.limits.low} to {s.limits.high} | {s.owner} | {s.code} |"
        for s in SWARM_SETTINGS.values()
    ]
    effects = [meaning(f"- `{s.key}`: {s.effect}") for s in SWARM_SETTINGS.values()]
    units = "; ".join(
        f"1000 {unit} are 1 {of}" if of else f"1000 {unit} are all, or a ratio of 1"
        for unit, (_, of) in UNITS.items()
    )
    table = "\n".join(rows) + "\n\n" + textwrap.fill(f"Units: {units}.", WIDTH) + "\n"
    return SWARM + table + "\n## What a higher value does\n\n" + "\n".join(effects) + "\n"


PAGES: Final[dict[str, Callable[[], str]]] = {
    "configuration.md": page,
    "settings.md": swarm_page,
}


def reach(name: str) -> str:
    row = SAMPLING[name]
    top = f"{row.high:.0f}" if row.kind is int else f"{row.high:g}"
    return f"above {row.low:g}, at most {top}" if row.above else f"{row.low:g} to {top}"


def meaning(text: str) -> str:
    return textwrap.fill(
        text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def option(row: Setting) -> str:
    return f"`{row.option}`" + (", repeated" if row.kind is list else "")


def variable(row: Setting) -> str:
    return f"`{row.variable}`" + (", with commas" if row.kind is list else "")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare")
    is_check, stale = parser.parse_args().check, []
    for name, made in PAGES.items():
        path = DOCS / name
        if not is_check:
            path.write_text(made(), encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != made():
            stale.append(name)
    for name in stale:
        print(
            f"{name} is not what the settings say; run python scripts/make_configuration.py",
            file=sys.stderr,
        )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
