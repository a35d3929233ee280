"""fedray plan: what a file would run, and how it would go."""

from __future__ import annotations

import json

import click

from fedray.cli import options


@click.command(name="plan")
@options.config_argument
@options.set_option
@options.json_option
@click.option(
    "--max-events",
    type=click.IntRange(min=1),
    default=200_000,
    show_default=True,
    help="Steps of the server that are replayed; the rest is extrapolated.",
)
@options.verbose_option
def command(
    source: str | None,
    overrides: tuple[str, ...],
    as_json: bool,
    max_events: int,
    verbose: bool,  # noqa: ARG001
) -> None:
    """Say what CONFIG would run (without CONFIG: the quickstart). Starts and writes nothing.

    Reads and splits the data, then replays the run's timeline without training: how many
    updates there are, how stale they get, who takes part, how long it takes on the virtual
    clock, and how many bytes move. That is the timeline of the run itself, not an estimate.
    Of a sweep file it counts the trials, and does this for the first of them.

    \b
    fedray plan
    fedray plan my.yaml --set server.schedule.concurrency=16
    fedray plan my.yaml --json | jq .forecast.staleness
    """
    from fedray.cli.plan_facts import plan_facts, sweep_facts
    from fedray.config.load import load
    from fedray.config.sweep import load_sweep, sweeps
    from fedray.simulation.plan import build_plan

    file = load_sweep(source, overrides) if sweeps(source, overrides) else None
    loaded = file.base if file else load(source, overrides)
    options.say(loaded.notes)
    plan, federation = build_plan(loaded.config, loaded.base_dir)
    facts = plan_facts(plan, federation, max_events)
    if file:
        facts = {"sweep": sweep_facts(file), **facts}
    if as_json:
        click.echo(json.dumps(facts, indent=2))
        return
    from fedray.cli.plan_view import draw

    console = options.console()
    if file:
        from fedray.cli.sweep_view import announce

        first = "A trial that it could draw:" if file.space else "The first trial:"
        for line in (*announce(file), "", first):
            console.print(line, soft_wrap=True, markup=False)
    draw(console, facts, federation, plan)
