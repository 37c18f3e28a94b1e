"""The real command with real (tiny) models: from files to records, interrupted and resumed, and
given all that may be wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarmllm.testing.gguf_fixture import FixtureShape, small_vocabulary, write_model
from tests.cli.command import DEADLINE_S, Finished, command, environment, run

WORDS = "the cat sat on a mat and saw that it was good; def f(x): return x + 1  # and so on. "
QUICK = (
    "--quick",
    "--documents",
    "3",
    "--tokens",
    "150",
    "--prompt",
    "40",
    "--context",
    "256",
    "--threads",
    "2",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models over one vocabulary, one over another, and two corpora."""
    folder = tmp_path_factory.mktemp("eval")
    write_model(folder / "one.gguf", FixtureShape(seed=1), name="one")
    write_model(folder / "two.gguf", FixtureShape(seed=2), name="two")
    write_model(
        folder / "other.gguf", FixtureShape(seed=3), small_vocabulary(448, seed=9), name="other"
    )
    for d, name in enumerate(("story", "source")):
        (folder / name).mkdir()
        for i in range(4):
            text = "".join(WORDS[(7 * d + 3 * i + k * (k + d)) % len(WORDS)] for k in range(400))
            (folder / name / f"{i}.txt").write_text(text)
    return folder


def _eval(place: Path, *arguments: str) -> Finished:
    return run(place, "eval", "--cache-dir", str(place / "cache"), *arguments)


def _both(place: Path) -> tuple[str, ...]:
    models = ("--model", str(place / "one.gguf"), "--model", str(place / "two.gguf"))
    return (
        *models,
        "--corpus",
        f"story={place / 'story'}",
        "--corpus",
        f"source={place / 'source'}",
        *QUICK,
    )


@pytest.fixture(scope="module")
def done(place: Path) -> Finished:
    return _eval(place, *_both(place), "--json", "--out", str(place / "report"))


def test_models_and_texts_of_ones_own_give_scores_measurements_and_a_summary(
    done: Finished, place: Path
) -> None:
    assert done.code == 0, done.err
    records = done.records()
    assert all({"event", "time"} <= set(record) for record in records)
    scores = {(r["method"], r["text"]): r for r in records if r["event"] == "score"}
    assert {text for _, text in scores} == {"story", "source", "single-domain", "mixed"}
    assert scores["em", "mixed"]["tokens"] == 3 * 110
    assert ("label", "story") not in scores  # Plain files declare no domain.
    summary = records[-1]
    assert summary["event"] == "summary"
    assert (summary["computed"], summary["cached"]) == (18, 0)
    assert any("story, source" in note for note in summary["notes"])
    assert (place / "report" / "evaluation.md").is_file()


def test_llama_cpp_agrees_with_itself_under_the_reproducible_setting(done: Finished) -> None:
    shapes = [r for r in done.records() if r.get("name") == "batch_shape" and r["reproducible"]]
    assert len(shapes) == 3  # With --quick of the first model only.
    assert all(r["max_nats"] == 0.0 for r in shapes)


def test_a_second_run_computes_only_what_has_gone_or_is_damaged_and_gives_the_same_numbers(
    done: Finished, place: Path
) -> None:
    gone, damaged, *_ = sorted(_finished_files(place / "cache"))
    gone.unlink()
    damaged.write_bytes(damaged.read_bytes()[:-1])
    again = _eval(place, *_both(place), "--json")
    records = again.records()
    assert (records[-1]["computed"], records[-1]["cached"]) == (2, 16)

    def numbers(finished: Finished) -> list[dict[str, object]]:
        kept = [r for r in finished.records() if r["event"] in ("score", "measurement", "verdict")]
        return [{k: v for k, v in r.items() if k != "time"} for r in kept]

    assert numbers(again) == numbers(done)


