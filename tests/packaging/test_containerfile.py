"""The Containerfile held against the source: neither podman nor docker is needed. It is not
built here."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

import pytest
import typer.main

from swarmllm.cli.app import app
from swarmllm.runtime.config import SETTINGS
from tests import ROOT

KNOWN: Final = {
    *("FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "VOLUME", "EXPOSE", "STOPSIGNAL"),
    *("HEALTHCHECK", "ENTRYPOINT", "CMD"),
}


def instructions() -> list[tuple[str, str]]:
    """Each instruction and its words, continued lines in one, without comments."""
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    whole = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", text))
    lines = [line.split(None, 1) for line in whole.splitlines() if line.strip()]
    return [(name, words) for name, words in lines]


def last(name: str) -> str:
    return [words for found, words in instructions() if found == name][-1]


def test_it_has_known_instructions_alone_and_two_stages_of_one_pinned_image() -> None:
    assert {name for name, _ in instructions()} == KNOWN
    bases = [words.split()[0] for name, words in instructions() if name == "FROM"]
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.search(r":3\.1[1-4]-slim-\w+$", bases[0])


def test_what_it_copies_is_here_and_not_ignored() -> None:
    kept = (ROOT / ".containerignore").read_text(encoding="utf-8").splitlines()
    sources = [
        source
        for name, words in instructions()
        if name == "COPY" and not words.startswith("--from=")
        for source in words.split()[:-1]
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{Path(source)}" in kept


def test_the_node_is_no_root_and_its_folders_are_volumes_and_its_own() -> None:
    assert last("USER") == "10001"
    variables = dict(word.split("=", 1) for word in last("ENV").split())
    folders = {variables["SWARMLLM_DATA_DIR"], variables["SWARMLLM_CACHE_DIR"]}
    assert folders == set(json.loads(last("VOLUME")))
    made = [words for name, words in instructions() if name == "RUN"][-1]
    assert all(folder in made for folder in folders)
    settings = {row.variable for row in SETTINGS.values()}
    assert {name for name in variables if name.startswith("SWARMLLM_")} <= settings


def test_its_commands_exist_with_their_options() -> None:
    check = re.search(r"CMD (\[.*\])$", last("HEALTHCHECK"))
    assert check is not None
    assert json.loads(last("ENTRYPOINT")) == ["swarmllm"]
    for words in (json.loads(check[1])[1:], json.loads(last("CMD"))):
        command = typer.main.get_command(app).commands[words[0]]  # type: ignore[attr-defined]
        options = {one for parameter in command.params for one in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("port", ["7339"])
def test_the_port_is_that_of_the_settings(port: str) -> None:
    assert last("EXPOSE") == port == str(SETTINGS["port"].default)
