"""What clients gain by models of their own, in words, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fedray.report import words
from fedray.report.figures import column
from fedray.types import Floats, Ints

if TYPE_CHECKING:
    from fedray.report.run import Run

FEWER = 0.5
"""Losers count as small where none has more than this share of the others' median samples."""


@dataclass(frozen=True)
class OwnModels:
    """Honest clients that hold samples back, (K,) each; scores are shares, or squared errors."""

    kind: str
    metric: str
    """accuracy or mse."""
    clients: Ints
    examples: Floats
    tested: Floats
    own: Floats
    shared: Floats | None
    """Of the model for all; None where nobody can use that by itself."""
    gain: Floats | None
    summary: dict[str, Any]

    def change(self, value: float) -> str:
        """A difference of scores, with its sign."""
        if self.metric == "accuracy":
            return f"{100 * value:+.1f} points"
        return f"{value:+.3g} of squared error"

    def score(self, value: float | None) -> str:
        return words.percent(value) if self.metric == "accuracy" else words.number(value)


def own_models(run: Run) -> OwnModels | None:
    """What a finished run knows of clients' own models; None where they had none."""
    summary = run.summary.get("personal")
    if not summary:
        return None
    table, metric = run.clients, str(summary["metric"])
    tested, bad = column(table, "test_examples"), column(table, "malicious")
    rows = np.flatnonzero((tested > 0) & ~(bad > 0))
    if not len(rows):
        return None
    compared = summary.get("global") is not None
    return OwnModels(
        str(summary["kind"]), metric, rows, column(table, "examples")[rows], tested[rows],
        column(table, f"personal_{metric}")[rows],
        column(table, f"global_{metric}")[rows] if compared else None,
        column(table, "gain")[rows] if compared else None,
        summary,
    )  # fmt: skip


def one_line(of: OwnModels) -> str:
    """For a small table: who gains, and what becomes of the mean and of the worst tenth."""
    own = of.summary["personal"]
    if of.gain is None:
        return (
            f"{of.kind}: mean {of.score(own['mean'])}, worst tenth {of.score(own['worst_decile'])} "
            "on held-out samples"
        )
    shared, gain = of.summary["global"], of.summary["gain"]
    return (
        f"{of.kind}: {gain['clients_that_gain']} of {len(of.clients)} clients gain, median "
        f"{of.change(gain['median'])}; mean {of.score(shared['mean'])} to {of.score(own['mean'])}, "
        f"worst tenth {of.score(shared['worst_decile'])} to {of.score(own['worst_decile'])}"
    )


def in_words(of: OwnModels) -> list[str]:
    """Paragraphs: what is gained, by whom, and what to do about it."""
    if of.gain is None:
        return [_alone(of)]
    return [text for text in (_gained(of, of.gain), _losers(of, of.gain), _advice(of)) if text]


def _alone(of: OwnModels) -> str:
    own = of.summary["personal"]
    sizes = of.summary.get("cluster_sizes")
    text = (
        f"With {of.kind} the server has no model that a client could use by itself, so that there "
        f"is nothing in this run to gain on. Clients' own models are right on "
        f"{of.score(own['mean'])} of their held-out samples in the mean, and on "
        f"{of.score(own['worst_decile'])} in the worst tenth of clients. "
        if of.metric == "accuracy"
        else f"With {of.kind} the server has no model that a client could use by itself. Clients' "
        f"own models have a squared error of {of.score(own['mean'])} in the mean. "
    )
    if sizes:
        text += f"Clients per cluster: {', '.join(f'{n:,}' for n in sizes)}. "
    return text + (
        "For the gain, compare with the same file and algorithm: finetune, which scores federated "
        "averaging, and what it becomes at home, on the same samples."
    )


def _gained(of: OwnModels, gain: Floats) -> str:
    up, down = int((gain > 0).sum()), int((gain < 0).sum())
    same = len(gain) - up - down
    said = ((down, "loses", "lose"), (same, "is as well off", "are as well off"))
    rest = [f"{n} {one if n == 1 else several}" for n, one, several in said if n]
    own, shared = of.summary["personal"], of.summary["global"]
    told = f", {' and '.join(rest)}" if rest else ""
    gains = "gains" if up == 1 else "gain"
    return (
        f"{up} of {len(gain)} clients {gains} by a model of their own ({of.kind}){told}: median "
        f"{of.change(float(np.median(gain)))}, mean {of.change(float(gain.mean()))}. The mean "
        f"goes from {of.score(shared['mean'])} to {of.score(own['mean'])}, and that of the worst "
        f"tenth from {of.score(shared['worst_decile'])} to {of.score(own['worst_decile'])}."
    )


def _losers(of: OwnModels, gain: Floats) -> str:
    """How much the losers lose, and whether they are those with few samples."""
    lost = gain < 0
    count = int(lost.sum())
    if not count:
        return ""
    loss = of.change(float(-gain.min())).lstrip("+")
    text = (
        f"The one that is worse off loses {loss}"
        if count == 1
        else f"The {count} that are worse off lose {loss} at most"
    )
    if count == len(gain):
        return text + "."
    most, others = float(of.examples[lost].max()), float(np.median(of.examples[~lost]))
    has = "has" if count == 1 else "have"
    if most <= FEWER * others:
        return (
            f"{text}, and {has} {words.number(most)} samples or fewer to train on, "
            f"where the others have {words.number(others)} in the median: too few for a model of "
            "one's own."
        )
    theirs = words.number(float(np.median(of.examples[lost])))
    return (
        f"{text}; it is not for want of samples ({theirs} in the median, the others "
        f"{words.number(others)})."
    )


def _advice(of: OwnModels) -> str:
    found = of.summary["gain"]
    mean, error = float(found["mean"]), found["standard_error"]
    tested = words.number(float(np.median(of.tested)))
    if error is None or abs(mean) <= 2 * error:
        shown = "" if error is None else f" ({of.change(mean)} \N{PLUS-MINUS SIGN} two standard "
        shown += "" if error is None else f"errors of {of.change(float(error)).lstrip('+')})"
        return (
            f"That is no gain that these samples can show{shown}; the median client tests on "
            f"{tested}. Stay with the global model, or hold back more (personal.test_fraction) "
            "and run several seeds."
        )
    if mean < 0:
        return (
            "Stay with the global model: models of their own cost clients more than they gain. "
            "Less training at home, or a stronger pull to the global model, may change that."
        )
    if found["clients_that_lose"]:
        return (
            "Models of their own pay on the whole. A client that loses had better stay with the "
            "global model: each can tell by samples that it holds back, as here."
        )
    return "Models of their own pay: nobody loses by them on the samples held back."
