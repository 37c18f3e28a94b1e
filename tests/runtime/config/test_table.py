"""One table of settings and one of sampling parameters: whatever is in them can be set in every
way, and is described."""

from __future__ import annotations

import json
import types
import typing
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup, TyperOption

from scripts import make_configuration
from swarmllm.cli import options
from swarmllm.cli.app import app
from swarmllm.cli.helping import default_is
from swarmllm.cli.options import ADVISED
from swarmllm.core.values import SAMPLING, USUAL_SAMPLING, Sampling
from swarmllm.errors import UsageError
from swarmllm.runtime.config import SETTINGS, Config, Folders
from swarmllm.runtime.config.reading import load_config
from swarmllm.runtime.config.setting import Unfit
from swarmllm.wire.identity import peer_id_of

ADDR = f"/ip4/203.0.113.7/tcp/7339/p2p/{peer_id_of(bytes(range(32)))}"
# As typed in a file, and as it is then in the Config; none is the default.
OTHER: dict[str, tuple[object, object]] = {
    "data_dir": ("/d", Path("/d")),
    "cache_dir": ("/c", Path("/c")),
    "model": ("demo:prose", "llama3-demo:prose"),
    "vocabulary": ("llama3", "llama3"),
    "swarm": ("lab", "lab"),
    "charter": ("a" * 64, "a" * 64),
    "invite": ("swarmllm:abc", "swarmllm:abc"),
    "membership": ("/m", "/m"),
    "listen_host": ("::1", "::1"),
    "peers": ([ADDR], (ADDR,)),
    "announce": ([ADDR], (ADDR,)),
    "log_level": ("info", "info"),
    "hours": ("22-07", "22:00-07:00"),
    "on_battery": ("serve", "serve"),
    "max_share": (50, "50%"),
    "log_format": ("json", "json"),
    "otlp_endpoint": ("http://localhost:4318/v1/traces", "http://localhost:4318/v1/traces"),
    "api_host": ("::1", "::1"),
    "api_keys": (["sha256:" + "a" * 64], ("sha256:" + "a" * 64,)),
    "api_origins": (["http://localhost:3000"], ("http://localhost:3000",)),
    "api_hosts": (["node.lan"], ("node.lan",)),
    "k": (4, 4),
    "extra": (2, 2),
    "quality": (0.5, 0.5),
    "speculation": ("lookup", "lookup"),
    "port_mapping": ("off", "off"),
    "pins": (["router.hedging_extra=2"], ("router.hedging_extra=2",)),
}


def other(name: str, folders: Folders) -> tuple[object, object]:
    """A value that is not the default, in the file and in the Config."""
    if name in OTHER:
        return OTHER[name]
    default = getattr(Config(folders.data_dir, folders.cache_dir), name)
    if isinstance(default, bool):
        return not default, not default
    near = (default / 2,) if isinstance(default, float) else (default + 1, default - 1)
    value = next(one for one in near if fits(name, one))
    return value, value


def fits(name: str, value: object) -> bool:
    try:
        SETTINGS[name].read(value, False)
    except Unfit:
        return False
    return True


def plain(hint: Any) -> Any:
    """A type that may also be None, without that."""
    return typing.get_args(hint)[0] if isinstance(hint, types.UnionType) else hint


