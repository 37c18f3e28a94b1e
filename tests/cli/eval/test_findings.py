"""From known documents to the report: the right numbers, in records, tables, page and pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

from swarmllm.cli.eval import measurements as m
from swarmllm.cli.eval.experts import Expert, right_expert
from swarmllm.cli.eval.files import make_out, write_report
from swarmllm.cli.eval.findings import HEADLINE_SHARE, kinds_of
from swarmllm.cli.eval.names import OURS, TUNED
from swarmllm.cli.eval.report import Report, score_record, summary_record, verdict_record
from swarmllm.cli.eval.tables import shown
from swarmllm.cli.eval.verdicts import verdicts
from swarmllm.errors import LocalError
from tests.cli.eval.made import answers, plan

NAMES = ["first", "second"]


def _expert(name: str, n_params: int = 7, *domains: str) -> Expert:
    return Expert(name, Path(f"{name}.gguf"), name * 10, "f" * 64, n_params, 512, 100, domains)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    kinds = kinds_of(answers(tmp_path_factory.mktemp("scores")), ["low", "high", "mixed"], 2, 1)
    scores = tuple(score for kind in kinds.values() for score in kind.scores())
    shape = {"shapes": [{"shape": "one batch", "max_nats": 0.5, "mean_tv": 0.01, "max_tv": 0.02}]}
    measured = [
        *(
            *m.lists_of(kinds, NAMES),
            *m.alphas_of(kinds, NAMES),
            *m.curves_of(kinds),
            *m.sweeps_of(kinds),
            *m.switches_of(kinds),
        ),
        *m.shapes_of("first", shape, wanted_exact=True),
    ]
    experts = (_expert("first", 7, "low"), _expert("second", 7, "high"))
    found = tuple(verdicts(kinds, NAMES))
    return Report(
        plan(),
        experts,
        kinds,
        scores,
        tuple(measured),
        found,
        ("a note",),
        {"all": 1.0},
        36,
        36,
        "swarmllm eval",
        "1",
        bytes(16),
    )


def test_kinds_come_in_order_and_single_domain_takes_each_domains_own_best(report: Report) -> None:
    assert list(report.kinds) == ["low", "high", "single-domain", "mixed"]
    assert [kind.best_single for kind in report.kinds.values()][:2] == ["expert 0", "expert 1"]
    single = report.kinds["single-domain"]
    best = sum(float(report.kinds[name].best_totals.sum()) for name in ("low", "high"))
    assert single.best_totals.sum() == pytest.approx(best)
    label = report.score("label", "single-domain")
    assert label is not None
    assert label.difference.mean == pytest.approx(0)


def test_the_oracle_by_segment_is_never_worse_than_the_label_of_the_prompt(report: Report) -> None:
    for kind in report.kinds.values():
        assert (kind.totals["label_oracle"] <= kind.totals["label"] + 1e-9).all()
    assert report.kinds["mixed"].difference("label_oracle", "label").high < 0


def test_the_expert_of_a_domain_is_the_best_on_it_and_learning_beats_all_on_mixed_text(
    report: Report,
) -> None:
    holds = {(v.name, v.method, v.text): v.holds for v in report.verdicts}
    assert holds["beats_all", "em_soft_bayes", "mixed"] is True
    # Its floor gives the useless expert a twentieth: log(0.95) of 5.5 nats.
    assert holds["close_to_best", "em", "low"] is False
    assert holds["beats_random", "adaptive_k_soft_bayes", "mixed"] is not False
    assert "of them" not in next(v.sentence for v in report.verdicts if v.name == "beats_random")
    assert {v.method for v in report.verdicts} == set(OURS)


def test_tuned_baselines_take_their_best_temperature(report: Report) -> None:
    for kind in report.kinds.values():
        for answer_name in TUNED:
            variants = [name for name in kind.answers[0].nats if name.startswith(answer_name + " ")]
            sums = {name: sum(answer.nats[name] for answer in kind.answers) for name in variants}
            assert kind.totals[answer_name].sum() == pytest.approx(min(sums.values()))
            assert f"{answer_name} {kind.settings[answer_name]}" == min(
                sums, key=lambda name: sums[name]
            )


def test_score_records_have_the_promised_fields(report: Report) -> None:
    records = [score_record(score, report.kinds, NAMES) for score in report.scores]
    fields = {
        "event",
        "method",
        "text",
        "nats_per_token",
        "ci95",
        "tokens",
        "documents",
        "versus_best_single",
        "experts_asked",
    }
    assert all(fields <= set(record) and record["event"] == "score" for record in records)
    assert all(
        record["ci95"][0] <= record["nats_per_token"] <= record["ci95"][1] for record in records
    )
    by_name = {(record["method"], record["text"]): record for record in records}
    assert by_name["expert:first", "low"]["versus_best_single"] == 0
    assert by_name["em", "mixed"]["tokens"] == 4 * 128
    assert by_name["em", "mixed"]["experts_asked"] == 2
    assert by_name["adaptive_k", "mixed"]["experts_asked"] == pytest.approx(
        1 + HEADLINE_SHARE, abs=0.1
    )
    assert "setting" in by_name["perplexity_softmax", "low"]


def test_every_record_is_json(report: Report) -> None:
    records = [
        *report.measurements,
        *(verdict_record(v) for v in report.verdicts),
        summary_record(report),
    ]
    assert all(json.loads(json.dumps(record, allow_nan=False)) for record in records)
    assert {r["name"] for r in report.measurements} == {
        *(
            "truncation",
            "wire_quantisation",
            "pooled_truncation",
            "alpha",
            "adaptive_k",
            "sweep",
            "after_switch",
            "batch_shape",
        )
    }


def test_what_the_lists_lose_is_reported_as_it_is(report: Report) -> None:
    [cut] = report.measured("truncation", text="low", expert="first")
    assert cut["tv_mean"] == pytest.approx(0.1)  # As the made scores say.
    assert 0 < cut["tail_mean"] < 0.5
    alpha = report.measured("alpha", text="low", draft="first", target="second")[0]["value"]
    assert 0.0 < alpha < 0.3
    assert report.measured("alpha", text="low", draft="first", target="ensemble")[0]["value"] > 0.8


def test_after_a_switch_the_learner_recovers_and_the_frozen_one_does_not(report: Report) -> None:
    points = {
        method: {
            p["tokens_after"]: p["nats_per_token"]
            for p in report.measured("after_switch", method=method)
        }
        for method in ("em", "em_soft_bayes")
    }
    assert points["em_soft_bayes"][4.0] > points["em_soft_bayes"][36.0] + 0.2
    assert points["em_soft_bayes"][36.0] < points["em"][36.0]


def test_page_and_pictures_are_written_and_speak_of_the_numbers(
    report: Report, tmp_path: Path
) -> None:
    written = write_report(report, tmp_path, "evaluation.md")
    page = written[0].read_text(encoding="utf-8")
    assert {path.name for path in written} == {
        "evaluation.md",
        "scores.png",
        "adaptive.png",
        "alpha.png",
        "switch.png",
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written[1:])
    score = report.score("em", "mixed")
    assert score is not None
    assert f"{score.nats.mean:.3f} ± {score.nats.half:.3f}" in page
    assert all(verdict.sentence in page for verdict in report.verdicts)
    assert all(f"]({path.name})" in page for path in written[1:])
    for block in page.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1, block


def test_tables_mark_the_best_single_expert(report: Report) -> None:
    console = Console(width=110, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(shown(report))
    text = console.export_text()
    assert text.count("◂ best single") == 4
    assert "a note" in text
    assert report.verdicts[0].sentence[:40] in text


def test_a_report_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="--out"):
        make_out(tmp_path / "file" / "below")


def test_one_model_has_no_verdicts() -> None:
    assert verdicts({}, ["alone"]) == []


def test_the_right_expert_is_the_largest_that_declares_the_domain() -> None:
    experts = [
        _expert("small", 3, "prose"),
        _expert("large", 9, "prose", "ops"),
        _expert("plain", 99),
    ]
    assert right_expert("prose", experts) == 1
    assert right_expert("code", experts) is None
