"""What people see of audits."""

from __future__ import annotations

from swarmllm.cli.trust.views import NOTHING, SHOWN_MAX, audits_view
from tests.cli.hostile_views import audits
from tests.cli.terminal import Terminal, screen_on


def shown(record: dict[str, object]) -> str:
    both = Terminal()
    screen_on(both).print(audits_view(record))
    return both.getvalue()


def test_without_experts_there_is_one_sentence() -> None:
    assert NOTHING.split(";")[0] in shown(audits("x") | {"accounts": []})


def test_standing_verdict_and_cost_are_shown() -> None:
    text = shown(audits("prose"))
    for said in ("doubted", "differed", "0.400", "computed 1 tokens", "2 for audits"):
        assert said in text.replace("\n", " ")


def test_only_the_last_audits_are_shown() -> None:
    record = audits("prose")
    record["audits"] = record["audits"] * (SHOWN_MAX + 20)
    assert shown(record).count("differed") == SHOWN_MAX
