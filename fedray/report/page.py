"""The report of a run: one HTML file that opens offline and prints, and plots/ beside it."""

from __future__ import annotations

from pathlib import Path

from fedray.report import scenario, words
from fedray.report.definitions import STOPPED
from fedray.report.facts import Facts, dig, facts
from fedray.report.layout import fill_template, write_page
from fedray.report.run import Run
from fedray.report.sections import sections
from fedray.report.tables import cannot_write


def build_report(path: str | Path) -> Path:
    """Writes report.html and plots/*.png into the run folder `path`; returns the page's path.

    Raises `InputError` where the folder is no run or cannot be read, StorageError where it
    cannot be written.
    """
    from fedray.report.plots import write_plots

    run = Run(path)
    page = render(run)
    target = run.path / "report.html"
    try:
        write_plots(run, run.path / "plots")
    except OSError as error:
        raise cannot_write(run.path / "plots", error) from error
    write_page(page, target)
    run.publish("report.html", "plots")
    return target


def render(run: Run) -> str:
    """The page as text."""
    known = facts(run)
    shown = [s for s in sections(run, known) if s.pictures or s.tables or s.text or s.parts]
    return fill_template(
        "page.html",
        [picture for section in shown for picture in section.all_pictures],
        title=run.name,
        known=known,
        headline=words.headline(known),
        warnings=_warnings(run, known),
        lessons=scenario.explanation(known),
        tiles=words.tiles(known),
        sections=shown,
        config=_config_text(run),
        versions=dict(known.summary.get("versions") or {}),
    )


def _warnings(run: Run, known: Facts) -> list[str]:
    found = []
    if not known.finished:
        found.append(
            f"This run has not ended: what follows is what it recorded up to version "
            f"{known.versions}. Continue it with: fedray launch --resume {run.path}"
        )
    if known.wall_clock:
        found.append(
            "Run on the wall clock: updates were applied in their true order of arrival, so these "
            "results cannot be reproduced bit for bit."
        )
    if (kind := dig(run.config, "attack.kind")) not in (None, "none"):
        count = sum(map(bool, run.clients["malicious"].to_pylist()))
        who = (
            f"{count:,} of the {run.clients.num_rows:,} clients are malicious (attack.kind {kind})"
        )
        found.append(f"{who}, and their updates are in all figures.")
    stopped = known.summary.get("stopped_by")
    if known.finished and stopped not in (None, "rounds"):
        found.append(f"The run ended early: {STOPPED.get(str(stopped), str(stopped))}.")
    own = known.summary.get("personal")
    if own and own.get("global") is None:
        found.append(
            f"With {own['kind']} no client uses the server's model by itself: the curves and the "
            "test scores are of that model, and what counts are the clients' own."
        )
    if known.curve.not_finite:
        found.append(f"{known.curve.not_finite} evaluations were not finite and are left out.")
    if rejected := known.statuses.get("rejected"):
        found.append(f"{rejected:,} updates were rejected by the server.")
    return found


def _config_text(run: Run) -> str:
    return (run.path / "config.yaml").read_text(encoding="utf-8", errors="replace")