def options_of(command: str) -> dict[str, TyperOption]:
    """By what is typed."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return {
        word: p
        for p in group.commands[command].params
        if isinstance(p, TyperOption)
        for word in p.opts
    }


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    (tmp_path / "config").mkdir()
    return Folders(tmp_path / "config", tmp_path / "data", tmp_path / "cache")


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_can_be_given_in_the_file_and_in_a_variable_and_is_in_the_document(
    name: str, folders: Folders
) -> None:
    typed, expected = other(name, folders)
    word = ",".join(typed) if isinstance(typed, list) else str(typed)
    read = getattr(load_config({}, {f"SWARMLLM_{name.upper()}": word}, folders), name)
    assert read == expected
    declared = plain(typing.get_type_hints(Config)[name])
    # Not bool for int, nor int for float: what is read has the type that mypy was told of.
    assert (
        type(read) is type(Path())
        if declared is Path
        else type(read) is (typing.get_origin(declared) or declared)
    )
    (folders.config_dir / "config.toml").write_text(f"version = 1\n{name} = {json.dumps(typed)}\n")
    assert getattr(load_config({}, {}, folders), name) == expected
    row = next(
        line for line in make_configuration.page().splitlines() if line.startswith(f"| `{name}` |")
    )
    assert f"`{SETTINGS[name].option}`" in row
    assert f"`SWARMLLM_{name.upper()}`" in row


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_an_option_with_its_help_and_reaches_the_config(
    name: str, folders: Folders
) -> None:
    row = SETTINGS[name]
    found = options_of("generate" if row.panel == options.ANSWER else "join")[row.option]
    shown = str(found.help).replace("\\[", "[")  # Brackets are markup to rich.
    assert (row.help or row.about).replace("`", "") in shown
    assert found.name == name
    typed, expected = other(name, folders)
    group = options.AskingSettings if row.panel == options.ANSWER else options.ServingSettings
    takes = typing.get_args(group)[1]
    given = {
        other_name: False if SETTINGS[other_name].kind is bool else None
        for other_name in takes.names
    }
    flags = takes.taken({**given, name: True if row.kind is bool else typed})
    config = load_config(flags, {}, folders)
    assert getattr(config, name) == expected
    assert not [n for n, value in takes.taken(dict(given)).items() if value is not None]


def test_a_setting_is_declared_once_with_a_reader_and_the_option_of_its_type() -> None:
    hints = {name: plain(hint) for name, hint in typing.get_type_hints(Config).items()}
    kinds = {Path: str, tuple[str, ...]: list}
    assert {name: row.kind for name, row in SETTINGS.items()} == {
        n: kinds.get(t, t) for n, t in hints.items()
    }
    assert all(name == row.name for name, row in SETTINGS.items())
    spellings = [word for row in SETTINGS.values() for word in (row.flag, *row.also)]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize("name", SAMPLING)
@pytest.mark.parametrize("asking", ["generate", "chat"])
def test_every_parameter_of_the_sampling_is_an_option_with_the_usual_default(
    name: str, asking: str
) -> None:
    found = options_of(asking)[f"--{name.replace('_', '-')}"]
    usual = f"{getattr(USUAL_SAMPLING, name):g}"
    usual += ADVISED if SAMPLING[name].advised else ""
    assert found.help == SAMPLING[name].about + default_is(usual)
    assert found.default is None, "else it could not be told from what nobody asked for"


def test_fields_of_the_sampling_but_seed_and_bias_are_parameters_of_their_types() -> None:
    hints = typing.get_type_hints(Sampling)
    del hints["bias"]
    assert {name: row.kind for name, row in SAMPLING.items()} | {"seed": int} == hints


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"hours": "25-07"}, "--hours"),
        ({"hours": "7-7"}, "a part of the day such as 22-07 or 22:30-07:15, by the local clock"),
        ({"max_share": "0%"}, "a share from 1% to 100%"),
        ({"max_share": "150 %"}, "--max-share"),
        ({"max_share": "half"}, "'half'"),
        ({"on_battery": "sleep"}, "one of pause, serve"),
    ],
)
def test_lending_rules_that_make_no_sense_are_refused_in_one_sentence(
    flags: dict[str, object], sentence: str, folders: Folders
) -> None:
    with pytest.raises(UsageError, match=r"^[^\n]*$") as refused:
        load_config(flags, {}, folders)
    assert sentence in str(refused.value)


def test_a_share_may_be_written_in_several_ways(folders: Folders) -> None:
    for text in ("50%", "50", "50 %"):
        assert load_config({"max_share": text}, {}, folders).max_share == "50%"
