"""What a diagnosis is asked to do, and where that is kept for it to be resumed."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fedray.config import schema
from fedray.config.layers import leaves
from fedray.config.load import Loaded, as_tree, dump, load
from fedray.diagnosis.counterfactual.trace import only_recorded
from fedray.errors import InputError
from fedray.report.diagnosis.reader import (
    FINDINGS,
    INSIDE,
    PAGE,
    PRESCRIPTION,
    REQUEST,
    UNFINISHED,
)
from fedray.report.run import Run
from fedray.report.storage import joined, local_path, uri_of
from fedray.report.tables import write_text

SEEDS = 5
_MAY_CHANGE = ("runtime", "output")
_WATCHING = ("accuracy", "loss", "patience")


@dataclass(frozen=True)
class Request:
    """A configuration, as it is diagnosed, and how.

    `of` is the run that it is about, if it is about one: opened, or where it is. `out` is where
    it goes, if that is said. `notes` are limits of the diagnosis for the user to know.
    """

    loaded: Loaded
    seeds: tuple[int, ...]
    of: Run | str | None
    out: str | Path | None
    prescribe: bool
    notes: tuple[str, ...]

    @property
    def config(self) -> schema.Config:
        return self.loaded.config

    @cached_property
    def run(self) -> Run | None:
        """The run that it is about. Raises InputError where that is not there any more."""
        return Run(self.of) if isinstance(self.of, str) else self.of

    def write(self, folder: Path) -> None:
        """Leaves in `folder` what `reopened` needs."""
        (folder / UNFINISHED).mkdir(exist_ok=True)
        facts = {
            "seeds": self.seeds,
            "run": _whereabouts(self.of) if isinstance(self.of, Run) else self.of,
            "prescribe": self.prescribe,
            "notes": self.notes,
        }
        write_text(folder / "config.yaml", dump(self.config))
        write_text(folder / REQUEST, json.dumps(facts, indent=2))


def asked(
    source: str | Path | Run | Mapping[str, Any] | None,
    settings: Mapping[str, Any],
    seeds: int | None,
    out: str | Path | None,
    *,
    prescribe: bool,
) -> Request:
    """A new request. Raises InputError for bad input, one line."""
    if seeds is not None and (isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1):
        raise InputError(f"{seeds!r} is not a number of seeds; at least 1", key="--seeds")
    if isinstance(source, str | Path) and names_a_run(str(source)):
        source = Run(source)
    if isinstance(source, Run):
        _only(settings, f"{source.place} is diagnosed as it was run")
        loaded, notes = _as_run(load(source.path / "config.yaml", settings), source)
    else:
        loaded, notes = _without_watching(load(source, settings))
    run = source if isinstance(source, Run) else None
    if out is None and run is not None:
        out = run.named(INSIDE)
    here = None if out is None or uri_of(out) else local_path(out)
    if here is not None and (standing := _standing(here, str(here))):
        raise InputError(f"{standing}; for a new one choose another folder", key="--out")
    if why := only_recorded(loaded.config):
        seeds = _seeds_recorded(loaded.config, run, seeds)
        notes.append(f"{why[0].upper()}{why[1:]}: all arms have the arrivals that were recorded, "
                     "and as they were recorded for one seed only, there are no intervals."
                     )  # fmt: skip
    # As it will be when it is reopened, so that whatever is made from it is the same.
    loaded = replace(loaded, explicit=as_tree(loaded.config))
    first = loaded.config.seed
    which = tuple(range(first, first + (seeds or SEEDS)))
    return Request(loaded, which, run, out, prescribe, tuple(notes))


def reopened(folder: Path, place: str, settings: Mapping[str, Any], *, prescribe: bool) -> Request:
    """The request of a diagnosis that was interrupted, or is to get its prescription now.

    `place` is the folder as the user knows it. `runtime` and `output` may be set anew.
    """
    standing = _standing(folder, place)
    if standing is None:
        raise InputError(f"{place} is not the folder of a diagnosis", key="--resume")
    _only(settings, "a resumed diagnosis keeps its configuration")
    wanted = prescribe and not (folder / PRESCRIPTION).exists()
    if not _interrupted(folder) and not wanted:
        raise InputError(f"{standing}; for a new one use --out", key="--resume")
    path = folder / REQUEST
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return Request(
            load(folder / "config.yaml", settings),
            tuple(facts["seeds"]),
            facts["run"],
            folder,
            prescribe or facts["prescribe"],
            tuple(facts["notes"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: cannot be read: {error!r}", key="--resume") from error


def names_a_run(source: str) -> bool:
    """Whether it is a folder and no configuration, which may also be YAML itself."""
    return "\n" not in source and (uri_of(source) is not None or local_path(source).is_dir())


def _whereabouts(run: Run) -> str:
    return run.place if uri_of(run.place) else str(run.path.absolute())


def _interrupted(folder: Path) -> bool:
    return (folder / UNFINISHED).is_dir() or not (folder / FINDINGS).exists()


def _standing(folder: Path, place: str) -> str | None:
    """How the diagnosis in a folder stands, and what can be done with it; None: there is none."""
    again = f"fedray diagnose --resume {shlex.quote(place)}"
    if not (folder / REQUEST).is_file():
        return None
    if _interrupted(folder):
        return f"{place} has a diagnosis that was interrupted; continue it with: {again}"
    page = PAGE if (folder / PAGE).exists() else FINDINGS
    see = joined(place, page) if uri_of(place) else folder / page
    if (folder / PRESCRIPTION).exists():
        return f"{place} has a finished diagnosis and prescription: see {see}"
    return (
        f"{place} has a finished diagnosis: see {see}; to add what would help: {again} --prescribe"
    )


def _only(settings: Mapping[str, Any], why: str) -> None:
    for key in leaves(settings):
        if key.split(".")[0] not in _MAY_CHANGE:
            raise InputError(f"{why}; only runtime and output may be set", key=key)


def _without_watching(loaded: Loaded) -> tuple[Loaded, list[str]]:
    """Rules that look at scores would end every arm at another version."""
    stop = loaded.config.stop
    rules = [rule for rule in _WATCHING if getattr(stop, rule) is not None]
    if not rules:
        return loaded, []
    config = replace(loaded.config, stop=replace(stop, **dict.fromkeys(rules)))
    named = " and ".join(f"stop.{rule}" for rule in rules)
    left_out = f"{'Rule' if len(rules) == 1 else 'Rules'} left out: {named}"
    return replace(loaded, config=config), [
        f"{left_out}, so that all arms run for the same {config.server.rounds:,} versions."
    ]


def _as_run(loaded: Loaded, run: Run) -> tuple[Loaded, list[str]]:
    """The run's configuration, ending at the version at which the run did."""
    versions = max(run.rounds.column("version").to_pylist(), default=0)
    if versions < 1:
        raise InputError(f"{run.place}: the run has made no version yet; nothing to diagnose")
    loaded, _ = _without_watching(loaded)
    config, planned = loaded.config, loaded.config.server.rounds
    if versions == planned:
        return loaded, []
    config = replace(config, server=replace(config.server, rounds=versions))
    return replace(loaded, config=config), [
        f"The run ended at version {versions:,} of {planned:,}, and so do all arms."
    ]


def _seeds_recorded(config: schema.Config, run: Run | None, seeds: int | None) -> int:
    """A trace that was recorded is of one seed."""
    wall = config.clock == "wall"
    chosen = config.server.selection.kind
    if run is None:
        raise InputError(
            f"{'wall' if wall else chosen}: who arrives when is only known once it has run; "
            "launch it, then diagnose its run folder",
            key="clock" if wall else "server.selection.kind",
        )
    if seeds not in (None, 1):
        how = "by the wall clock" if wall else f"with server.selection {chosen}"
        raise InputError(
            f"{seeds} seeds for a run {how}, whose arrivals were recorded for one", key="--seeds"
        )
    return 1
