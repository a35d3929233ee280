"""One call from a run folder to what happened at its falls."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from fedray.diagnosis.autopsy.autopsy import autopsy as look_into
from fedray.errors import InputError
from fedray.report.run import Run
from fedray.report.tables import write_text
from fedray.simulation.outcome import finite

FILE = "autopsy.json"


def autopsy(
    run: str | Path | Run,
    *,
    at: int | None = None,
    top: int = 3,
    report: bool | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Says which updates, clients, labels and causes brought a run's accuracy down.

    run: a run folder, finished or not. at: look at the step that made this version instead
    of the `top` largest falls and shifts of level. report: build RUN/report.html anew, with
    the autopsy in it; None: where the run has, or asks for, a report. watch: told (versions
    replayed, versions to replay).

    Returns the content of RUN/autopsy.json, which is written; `diagnosis.autopsy.autopsy` documents
    it. Raises InputError for what is no run folder, a model without gradients, data that is
    no longer there, and `at` or `top` out of range.
    """
    if top < 1:
        raise InputError(f"{top} is not allowed; must be at least 1", key="--top")
    run = run if isinstance(run, Run) else Run(run)
    with threadpool_limits(limits=1):  # as in a run, whose bits these are
        found: dict[str, Any] = finite(look_into(run, at=at, top=top, watch=watch))
    _write(found, run.path / FILE)
    if report is None:
        asked = (run.config.get("output") or {}).get("report", True)
        report = bool(asked) or (run.path / "report.html").exists()
    if report:
        from fedray.report.page import build_report

        build_report(run.path)
    run.publish(FILE, "report.html", "plots")
    return found


def _write(found: dict[str, Any], path: Path) -> None:
    write_text(path, json.dumps(found, indent=2, allow_nan=False) + "\n")
