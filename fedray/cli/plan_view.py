"""The tables of `fedray plan`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from fedray.config import schema
from fedray.report.words import amount, data_name, number, percent, seconds
from fedray.simulation.plan import Plan
from fedray.types import Federation, Floats

FEW_CLIENTS = 24
"""Up to so many, every client has a line of its own."""
_MOST_CLASSES = 30
_BARS = " ▁▂▃▄▅▆▇█"

HETEROGENEITY = {
    "label_severity": "label skew: 0 IID, 1 one class per client",
    "label_emd": "label distance from the whole, 0 to 2",
    "label_js": "Jensen-Shannon distance of labels, 0 to 1",
    "label_hellinger": "Hellinger distance of labels, 0 to 1",
    "quantity_gini": "sizes: 0 all equal, near 1 one client has all",
    "clients_effective": "equal clients that would weigh the same",
    "feature_distance": "inputs' variance between clients, 0 to 1",
    "label_shift": "training labels that were changed",
}
"""Measures of a split in a phrase each."""

ENDINGS = {
    "rounds": "all versions are made",
    "virtual_time_s": "stop.virtual_time_s is reached",
    "bytes": "stop.bytes is reached",
    "no_clients": "no client will ever answer again",
}

Row = tuple[str, str]


def draw(console: Console, facts: dict[str, Any], federation: Federation, plan: Plan) -> None:
    """Prints everything that `plan_facts` found."""
    console.print(f"[bold]{facts['name']}[/bold], seed {facts['seed']}: nothing is started")
    _section(console, "What", _what(facts, plan))
    _section(console, "Split", _split(facts["partition"]))
    if federation.clients <= FEW_CLIENTS:
        console.print()
        console.print(_clients(federation, plan, facts))
    _section(console, "Machine", _machine(facts))
    if facts["memory"]["warning"]:
        console.print(f"[yellow]warning: memory: {facts['memory']['warning']}[/yellow]")
    if facts["forecast"] is None:
        console.print("\nNo forecast: on the wall clock, jobs arrive as they happen to finish.")
    else:
        known = facts["forecast"]
        _section(console, _title(known), _forecast(known, federation.clients))
        console.print()
        console.print(_staleness(known["staleness"]["counts"]))


def _section(console: Console, title: str, rows: Sequence[Row]) -> None:
    table = Table(
        box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0),
        title=title, title_justify="left", title_style="bold cyan",
    )  # fmt: skip
    table.add_column(no_wrap=True, min_width=16)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print()
    console.print(table)


def _what(facts: dict[str, Any], plan: Plan) -> list[Row]:
    data, model, down = facts["data"], facts["model"], facts["message_bytes"]
    classes = len(data["classes"])
    what = f"{classes:,} classes" if classes else "regression"
    return [
        (
            "data",
            f"{data_name({'data': vars(plan.config.data)})}: {data['samples']:,} samples, "
            f"{data['features']:,} features, {what}; {data['test_samples']:,} for testing",
        ),
        ("model", f"{model['kind']}, {model['parameters']:,} parameters ({model['dtype']})"),
        ("algorithm", f"{facts['algorithm']}: {schedule_in_words(plan)}"),
        *_attack(plan),
        *_privacy(facts["privacy"]),
        ("each job", client_in_words(plan.config.client, plan.config.model)),
        ("each message", f"{amount(down['down'])} down, {amount(down['up'])} up"),
    ]


def _attack(plan: Plan) -> list[Row]:
    crew = plan.work.attackers
    if crew is None:
        return []
    who = f"{len(crew.clients):,} of {plan.population.clients:,} clients"
    return [("attack", f"{crew.attack.kind} by {who}")]


def _privacy(spent: dict[str, Any] | None) -> list[Row]:
    """What would be spent at the end, at the most."""
    if spent is None:
        return []
    text = (
        f"{spent['kind']} noise of multiplier {number(spent['noise_multiplier'])}: epsilon "
        f"{number(spent['epsilon'])} at delta {spent['delta']:.3g} by {spent['accountant']}, for "
        f"{spent['adjacency']}; {spent['claimed']}"
    )
    return [("privacy", text)]


def schedule_in_words(plan: Plan) -> str:
    """When the server makes a version, and from what."""
    server = plan.config.server
    schedule, clients = server.schedule, plan.population.clients
    versions = f"{server.rounds:,} versions"
    if isinstance(schedule, schema.SyncSchedule):
        who = f"all {clients:,}" if plan.cohort == clients else f"{plan.cohort:,} of {clients:,}"
        text = f"{versions}, each from {who} clients"
        if schedule.over_select > 1:
            text += f", the first to arrive of {number(schedule.over_select)} times as many"
        if schedule.deadline_s is not None:
            text += f", closed after {seconds(schedule.deadline_s)} (late updates: {schedule.late})"
        return text
    busy = f"{schedule.concurrency:,} of {clients:,} clients always training"
    text = f"{versions}, {busy}, a version {_pace(schedule)}"
    text += f", weighted by staleness ({schedule.staleness_weight.kind})"
    if schedule.max_staleness is not None:
        text += f", {schedule.on_stale} beyond staleness {schedule.max_staleness}"
    return text


def _pace(schedule: schema.BufferedSchedule | schema.AsyncSchedule) -> str:
    if isinstance(schedule, schema.AsyncSchedule):
        return "from every arrival"
    if schedule.every_s is not None:
        return f"every {seconds(schedule.every_s)} from what has arrived"
    each = schedule.buffer_size
    return f"from {each:,} arrivals" if each > 1 else "from every arrival"


def client_in_words(client: schema.Client, model: schema.Model) -> str:
    """What one job of a client does."""
    if isinstance(model, schema.SklearnModel):
        return f"{model.estimator}, fit {model.fit}"
    if client.steps is not None:
        long = f"{client.steps:,} step{'s' * (client.steps != 1)}"
    else:
        long = f"{number(client.epochs)} epoch{'s' * (client.epochs != 1)}"
    size = "the full shard" if client.batch_size == "full" else f"batches of {client.batch_size:,}"
    extras = [
        f", {name} {number(value)}"
        for name, value in (
            ("momentum", client.momentum),
            ("weight decay", client.weight_decay),
            ("prox_mu", client.prox_mu),
        )
        if value
    ]
    return f"SGD, {long} in {size}, lr {number(client.lr)}{''.join(extras)}"


def _split(split: dict[str, Any]) -> list[Row]:
    alpha = split.get("alpha")
    scheme = split["scheme"] + (f", alpha {number(alpha)}" if alpha is not None else "")
    sizes = "{samples_min:,} / {samples_median:,.0f} / {samples_max:,}".format(**split)
    return [
        ("scheme", f"{scheme}, {split['clients']:,} clients"),
        ("samples each", f"{sizes} (min / median / max)"),
        *(
            (name, f"{number(value):<10}{HETEROGENEITY.get(name, '')}")
            for name, value in split["heterogeneity"].items()
        ),
    ]


def _clients(federation: Federation, plan: Plan, facts: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("client", no_wrap=True, overflow="ellipsis", max_width=24)
    table.add_column("samples", justify="right")
    wall = facts["devices"] is None
    if not wall:
        table.add_column("job", justify="right")
        table.add_column("updates", justify="right")
    counts = federation.label_counts
    bars = counts is not None and counts.shape[1] <= _MOST_CLASSES
    if bars:
        names = federation.classes
        short = "".join(names) if all(len(n) == 1 for n in names) else f"{len(names)} classes"
        table.add_column(f"labels ({short})", no_wrap=True)
    updates = (facts["forecast"] or {}).get("participation", {}).get("applied", [])
    for client, size in enumerate(plan.sizes.tolist()):
        name = federation.client_names[client] if federation.client_names else str(client)
        row = [name, f"{size:,}"]
        if not wall:
            row += [seconds(float(plan.population.duration_s[client])), number(updates[client])]
        if bars and counts is not None:
            row.append(bar(counts[client] / max(1, counts[client].sum())))
        table.add_row(*row)
    return table


def bar(shares: Floats) -> str:
    """A character per class, as high as its share; blank only where there is none at all."""
    steps = np.ceil(np.asarray(shares) * (len(_BARS) - 1)).astype(int)
    return "".join(_BARS[step] if step else "·" for step in steps)


def _machine(facts: dict[str, Any]) -> list[Row]:
    actors, memory, devices = facts["actors"], facts["memory"], facts["devices"]
    count = f"{actors['actors']:,} client actors and a server actor: " if actors["actors"] else ""
    parts = {
        "driver": memory["driver_bytes"],
        "object store": memory["object_store_bytes"],
        "client actors": memory["actors_bytes"],
        "server": memory["server_bytes"],
        "Ray": memory["ray_bytes"],
    }
    named = ", ".join(f"{name} {amount(size)}" for name, size in parts.items() if size)
    rows = [
        ("actors", count + actors["reason"]),
        (
            "memory, about",
            f"{amount(memory['total_bytes'])} of {amount(memory['available_bytes'])} available "
            f"({named})",
        ),
    ]
    rows.append(("disk, about", amount(facts["disk_bytes"])))
    if (total_s := facts["computing"]["total_s"]) is not None:
        job_s = seconds(facts["computing"]["job_s"])
        rows.append(("time, about", f"{seconds(total_s)} on this machine; {job_s} a job"))
    if devices is not None:
        job, shares = devices["job_s"], devices["shares"]
        spent = ", ".join(f"{percent(share)} {name}" for name, share in shares.items() if share)
        each = " / ".join(seconds(job[key]) for key in ("min", "median", "max"))
        rows.insert(0, ("virtual devices", f"{each} per job (min / median / max): {spent}"))
    return rows


def _title(known: dict[str, Any]) -> str:
    if known["ends_by"] != "cut":
        if known["uniform_instead_of"]:
            return (
                f"Forecast for uniform selection: {known['uniform_instead_of']} depends on what "
                "clients compute"
            )
        return "Forecast" if known["exact"] else "Forecast, if no stop rule ends it earlier"
    return "Forecast, about: the replay was cut (--max-events) and extrapolated"


def _forecast(known: dict[str, Any], clients: int) -> list[Row]:
    if known["extrapolated_by"] is None:
        return [("versions", "none in the part that was replayed, so nothing can be said")]
    cut = known["ends_by"] == "cut"
    about, of_part = ("about ", ", in the part replayed") if cut else ("", "")

    def count(jobs: int) -> str:
        return f"{int(float(f'{jobs:.3g}')) if cut else jobs:,}"

    moved, part, stale = known["bytes"], known["participation"], known["staleness"]
    unused = [f"{count(n)} {status.replace('_', ' ')}" for status, n in known["dropped"].items()]
    return [
        (
            "jobs",
            f"{about}{count(known['dispatched'])} dispatched, "
            f"{count(known['applied'])} updates applied",
        ),
        ("not used", about + ", ".join(unused) if unused else "none"),
        ("versions", f"{about}{count(known['versions'])}{_ending(known)}"),
        ("virtual time", about + seconds(known["virtual_time_s"])),
        ("bytes", f"{about}{amount(moved['down'])} down, {amount(moved['up'])} up"),
        ("staleness", f"mean {number(stale['mean'])}, max {number(stale['max'])}{of_part}"),
        ("taking part", f"{part['taking_part']:,} of {clients:,} clients, {_asked(part)}{of_part}"),
        (
            "updates each",
            "{applied_min:,} / {applied_median:,.0f} / {applied_max:,} (min / median / max)".format(
                **part
            )
            + of_part,
        ),
        (
            "speed",
            f"{percent(part['fastest_tenth_share'])} of the updates come from the fastest 10% "
            "of the clients",
        ),
    ]


def _ending(known: dict[str, Any]) -> str:
    earlier = known["may_end_earlier"]
    if earlier:
        return f", fewer if {' or '.join(f'stop.{rule}' for rule in earlier)} is met"
    if known["ends_by"] in ("cut", "rounds"):
        return ""
    return f"; ends early, {ENDINGS[known['ends_by']]}"


def _asked(part: dict[str, Any]) -> str:
    idle = part["never_asked"]
    return f"{idle:,} never asked" if idle else "all asked at least once"


def _staleness(counts: Sequence[int], rows: int = 12) -> Table:
    """A histogram of at most so many bars, each over as many values."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("staleness", justify="right")
    table.add_column("updates", justify="right")
    table.add_column("", no_wrap=True)
    wide = max(1, math.ceil(len(counts) / rows))
    bins = [sum(counts[low : low + wide]) for low in range(0, len(counts), wide)]
    most = max(bins, default=0) or 1
    for low, held in zip(range(0, len(counts), wide), bins, strict=True):
        high = min(low + wide, len(counts)) - 1
        name = str(low) if high == low else f"{low}-{high}"
        table.add_row(name, f"{held:,}", "█" * math.ceil(30 * held / most))
    return table
