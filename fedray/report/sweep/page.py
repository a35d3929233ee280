"""The page of a sweep: one HTML file that opens offline and prints."""

from __future__ import annotations

import shlex
from pathlib import Path

from fedray.report import words
from fedray.report.layout import fill_template, write_page
from fedray.report.sweep.importance import importance
from fedray.report.sweep.reader import PAGE
from fedray.report.sweep.rows import SWEEP, override
from fedray.report.sweep.sections import sections
from fedray.report.sweep.settings import Trials, open_trials
from fedray.report.sweep.tables import findings, write_findings
from fedray.report.words import Tile


def build_sweep_page(folder: str | Path) -> Path:
    """Writes sweep.html, and sweep.json before it, from trials.parquet and the run folders.

    Raises `InputError` where the folder is no sweep's or cannot be read, StorageError
    where it cannot be written.
    """
    of = open_trials(Path(folder))
    found = findings(of)
    write_findings(of.folder, found)
    target = of.folder / PAGE
    page = render_sweep(of, found["words"])
    write_page(page, target)
    return target


def render_sweep(of: Trials, said: list[str]) -> str:
    """The page as text."""
    shown = [s for s in sections(of) if s.pictures or s.tables or s.parts]
    config = (of.folder / SWEEP).read_text(encoding="utf-8", errors="replace")
    return fill_template(
        "sweep.html",
        [picture for section in shown for picture in section.all_pictures],
        title=of.name,
        words=said,
        facts=_facts(of),
        tiles=_tiles(of),
        best=_best(of),
        heirs=of.scheduler == "pbt",
        sections=shown,
        config=config,
    )


def _facts(of: Trials) -> str:
    """What was swept, in a line."""
    section = of.tree.get("sweep") or {}
    seeds = [str(seed) for seed in of.seeds]
    target = f", target {of.merit.target:g}" if of.merit.target is not None else ""
    searcher = section.get("searcher", "random") if of.searched else ""
    parts = [
        f"{len(of.settings):,} settings of {', '.join(of.names[key] for key in of.keys)}",
        f"{len(of.rows):,} trials",
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds[:12])}",
        f"{of.merit.name} ({of.merit.mode}{target})",
        f"{searcher} search" if searcher else "",
        f"scheduler {of.scheduler}" if of.scheduler != "none" else "",
    ]
    return " · ".join(filter(None, parts))


def _tiles(of: Trials) -> list[Tile]:
    """The key figures."""
    best, merit = of.best, of.merit
    tiles = []
    if best is not None and best.value is not None:
        tiles.append(Tile(f"best {merit.name}", merit.say(best.value.value),
                          of.label(best.settings)))  # fmt: skip
    done = len(of.with_status("finished"))
    early = len(of.with_status("stopped_early"))
    note = f"of {len(of.rows):,}" + (f", {early:,} stopped early" if early else "")
    tiles.append(Tile("trials finished", f"{done:,}", note))
    if failed := len(of.with_status("failed")):
        tiles.append(Tile("trials failed", f"{failed:,}", "listed below"))
    known = importance(of)
    if known is not None and known.shares:
        key = max(known.shares, key=lambda name: known.shares[name])
        share = words.percent(known.shares[key])
        tiles.append(Tile("mattered most", of.names[key], f"{share} of the variance"))
    wall = [row["wall_time_s"] for row in of.rows if row["wall_time_s"] is not None]
    if wall:
        tiles.append(Tile("computed", words.seconds(sum(wall)), "sum over trials, wall clock"))
    return tiles


def _best(of: Trials) -> dict[str, str] | None:
    """The best setting to paste: its overrides, its command, its whole configuration."""
    best = of.best
    if best is None:
        return None
    trial = str(best.counted[0]["id"])
    path = of.folder / "trials" / trial / "config.yaml"
    overrides = [override(key, value) for key, value in best.settings.items()]
    return {
        "label": of.label(best.settings),
        "overrides": " ".join(f"--set {shlex.quote(each)}" for each in overrides),
        "trial": trial,
        "seed": words.number(best.counted[0]["seed"]),
        "config": path.read_text(encoding="utf-8", errors="replace") if path.exists() else "",
    }