def test_one_model_alone_works_and_says_that_there_is_nothing_to_pool(
    place: Path, done: Finished
) -> None:
    alone = _eval(
        place, "--model", str(place / "one.gguf"), "--corpus", f"story={place / 'story'}", *QUICK
    )
    assert alone.code == 0, alone.err
    assert "nothing to pool" in alone.out
    assert "no mixed text" in alone.out
    assert "EM, then Soft-Bayes" in alone.out
    assert "expert one ◂ best single" in alone.out


def _finished_files(cache: Path) -> Iterator[Path]:
    return (cache / "eval").glob("*.scores")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_keeps_its_documents_and_goes_on_from_there(
    place: Path, tmp_path: Path, how: signal.Signals
) -> None:
    arguments = ("eval", "--cache-dir", str(tmp_path), *_both(place), "--documents", "12", "--json")
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(place),
        start_new_session=True,
        # A test run that was itself started in the background has SIGINT ignored, and hands that
        # down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  A test with one thread.
    )
    deadline = time.monotonic() + DEADLINE_S
    while (
        not any(_finished_files(tmp_path))
        and process.poll() is None
        and time.monotonic() < deadline
    ):
        time.sleep(0.005)
    os.killpg(process.pid, how) if how == signal.SIGINT else process.kill()
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == (130 if how == signal.SIGINT else -how), err
    assert out == b""
    assert b"Traceback" not in err
    kept = {path.name for path in _finished_files(tmp_path)}
    assert kept
    whole = run(place, *arguments)
    assert whole.code == 0, whole.err
    summary = json.loads(whole.out.splitlines()[-1])
    assert summary["cached"] >= len(kept)
    assert summary["computed"] + summary["cached"] == 2 * sum(
        n for text, n in summary["documents"].items() if text != "single-domain"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--model", "{place}/absent.gguf"), 2, ["absent.gguf"]),
        (("--model", "demo:nobody"), 2, ["nobody"]),
        (("--model", "{place}/story/0.txt"), 1, ["0.txt"]),
        (
            ("--model", "{place}/one.gguf", "--model", "{place}/other.gguf"),
            2,
            ["one (vocabulary", "other (vocabulary"],
        ),
        (
            ("--model", "{place}/one.gguf", "--model", "{place}/story/../one.gguf"),
            2,
            ["is the same file as"],
        ),
        (("--model", "{place}/one.gguf", "--corpus", "x={place}/absent"), 2, ["'x'", "absent"]),
        (
            ("--model", "{place}/one.gguf", "--corpus", "x={place}/broken.jsonl"),
            2,
            ["broken.jsonl, line 2"],
        ),
        (
            ("--model", "{place}/one.gguf", "--corpus", "x={place}/latin.txt"),
            2,
            ["latin.txt", "UTF-8"],
        ),
        (
            ("--model", "{place}/one.gguf", "--corpus", "x={place}/short.txt"),
            2,
            ["'x' is too short", "tokens"],
        ),
        (("--model", "{place}/one.gguf", "--corpus", "x={place}/empty.txt"), 2, ["'x' is empty"]),
        (("--documents", "0"), 2, ["--documents 0"]),
        (("--out", "{place}/short.txt"), 2, ["short.txt is a file"]),
        (("--threads", "-1"), 2, ["--threads"]),
        (("--context", "0"), 2, ["--context"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_whatever_is_wrong_is_one_sentence(
    place: Path, arguments: tuple[str, ...], code: int, says: list[str]
) -> None:
    (place / "broken.jsonl").write_text('{"text": "fine"}\n{"text"\n')
    (place / "latin.txt").write_bytes("déjà vu".encode("latin-1"))
    (place / "short.txt").write_text("only this")
    (place / "empty.txt").write_text("\n")
    finished = _eval(
        place, *(argument.replace("{place}", str(place)) for argument in arguments), "--json"
    )
    assert finished.code == code, finished.err
    sentence = finished.sentence()
    assert all(word in sentence for word in says), sentence
    assert finished.out == ""
