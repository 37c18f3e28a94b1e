"""What a demo expert can be tried with beyond its perplexity: does its code compile, do its
proposals keep to the schema?

Every sample is the first draw from a fixed seed, without any constraint while it is written.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable

from scripts.demo_ops import proposal_prompts
from scripts.demo_reference import Writer
from scripts.ops_schema import SETTINGS, ProposalError, validate

TRIALS = 40
CODE_LINES_MIN = 3
CODE_TOKENS = 160
OPS_TOKENS = 200
CODE_OPENINGS = (
    "def read_config(path):\n",
    "def find(name, path=None):\n",
    "def _parse(text, start=0):\n",
    "def main(args=None):\n",
    "def copy(src, dst):\n",
    "def get(self, key, default=None):\n",
    "def open_file(filename, mode='r'):\n",
    "def test_simple(self):\n",
)


# A line that begins in the first column and closes no bracket.
NEXT_STATEMENT = re.compile(r"\n(?=[^\s)\]}])")


def function_in(text: str, ended: bool) -> str:
    """The first top-level statement of `text`: the lines before the next one that begins in the
    first column (a comment or decorator, too), and without the last line if the text was broken off
    in it."""
    if found := NEXT_STATEMENT.search(text):
        return text[: found.start()].rstrip()
    return (text if ended else text[: text.rfind("\n") + 1]).rstrip()


def compiles(source: str) -> bool:
    """Whether Python accepts it and it has at least CODE_LINES_MIN lines that are not empty."""
    if sum(bool(line.strip()) for line in source.split("\n")) < CODE_LINES_MIN:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Such as an invalid escape sequence in a string.
            compile(source, "<sample>", "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def code_trial(writer: Writer) -> str:
    """A sentence on how much of what it writes is Python."""
    done = 0
    for number in range(TRIALS):
        opening = CODE_OPENINGS[number % len(CODE_OPENINGS)]
        text, ended = writer.after(
            opening, CODE_TOKENS, lambda text: NEXT_STATEMENT.search(text) is not None
        )
        done += compiles(function_in(opening + text, ended))
    return (
        f"{done} of {TRIALS} sampled functions compile with Python's `compile()`. Each begins with"
        f" one of {len(CODE_OPENINGS)} first lines such as `{CODE_OPENINGS[0].strip()}` and goes on"
        f" for {CODE_TOKENS} tokens at most; it is cut before the next line that begins in the"
        " first column (other than a closing bracket) or, where none came, before the last,"
        f" unfinished line; a function of fewer than {CODE_LINES_MIN} lines that are not empty"
        " counts as a failure."
    )


def ops_trial(writer: Writer) -> str:
    """A sentence on how many of its proposals keep to the schema, and how many of these know the
    setting's present value."""
    valid = changes = true = 0
    prompts = proposal_prompts(TRIALS)
    for prompt, current in prompts:
        text, _ = writer.after(prompt, OPS_TOKENS, lambda text: "\n" in text)
        try:
            proposal = validate(text.split("\n")[0])
        except ProposalError:
            continue
        valid += 1
        if proposal.subject in SETTINGS:
            changes += 1
            true += proposal.before == current[proposal.subject]
    return (
        f"{valid} of {len(prompts)} sampled proposals are valid by `scripts/ops_schema.py`, written"
        " without constraint after the metrics of a simulated swarm that it was not trained on;"
        f" {changes} of these change or try a setting, and {true} of them give its present value"
        " rightly."
    )


TRIAL_OF: dict[str, Callable[[Writer], str]] = {"code": code_trial, "ops": ops_trial}
