"""What the running node says of itself and of the swarm, as tables for people."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table

from swarmllm.cli.guard import OK, run
from swarmllm.cli.output import ago, answer, count, print_record, short_peer
from swarmllm.cli.screen import Line
from swarmllm.cli.trust.views import STYLES
from swarmllm.cli.waiting import QUESTION
from swarmllm.core.wording import several
from swarmllm.runtime.config import Config
from swarmllm.runtime.invited import moment
from swarmllm.runtime.local_api.client import ask
from swarmllm.runtime.service.record import Record


def show_status(config: Config, *, as_json: bool) -> int:
    record = _asked(config, "status")
    if as_json:
        print_record(record)
    else:
        screen = answer()
        screen.print(status_view(record))
        for addr in record.get("addrs") or []:  # On a line of its own, to be copied whole.
            screen.print(Line(f"reach it with  --peer {addr}"), soft_wrap=True)
        if record.get("http"):
            screen.print(Line(f"programs ask it at  {record['http']}/v1"), soft_wrap=True)
    return OK


def show_experts(config: Config, *, as_json: bool) -> int:
    record = _asked(config, "experts")
    if as_json:
        print_record(record)
    elif record.get("experts"):
        answer().print(experts_table(record["experts"], float(record["time"])))
    else:
        answer().print(Line("No expert is known yet; `swarmllm doctor` shows what this node sees."))
    return OK


def _asked(config: Config, op: str) -> Record:
    found: list[Record] = []

    async def body() -> int:
        found.append(await ask(config.data_dir, op, QUESTION))
        return OK

    run(body)
    return found[0]


def status_view(record: Record) -> RenderableType:
    if record.get("state") == "starting":
        return Line("The node is still loading its expert.")
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row(
        "node",
        f"{short_peer(record['peer'])} in the swarm “{record['swarm']}”,"
        f" up for {ago(record['uptime_s'])}",
    )
    _add_expert(table, record)
    table.add_row(
        "answers",
        f"{record['answers_open']} of our own being written,"
        f" {record['rounds_served_open']} rounds for others under way",
    )
    for reason in record.get("halted") or []:
        table.add_row(Line("no text", "bold red"), Line(reason, "bold red"))
    if record.get("halted"):
        table.add_row("", Line("swarmllm halt status shows what ends it", "dim"))
    if record.get("paused"):
        table.add_row(Line("paused", "yellow"), Line(record["paused"], "yellow"))
    experts = record.get("experts") or []
    peers = several(len(record["peers"]), "peer")
    table.add_row("swarm", f"{peers} connected, {several(len(experts), 'expert')} known")
    if membership := record.get("membership"):
        table.add_row("closed", _closed(membership))
    if reach := record.get("reach"):
        table.add_row("reached", Line(reach["says"]))
    _add_default_model(table, record.get("default_model") or {})
    _add_ledger(table, record.get("ledger") or {})
    for one in record.get("vocabularies") or []:
        count = several(one["experts"], "expert")
        said = f"{one['fingerprint'][:16]}, that of {one['model']}: {count}"
        if not one["asked"]:
            table.add_row("not asked", Line(f"vocabulary {said}", "dim"))
        elif not record.get("model"):
            table.add_row("vocabulary", said)
    troubles = {
        "records_dropped": "records dropped",
        "records_refused": "records refused",
        "saves_failed": "saves failed",
    }
    told = [f"{record[name]} {what}" for name, what in troubles.items() if record.get(name)]
    for sentence in (*([", ".join(told)] if told else []), *(record.get("troubles") or [])):
        table.add_row("trouble", Line(sentence, "yellow"))
    return Group(table, "", experts_table(experts, float(record["time"]))) if experts else table


def _add_expert(table: Table, record: Record) -> None:
    model, load = record.get("model"), record.get("load")
    if not model:
        down = Line("its engine is down, and is being started again; the log says why", "yellow")
        table.add_row("expert", down if load else "none: this node asks others and offers nothing")
        return
    table.add_row(
        "expert",
        f"{model['model']}, {count(model['n_params'])} parameters,"
        f" context {model['context_max']} tokens",
    )
    whose = "its own" if record.get("has_chat_template") else "no"
    table.add_row(
        "vocabulary",
        f"{model['vocab_size']} tokens ({model['vocab'][:12]}), {whose} chat template"
        f" ({model['chat'][:12]})",
    )
    if load:
        free = f"{load['sessions_free']} of {load['sessions_max']} sessions free"
        table.add_row(
            "load", f"{load['tokens_per_s']:.1f} tokens/s, {free}, {load['queue_depth']} waiting"
        )


def _closed(membership: Record) -> str:
    ends, others = membership["ends_ms"], several(membership["members"], "other member")
    own = f"good until {moment(ends)}" if ends else "not there yet"
    right = "may let others in" if membership["may_invite"] else "may let nobody in"
    return f"{others} known; this node's membership is {own}, and it {right}"


def _add_default_model(table: Table, default: Record) -> None:
    if default:
        said = f"are offered {default['reference']}, by proposal {default['proposal'][:16]}"
        table.add_row("new nodes", Line(said))


def _add_ledger(table: Table, ledger: Record) -> None:
    if ledger:
        witnesses, watched = len(ledger["witnesses"]), len(ledger["watched"])
        table.add_row(
            "ledger",
            f"entries: {ledger['size']}, signed: {ledger['checkpoint']}, witnesses: {witnesses},"
            f" logs of others watched: {watched}",
        )
    if ledger.get("fault"):
        table.add_row(Line("ledger", "bold red"), Line(ledger["fault"], "bold red"))
    for peer, reason in (ledger.get("alarms") or {}).items():
        alarm = f"the ledger of {short_peer(peer)} {reason}"
        table.add_row(Line("alarm", "bold red"), Line(alarm, "bold red"))


def experts_table(experts: list[Record], now: float) -> Table:
    """One row per expert, the nearest first. "weight" is its mean share in our answers, "merit" how
    many nats per token better than the uniform pool it knew our prompts; `swarmllm audits` says why
    its "standing" is what it is."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading, justify in (
        ("expert", "left"),
        ("peer", "left"),
        ("size", "right"),
        ("tokens/s", "right"),
        ("free", "right"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]  # rich types it as a literal.
    for heading in ("round", "weight", "merit", "up for", "standing", ""):
        table.add_column(heading, justify="right")
    for expert in sorted(
        experts, key=lambda e: (not e["local"], not e["connected"], e["expected_ms"])
    ):
        table.add_row(
            str(expert["model"]),
            "this node" if expert["local"] else short_peer(expert["peer"]),
            count(expert["n_params"]),
            f"{expert['tokens_per_s']:.0f}" if expert["tokens_per_s"] else "-",
            f"{expert['sessions_free']}/{expert['sessions_max']}",
            _milliseconds(expert["round_ms"]),
            "-" if expert["share"] is None else f"{100 * expert['share']:.0f} %",
            "-" if expert["merit_nats"] is None else f"{expert['merit_nats']:+.2f}",
            ago(max(0.0, now - expert["started"])),
            Line(expert.get("standing") or "-", STYLES.get(expert.get("standing") or "", "")),
            Line("resting", "yellow")
            if expert["resting"]
            else Line("" if expert["connected"] or expert["local"] else "not connected", "dim"),
        )
    return table


def _milliseconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} ms" if value < 10 else f"{value:.0f} ms"
