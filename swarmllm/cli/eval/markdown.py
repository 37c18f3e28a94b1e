"""The report as a page: every table and every sentence of it comes from the numbers of this run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from swarmllm.cli.eval.measurements import Record
from swarmllm.cli.eval.names import BASELINES, EXPERT, OURS, RUNNING, TUNED, title_of
from swarmllm.cli.eval.plan import SEGMENT_MAX, SEGMENT_MIN
from swarmllm.cli.eval.report import Report
from swarmllm.cli.eval.texts import MIXED, SINGLE
from swarmllm.cli.output import count

SIGNAL_WORDS = {
    "entropy": "entropy",
    "peak": "1 − max p",
    "recent": "recent",
    "excess": "excess",
    "random": "random",
}
WORDS = {True: "yes", False: "no", None: "open"}


def page(report: Report, pictures: Sequence[str]) -> str:
    parts = chain(
        _head(report),
        _verdicts(report),
        _scores(report),
        _adaptive(report),
        _after_switch(report),
        _settings(report),
        _lists(report),
        _alpha(report),
        _shapes(report),
        _how(report, pictures),
    )
    return "\n".join(parts).rstrip() + "\n"


def table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    safe = [[cell.replace("|", "\\|") for cell in row] for row in (heading, *rows)]
    rule = "|" + "|".join([" --- ", *(" ---: " for _ in heading[1:])]) + "|"
    lines = ["| " + " | ".join(row) + " |" for row in safe]
    return [lines[0], rule, *lines[1:], ""]


def _head(report: Report) -> Iterator[str]:
    yield from ("# Does the ensemble beat its best member?", "")
    yield "Made by"
    yield from ("", f"    {report.command}", "")
    yield (
        f"with swarmllm {report.version}. Nats per token, lower is better;"
        " ± and brackets are 95 % intervals over documents (bootstrap)."
    )
    yield from (
        (
            f"The first {report.plan.prompt} tokens of each document are evidence only;"
            " the rest is scored."
        ),
        "",
    )
    yield from table(
        ("model", "parameters", "context", "declared domains", "SHA-256"),
        [
            (
                e.name,
                count(e.n_params),
                str(e.context_max),
                ", ".join(e.domains) or "none",
                f"{e.digest[:16]}…",
            )
            for e in report.experts
        ],
    )
    yield from table(
        ("text", "documents", "scored tokens"),
        [
            (text, str(len(kind.answers)), f"{int(kind.tokens.sum()):,}")
            for text, kind in report.kinds.items()
            if text != SINGLE
        ],
    )
    yield from (line for note in report.notes for line in (f"{note[:1].upper()}{note[1:]}.", ""))


def _verdicts(report: Report) -> Iterator[str]:
    if not report.verdicts:
        return
    yield from ("## Verdicts", "")
    yield from (f"- **{WORDS[v.holds]}** {v.sentence}" for v in report.verdicts)
    yield ""


def _scores(report: Report) -> Iterator[str]:
    yield from ("## Scores", "")
    yield from ("![Nats per token of each method](scores.png)", "")
    texts = list(report.kinds)
    methods = list(dict.fromkeys(score.method for score in report.scores))
    rows = []
    for method in methods:
        cells = [title_of(method, report.names)]
        cells[0] = f"**{cells[0]}**" if method in OURS else cells[0]
        for text in texts:
            score = report.score(method, text)
            best = report.kinds[text].best_single == method
            cells.append(
                ""
                if score is None
                else f"{score.nats.mean:.3f} ± {score.nats.half:.3f}" + (" ◂" if best else "")
            )
        rows.append(cells)
    yield from table(("method", *texts), rows)
    yield (
        "◂ the best single expert on this text, in hindsight. Against it,"
        " document by document (negative is better):"
    )
    yield ""
    rows = []
    for method in (m for m in methods if not m.startswith(EXPERT)):
        found = [report.score(method, text) for text in texts]
        rows.append(
            [
                title_of(method, report.names),
                *(
                    "" if s is None else f"{s.difference.mean:+.3f} ± {s.difference.half:.3f}"
                    for s in found
                ),
            ]
        )
    yield from table(("method", *texts), rows)
    yield from _explanations(report)


def _explanations(report: Report) -> Iterator[str]:
    taus = [
        f"{title_of(method, report.names)}: "
        + ", ".join(f"{text} {kind.settings[method]}" for text, kind in report.kinds.items())
        for method in TUNED
    ]
    yield (
        "Arithmetic pools are scored with the exact probabilities of the tokens that came,"
        " sum_k w_k p_k(y); what cutting lists to 256 entries costs is measured apart, below."
        " The uniform geometric mean is normalised over the union of the completed lists, not over "
        "the whole vocabulary: its normaliser is a little too small and its score a little too"
        " good, in its favour."
    )
    yield ""
    yield (
        f"The baselines ({', '.join(title_of(m, report.names) for m in BASELINES)})"
        " see the prompt alone, as frozen EM does; those called "
        f"running ({', '.join(title_of(m, report.names) for m in RUNNING)})"
        " and Soft-Bayes go on seeing the true text, each token after it was predicted:"
        " that is what an ensemble may do with text from outside, and never with its own. "
        f"Their settings are the best of several on each text, in hindsight ({'; '.join(taus)})."
    )
    yield ""


def _adaptive(report: Report) -> Iterator[str]:
    yield from ("## Adaptive K", "", "![Nats against experts asked](adaptive.png)", "")
    yield (
        "One expert (the one with the largest weight) while it is sure, all of them when it is not;"
        " at random, with the same machinery, as the control. Signals: the entropy of its list,"
        " −log of its largest probability, its mean surprise at the last 8 tokens (recent), "
        "and entropy plus by how much that exceeds the entropies it had there (excess)."
    )
    yield ""
    for text in [text for text in report.kinds if text in {MIXED, SINGLE}] or list(report.kinds):
        rows = []
        for point in report.measured("adaptive_k", text=text, weights="em", signal="entropy"):
            share = point["share"]
            row = [f"{share:.0%}", f"{point['experts_asked']:.2f}"]
            for weights in ("em", "em_soft_bayes"):
                for signal in SIGNAL_WORDS:
                    [one] = report.measured(
                        "adaptive_k", text=text, weights=weights, signal=signal, share=share
                    )
                    row.append(f"{one['nats_per_token']:.3f}")
            rows.append(row)
        words = [*SIGNAL_WORDS.values()]
        heading = (
            "all asked",
            "experts asked",
            f"EM: {words[0]}",
            *words[1:],
            f"Soft-Bayes: {words[0]}",
            *words[1:],
        )
        yield from (f"On {text} text:", "")
        yield from table(heading, rows)


def _after_switch(report: Report) -> Iterator[str]:
    found = report.measured("after_switch")
    if not found:
        return
    yield from (
        "## After a switch of domain",
        "",
        "![Nats after a switch of domain](switch.png)",
        "",
    )
    methods = list(dict.fromkeys(m["method"] for m in found))
    offsets = list(dict.fromkeys(m["tokens_after"] for m in found))
    nats = {(m["method"], m["tokens_after"]): m["nats_per_token"] for m in found}
    rows = [
        [f"{offset:.0f}", *(f"{nats[method, offset]:.3f}" for method in methods)]
        for offset in offsets
    ]
    yield from table(("tokens after", *(title_of(m, report.names) for m in methods)), rows)


def _settings(report: Report) -> Iterator[str]:
    texts = list(report.kinds)
    yield from ("## Settings", "")
    for of, sentence, name in (
        ("floor", "The share spread evenly under frozen EM:", "uniform share"),
        ("soft_bayes_floor", "The same under Soft-Bayes:", "uniform share"),
        (
            "evidence",
            (
                "Tokens of the prompt that EM sees (scored over the same tokens,"
                " those after the longest prompt):"
            ),
            "tokens",
        ),
    ):
        if report.measured("sweep", of=of):
            yield from (sentence, "")
            field = "tokens" if of == "evidence" else "uniform_share"
            yield from table(
                (name, *texts), _swept(report.measured("sweep", of=of), (field,), texts)
            )
    yield from ("Soft-Bayes:", "")
    yield from table(
        ("eta, share", *texts),
        _swept(report.measured("sweep", of="soft_bayes"), ("eta", "share"), texts),
    )


def _swept(found: Sequence[Record], fields: Sequence[str], texts: Sequence[str]) -> list[list[str]]:
    """The best of each text in bold."""
    nats = {(tuple(m[f] for f in fields), m["text"]): m["nats_per_token"] for m in found}
    best = {
        text: min((value for (_, of), value in nats.items() if of == text), default=None)
        for text in texts
    }
    rows = []
    for key in dict.fromkeys(key for key, _ in nats):
        row = [", ".join(f"{value:g}" for value in key)]
        for text in texts:
            value = nats.get((key, text))
            row.append(
                ""
                if value is None
                else f"**{value:.4f}**"
                if value == best[text]
                else f"{value:.4f}"
            )
        rows.append(row)
    return rows


def _lists(report: Report) -> Iterator[str]:
    yield from ("## What the wire costs", "")
    yield (
        "An expert sends its 256 likeliest tokens."
        " Cutting moves the distribution by the tail (total variation), or −log(1 − tail) nats;"
    )
    yield (
        "quantisation is measured between the exact list and the decoded one,"
        " the tail counted as one token."
    )
    yield ""
    rows = []
    for cut in report.measured("truncation"):
        [wire] = report.measured("wire_quantisation", text=cut["text"], expert=cut["expert"])
        row = [
            f"{cut['expert']} on {cut['text']}",
            *(f"{cut[name]:.3f}" for name in ("tail_mean", "tail_p95", "nats_mean")),
        ]
        row += [
            f"{cut['target_outside_share']:.1%}",
            f"{wire['tv_mean']:.5f}",
            f"{wire['nats_mean']:.6f}",
        ]
        rows.append([*row, f"{wire['target_shift_mean_abs']:.4f}"])
    heading = (
        "expert",
        "tail mass",
        "95th percentile",
        "nats",
        "next token outside",
        "wire TV",
        "wire nats",
        "shift of the next token, nats",
    )
    yield from table(heading, rows)
    rows = [
        [
            m["text"],
            f"{m['tail_mean']:.3f}",
            f"{m['tail_p95']:.3f}",
            f"{m['target_outside_share']:.1%}",
            f"{m['target_shift_mean']:+.4f}",
        ]
        for m in report.measured("pooled_truncation")
    ]
    yield from ("The EM ensemble of completed lists, beside the exact pool:", "")
    yield from table(
        (
            "text",
            "tail mass",
            "95th percentile",
            "next token outside all lists",
            "shift of the next token, nats",
        ),
        rows,
    )


def _alpha(report: Report) -> Iterator[str]:
    yield from ("## Acceptance", "", "![Acceptance between experts](alpha.png)", "")
    yield (
        "How often a token drawn from one distribution passes as a draft for another:"
        " alpha = sum of min(q, r), the same both ways."
    )
    yield ""
    texts = list(report.kinds)
    pairs = list(dict.fromkeys((m["draft"], m["target"]) for m in report.measured("alpha")))
    value = {(m["draft"], m["target"], m["text"]): m["value"] for m in report.measured("alpha")}
    yield from table(
        ("pair", *texts),
        [[f"{a} – {b}", *(f"{value[a, b, text]:.3f}" for text in texts)] for a, b in pairs],
    )


def _shapes(report: Report) -> Iterator[str]:
    found = report.measured("batch_shape")
    if not found:
        return
    yield from ("## llama.cpp against itself", "")
    yield (
        "The same context computed in other batch shapes, against one token at a time:"
        " total variation, and the largest difference of any"
    )
    yield "log-probability. 0 means equal bit for bit."
    yield ""
    rows = [
        [
            f"{m['expert']}, {m['shape']}",
            "reproducible" if m["reproducible"] else "llama.cpp's defaults",
            *(f"{m[name]:.2g}" for name in ("mean_tv", "max_tv", "max_nats")),
        ]
        for m in found
    ]
    yield from table(
        ("shape", "setting", "mean TV", "largest TV", "largest difference, nats"), rows
    )


def _how(report: Report, pictures: Sequence[str]) -> Iterator[str]:
    total = sum(report.seconds.values())
    parts = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in report.seconds.items())
    yield from ("## How it was made", "")
    yield (
        (
            f"{report.pairs} pairs of document and model, {report.fresh} of them computed in this"
            f" run and the others taken from the cache; {total:.0f} s in all ({parts}). Seed"
            f" {report.plan.seed}. Mixed texts are segments of {SEGMENT_MIN} to {SEGMENT_MAX}"
            " tokens of changing domains; weights start from an even prior. The same command on the"
            " same models and texts gives the same numbers"
        )
        + (f"; pictures: {', '.join(pictures)}." if pictures else ".")
    )
