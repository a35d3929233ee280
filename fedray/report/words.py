"""Numbers and runs in words, as a person would say them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from fedray.report.definitions import MODES
from fedray.report.facts import Facts, dig
from fedray.report.figures import Fall

NONE = "\N{EN DASH}"


class Tile(NamedTuple):
    """A key figure."""

    label: str
    value: str
    note: str = ""


def number(value: float | None) -> str:
    """Four significant digits, thousands separated; a dash for None and NaN."""
    if value is None or value != value:
        return NONE
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}" if 1e-4 <= abs(value) < 1e7 else f"{value:.3g}"


def percent(share: float | None) -> str:
    """0.912 -> 91.2%."""
    return NONE if share is None or share != share else f"{100 * share:.1f}%"


def metric(value: float | None, name: str) -> str:
    """A figure of merit: percent for accuracy, three decimals else."""
    if name == "accuracy" or value is None or value != value:
        return percent(value)
    return f"{value:.3f}" if abs(value) < 1000 else number(value)


def points(lost: float, name: str) -> str:
    """A difference: percentage points for accuracy."""
    if name == "accuracy":
        return f"{100 * lost:.1f} points"
    return f"{lost:.3f}" if lost < 1000 else number(lost)


def points_short(lost: float, name: str) -> str:
    """As `points`, for narrow places."""
    return points(lost, name).replace("points", "pts")


def seconds(value: float | None) -> str:
    """A duration in the unit that suits it."""
    if value is None or value != value:
        return NONE
    divisor, unit = time_unit(value)
    return f"{value / divisor:.3g} {unit}"


def time_unit(largest_s: float) -> tuple[float, str]:
    """(seconds per unit, unit) for an axis up to `largest_s`."""
    if largest_s < 180:
        return 1.0, "s"
    if largest_s < 3 * 3600:
        return 60.0, "min"
    return (3600.0, "h") if largest_s < 3 * 86400 else (86400.0, "days")


def amount(count: float | None) -> str:
    """Bytes, decimal prefixes."""
    if count is None or count != count:
        return NONE
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(count) < 1000 or unit == "TB":
            return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError


def sentence(text: object) -> str:
    """A capital in front, a full stop behind."""
    said = str(text or "").strip()
    return said[:1].upper() + said[1:] + ("." if said and said[-1] not in ".!?" else "")


def metric_name(name: str) -> str:
    """As it stands in a heading."""
    return {"accuracy": "Accuracy", "r2": "R²", "mse": "Squared error", "loss": "Loss"}[name]


def time_name(known: Facts) -> str:
    """Which clock the run went by."""
    return "wall-clock time" if known.wall_clock else "virtual time"


def one_line(known: Facts) -> str:
    """For a prompt: mode, versions, figures."""
    if known.final is None:
        return f"{known.versions} versions, not evaluated"
    text = f"{known.versions} versions, {known.metric} {metric(known.final, known.metric)}"
    if known.best is not None:
        text += f" (best {metric(known.best, known.metric)} at {known.best_version})"
    return text if known.finished else text + ", unfinished"


def headline(known: Facts) -> list[str]:
    """What ran and what came of it, a paragraph in a few sentences."""
    return [s for s in (_what(known), _came_of(known), fall_sentence(known), _stale(known)) if s]


def _what(known: Facts) -> str:
    mode = MODES.get(known.mode, known.mode)
    training = f"{mode} federated training".strip().capitalize()
    by = f" with {known.algorithm}" if known.algorithm else ""
    kind = dig(known.config, "model.kind")
    parameters = known.summary.get("parameters")
    sized = f" ({number(parameters)} parameters)" if isinstance(parameters, int) else ""
    model = f" of a {kind} model{sized}" if kind else ""
    clients = f"{known.clients:,} client{'' if known.clients == 1 else 's'}"
    return f"{training}{by}{model} on {data_name(known.config)}, over {clients}{_split(known)}."


def data_name(config: Mapping[str, Any]) -> str:
    """The data set, as short as it can be told."""
    data = config.get("data") or {}
    source = str(data.get("source") or "unknown data")
    if source == "openml":
        return str(data.get("name"))
    if data.get("path"):
        return str(data["path"]).rstrip("/").rsplit("/", 1)[-1]
    if source == "linear_regression":
        return f"one-feature regression data ({data.get('scenario', 'iid')})"
    return source.replace("_", " ")


def _split(known: Facts) -> str:
    scheme = dig(known.config, "partition.scheme")
    if not scheme or scheme == "natural":
        return ""
    alpha = dig(known.config, "partition.alpha")
    shown = f", alpha {number(alpha)}" if isinstance(alpha, int | float) else ""
    named = {"iid": "IID", "dirichlet": "Dirichlet"}.get(scheme, str(scheme).replace("_", " "))
    return f" ({named} split{shown})"


def _came_of(known: Facts) -> str:
    after = f"After {known.versions:,} version{'' if known.versions == 1 else 's'}"
    if known.virtual_time_s:
        after += f" and {seconds(known.virtual_time_s)} of {time_name(known)}"
    if known.final is None:
        return f"{after} there is no evaluation on the test set."
    name = "test accuracy" if known.metric == "accuracy" else "R² on the test set"
    text = f"{after}, {name} is {metric(known.final, known.metric)}"
    if known.best is None or known.best <= known.final:
        return text + ", the best of the run."
    best = metric(known.best, known.metric)
    return text + f"; the best was {best} at version {known.best_version}."


def fall_sentence(known: Facts) -> str:
    """The largest fall from the running best."""
    fall = known.largest_fall
    if fall is None:
        if len(known.curve.values) < 2:
            return ""
        return f"{metric_name(known.metric)} never fell below its running best."
    return (
        f"The largest fall from the running best lost {points(fall.lost, known.metric)}: "
        f"{metric(fall.from_value, known.metric)} at version {fall.from_version} to "
        f"{metric(fall.to_value, known.metric)} at version {fall.to_version}, {recovery(fall)}."
    )


def recovery(fall: Fall) -> str:
    """When a fall was made good."""
    if fall.recovered_version is None:
        return "not recovered within the run"
    return f"recovered by version {fall.recovered_version}"


def _stale(known: Facts) -> str:
    parts = []
    if known.staleness_mean is not None:
        if known.staleness_max:
            parts.append(
                f"Applied updates were {known.staleness_mean:.2g} versions stale on average, "
                f"{known.staleness_max} at most"
            )
        else:
            parts.append("No applied update was stale")
    severity = known.heterogeneity.get("label_severity")
    if severity is not None:
        skew = "hardly" if severity < 0.1 else "moderately" if severity < 0.5 else "strongly"
        parts.append(
            f"{'labels' if parts else 'Labels'} are {skew} skewed across clients "
            f"(severity {severity:.2f}, where 0 is IID and 1 is one class per client)"
        )
    return "; ".join(parts) + "." if parts else ""


def tiles(known: Facts) -> list[Tile]:
    """The key figures, the most wanted first; those that are unknown are left out."""
    name, fall = metric_name(known.metric), known.largest_fall
    found = [
        Tile(
            f"final {name if name == 'R²' else name.lower()}",
            metric(known.final, known.metric),
            f"loss {number(known.final_loss)}" if known.final_loss is not None else "",
        ),
        Tile(
            f"best {name if name == 'R²' else name.lower()}",
            metric(known.best, known.metric),
            f"version {known.best_version}" if known.best_version is not None else "",
        ),
        Tile(
            "largest fall",
            points_short(fall.lost, known.metric) if fall else "none",
            f"versions {fall.from_version} to {fall.to_version}" if fall else "",
        ),
        Tile("versions", f"{known.versions:,}", f"{known.clients:,} clients"),
        Tile(time_name(known), seconds(known.virtual_time_s), _wall(known)),
    ]
    if known.staleness_mean is not None and known.staleness_max:
        found.append(
            Tile("mean staleness", f"{known.staleness_mean:.2f}", f"at most {known.staleness_max}")
        )
    if known.statuses:
        total = sum(known.statuses.values())
        applied = known.statuses.get("applied", 0)
        found.append(Tile("updates applied", f"{applied:,}", f"of {total:,} jobs"))
    if known.bytes_up or known.bytes_down:
        found.append(
            Tile("sent up", amount(known.bytes_up), f"{amount(known.bytes_down)} sent down")
        )
    if "label_severity" in known.heterogeneity:
        severity = known.heterogeneity["label_severity"]
        found.append(Tile("label severity", f"{severity:.2f}", "0 IID, 1 one class each"))
    return found


def _wall(known: Facts) -> str:
    if known.wall_time_s is None:
        return ""
    rate = known.summary.get("updates_per_wall_s")
    text = f"computed in {seconds(known.wall_time_s)}"
    return text + (f", {number(rate)} updates/s" if isinstance(rate, int | float) else "")
