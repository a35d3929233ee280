"""What a sweep has come to: `trials.parquet` and `sweep.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedray.report.sweep.importance import importance
from fedray.report.sweep.response import axes_of, pairs
from fedray.report.sweep.rows import FINDINGS, collect, override
from fedray.report.sweep.settings import Setting, Trials, open_trials
from fedray.report.tables import write_text
from fedray.report.words import sentence

__all__ = ["collect", "findings", "summarise", "write_findings"]
_LISTED = 100
"""Failed trials and settings in the file; the table has all of them."""
_SAID = 6
"""Pairs in words; `crossovers` has all of them."""


def summarise(folder: str | Path) -> dict[str, Any]:
    """What came of the trials in `trials.parquet`; also written as `sweep.json`.

    Keys: name, metric, mode, target, trials, counts (by status), settings, seeds, keys, best
    and ranking (see `_setting`), crossovers (see `sweep_response.Pair`), importance, failed,
    words. Raises InputError where `folder` is no sweep's or cannot be read, StorageError
    where it cannot be written.
    """
    of = open_trials(Path(folder))
    found = findings(of)
    write_findings(of.folder, found)
    return found


def write_findings(folder: Path, found: dict[str, Any]) -> None:
    """Writes `sweep.json`, whole or not at all."""
    write_text(folder / FINDINGS, json.dumps(found, indent=2, allow_nan=False) + "\n")


def findings(of: Trials) -> dict[str, Any]:
    """The content of `sweep.json`."""
    from fedray.report.sweep.columns import STATUSES

    merit, best = of.merit, of.best
    axes = axes_of(of)
    compared = pairs(of, axes) if axes else []
    weights = importance(of)
    return {
        "name": of.name,
        "metric": merit.metric,
        "mode": merit.mode,
        "target": merit.target,
        "trials": len(of.rows),
        "counts": {status: len(of.with_status(status)) for status in STATUSES},
        "settings": len(of.settings),
        "seeds": of.seeds,
        "keys": of.keys,
        "best": _setting(best) if best else None,
        "ranking": [_setting(each) for each in of.settings[:_LISTED]],
        "crossovers": [asdict(pair) for pair in compared],
        "importance": asdict(weights) if weights else None,
        "failed": [
            {key: row[key] for key in ("id", "settings", "seed", "error")}
            for row in of.with_status("failed")[:_LISTED]
        ],
        "words": [
            sentence(text)
            for text in (*_words(of), *(pair.words for pair in compared[:_SAID]), *_missing(of))
        ],
    }


def _setting(of: Setting) -> dict[str, Any]:
    """{setting, settings, set (as for `--set`), value {value, low, high}, seeds, trials}."""
    return {
        "setting": of.number,
        "settings": dict(of.settings),
        "set": [override(key, value) for key, value in of.settings.items()],
        "value": None if of.value is None else of.value._asdict(),
        "seeds": [row["seed"] for row in of.counted],
        "trials": [row["id"] for row in of.trials],
    }


def _words(of: Trials) -> Iterator[str]:
    """Which setting is best, and how sure that is."""
    best, merit = of.best, of.merit
    if best is None or best.value is None:
        ended = of.with_status("finished")
        if merit.waits and ended and not of.with_status("unfinished"):
            yield f"None of the {len(ended)} finished trials reached the target"
        else:
            yield "No trial has come to an end with a value yet"
    else:
        text = f"Best is {of.label(best.settings)}: {merit.name} {merit.say(best.value.value)}"
        if best.value.low is None:
            yield f"{text}, on one seed, so nothing says how much of it is chance"
        else:
            low, high = merit.say(best.value.low), merit.say(best.value.high)
            yield f"{text} on average over {len(best.reached)} seeds (95% interval {low} to {high})"
            yield from _rivals(of, best)


def _missing(of: Trials) -> Iterator[str]:
    missing = [
        f"{len(of.with_status(status))} {words}"
        for status, words in (("failed", "failed"), ("unfinished", "did not come to an end"))
        if of.with_status(status)
    ]
    if missing:
        yield f"Of {len(of.rows)} trials, {' and '.join(missing)}"


def _rivals(of: Trials, best: Setting) -> Iterator[str]:
    """Who else might be best."""
    against = [(each, of.against_best(each)) for each in of.settings if each is not best]
    compared = [(each, effect) for each, effect in against if effect is not None]
    rivals = [each for each, effect in compared if effect.doubtful]
    if len(compared) == 1 and not rivals:
        yield f"{of.label(compared[0][0].settings)} is told from it, seed by seed"
    elif compared and not rivals:
        yield f"All others ({len(compared)}) are told from it, seed by seed"
    elif len(compared) == 1:
        yield f"{of.label(rivals[0].settings)} cannot be told from it on these seeds"
    elif len(rivals) == len(compared) and rivals:
        yield f"None of the other {len(rivals)} can be told from it on these seeds"
    elif rivals:
        first = of.label(rivals[0].settings)
        named = first if len(rivals) == 1 else f"{first} and {len(rivals) - 1} more"
        yield (
            f"{len(rivals)} of the other {len(compared)} cannot be told from it on these "
            f"seeds: {named}"
        )
