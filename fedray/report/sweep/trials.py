"""The settings of a sweep ranked, and the trials that did not come to their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fedray.report import words
from fedray.report.layout import Section, Table
from fedray.report.sweep.rows import finite
from fedray.report.sweep.settings import Row, Setting, Trials

_LISTED = 50
_COLUMNS = 6


def ranking_section(of: Trials) -> Section:
    """All settings, best first."""
    known = [each for each in of.settings if each.value is not None or each.counted]
    title = "Settings, best first"
    if not known:
        return Section("ranking", title)
    keys = of.keys[:_COLUMNS]
    apart = len(of.seeds) > 1
    columns: dict[str, Callable[[Setting], str]] = {
        **{of.names[key]: _cell(of, key) for key in keys},
        of.merit.name: lambda s: _value(of, s),
        **({"behind": lambda s: _behind(of, s), "seeds": _seeds} if apart else {}),
        "largest fall": _mean(of, "largest_fall"),
        **({} if of.regression else {"worst tenth": _mean(of, "worst_decile")}),
        "bytes": _mean(of, "bytes"),
        "virtual time": _mean(of, "virtual_time_s"),
    }
    shown = known[:_LISTED]
    for name in ("seeds", "bytes", "virtual time"):
        if name in columns and len(shown) > 1 and len({columns[name](s) for s in shown}) == 1:
            del columns[name]  # the same for all, and tables are wide
    rows = [
        (str(place), *(cell(each) for cell in columns.values()))
        for place, each in enumerate(shown, 1)
    ]
    words_of = [of.names[key] for key in keys if not _numbers(of, key)]
    numeric = [name for name in columns if name not in words_of]
    caption = "Means over seeds, with 95% t-intervals" if apart else "On one seed"
    if len(known) > _LISTED:
        caption += f"; the best {_LISTED} of {len(known):,} (trials.parquet has all)"
    if len(of.keys) > _COLUMNS:
        caption += f"; {_COLUMNS} of {len(of.keys)} swept keys"
    text = []
    if apart:
        text.append(
            "Behind is the mean difference to the best seed by seed; with an asterisk where its "
            "95% interval includes zero, so that it could be chance."
        )
    if any(not each.complete for each in shown):
        text.append("Settings that lack trials come last, whatever their value.")
    return Section("ranking", title, text, (), [Table(caption, ("#", *columns), rows, numeric)])


def _cell(of: Trials, key: str) -> Callable[[Setting], str]:
    return lambda setting: of.say_value(key, setting.settings.get(key))


def _numbers(of: Trials, key: str) -> bool:
    return all(finite(each.settings.get(key)) is not None for each in of.settings)


def _value(of: Trials, setting: Setting) -> str:
    missed = len(setting.counted) - len(setting.reached)
    if setting.value is None:
        return "not reached" if of.merit.waits else words.NONE
    text = of.merit.say_interval(setting.value)
    if missed:
        text += f", {missed} {'not reached' if of.merit.waits else 'without a value'}"
    return text


def _behind(of: Trials, setting: Setting) -> str:
    if setting is of.best or of.best is None:
        return ""
    found = of.against_best(setting)
    if found is None:
        return words.NONE
    return of.merit.difference(found.value) + (" *" if found.doubtful else "")


def _seeds(setting: Setting) -> str:
    counted, planned = len(setting.counted), len(setting.trials)
    return str(planned) if counted == planned else f"{counted} of {planned}"


def _mean(of: Trials, column: str) -> Callable[[Setting], str]:
    score = "r2" if of.regression else "accuracy"
    say: dict[str, Callable[[float], str]] = {
        "largest_fall": lambda value: words.points_short(value, score),
        "worst_decile": words.percent,
        "bytes": words.amount,
        "virtual_time_s": words.seconds,
    }

    def cell(setting: Setting) -> str:
        values = [row[column] for row in setting.counted if row[column] is not None]
        return say[column](sum(values) / len(values)) if values else words.NONE

    return cell


def trials_section(of: Trials) -> Section:
    """Failed, stopped early and unfinished trials; empty where all came to their end."""
    tables = [
        _table(of, "failed", "Failed", ("error",), lambda row: (str(row["error"] or "")[:400],)),
        _table(
            of,
            "stopped_early",
            "Stopped early by the scheduler",
            ("versions", of.merit.name),
            lambda row: (words.number(row["versions"]), of.merit.say(row["value"])),
        ),
        _table(
            of,
            "unfinished",
            "Unfinished (fedray sweep --resume goes on with them)",
            ("versions",),
            lambda row: (words.number(row["versions"]),),
        ),
    ]
    title = "Trials that did not come to their end"
    return Section("trials", title, (), (), [table for table in tables if table.rows])


def _table(
    of: Trials,
    status: str,
    caption: str,
    header: Sequence[str],
    cells: Callable[[Row], Sequence[str]],
) -> Table:
    rows = of.with_status(status)
    if status == "stopped_early":
        rows = sorted(rows, key=lambda row: -(row["versions"] or 0))
    listed = [
        (row["id"], of.label(row["settings"]), words.number(row["seed"]), *cells(row))
        for row in rows[:_LISTED]
    ]
    caption = f"{caption}: {len(rows):,}" + (f", {_LISTED} shown" if len(rows) > _LISTED else "")
    numeric = [name for name in ("seed", *header) if name != "error"]
    return Table(caption, ("trial", "setting", "seed", *header), listed, numeric)
