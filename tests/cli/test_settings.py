"""`swarmllm settings`: of the running node, or what one would start with; and each mistake is one
sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarmllm.cli import settings_view
from swarmllm.core.settings.table import SETTINGS
from tests.cli.command import RunningNode, run


def test_without_a_node_the_defaults_and_the_pins_of_the_config_are_shown(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    (folder / "config.toml").write_text("version = 1\n[pins]\nanswer.experts = 4\n")
    where = ("--data-dir", str(folder))
    (record,) = run(tmp_path, "settings", "--json", *where).records()
    rows = {row["key"]: row for row in record["settings"]}
    assert (record["state"], list(rows)) == ("none", list(SETTINGS))
    assert (rows["answer.experts"]["value"], rows["answer.experts"]["pinned"]) == (4, True)
    assert (rows["router.blur"]["value"], rows["router.blur"]["pinned"]) == (100, False)
    shown = run(tmp_path, "settings", *where, COLUMNS="80")
    assert shown.code == 0
    assert all(f"\n{key} " in shown.out for key in SETTINGS), "no key is cut"
    assert "answer.experts: pinned here; the swarm has 3" in shown.out
    assert "No node runs here" in shown.err


def test_a_running_node_says_what_it_goes_by(tmp_path: Path) -> None:
    data = tmp_path / "data"
    options = ("--port", "0", "--model", "none", "--pin", "router.hedging_extra=2")
    with RunningNode(tmp_path, data, *options) as node:
        node.wait_for("ready")
        where = ("--data-dir", str(data))
        (record,) = run(
            tmp_path, "settings", "show", "router.hedging_extra", "--json", *where
        ).records()
        (row,) = record["settings"]
        assert (record["state"], row["value"], row["pinned"]) == ("running", 2, True)
        shown = run(tmp_path, "settings", "show", "router.hedging_extra", *where)
        assert (shown.code, shown.complaint) == (0, "")
        assert "pinned here; the swarm has 1" in shown.out


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    wrong = run(tmp_path, "settings", "show", "router.hedging")
    assert wrong.code == 2
    assert "(did you mean router.hedging_extra?)" in wrong.sentence()
    wrong = run(tmp_path, "join", "--pin", "router.blur=high")
    assert wrong.code == 2
    assert wrong.sentence().startswith("--pin: 'router.blur=high' is not a setting of the swarm")
    wrong = run(tmp_path, "settings", SWARMLLM_K="4", SWARMLLM_PINS="answer.experts=5")
    assert wrong.code == 2
    assert "they are the same setting" in wrong.sentence()


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (1, "experts", "1 expert"),
        (3, "experts", "3 experts"),
        (1, "ms", "1 ms"),
        (1, "millinats/s", "1 millinats/s"),
    ],
)
def test_one_of_a_unit_is_one(value: int, unit: str, shown: str) -> None:
    assert settings_view._amount(value, unit) == shown
