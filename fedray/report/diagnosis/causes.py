"""What a diagnosis's terms mean: causes, arms, questions, method."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple


class Cause(NamedTuple):
    """One of the four causes: `on` as in the run, `off` as a counterfactual arm has it."""

    name: str
    short: str
    """In a sentence, or in a legend."""
    on: str
    off: str


CAUSES = {
    "non_iid": Cause(
        "Non-IID data",
        "non-IID data",
        "every client trains on its own shard",
        "the same samples are reshuffled over the clients; every shard keeps its size",
    ),
    "drift": Cause(
        "Client drift",
        "client drift",
        "every member of a group walks its local steps alone",
        "the members step jointly: each hears from the others after every single step",
    ),
    "staleness": Cause(
        "Staleness and communication",
        "staleness",
        "members take their gradients at the version that they had downloaded, plus the way "
        "walked since; compression, dropout and lateness are as in the run",
        "they take them at the current version, plus the way walked since; compression, dropout "
        "and lateness are off",
    ),
    "averaging": Cause(
        "Averaging",
        "averaging",
        "the members' steps are averaged with the run's weights",
        "they are taken one after another, each at full strength",
    ),
}
"""In the order of the arms' names. A group is the updates that made one version together."""

WALKS = {
    (True, True): "clients walk alone and their walks are averaged, as FedAvg does",
    (False, True): "clients step jointly with averaged gradients, as large-batch SGD does",
    (True, False): "whole walks follow one another, client by client",
    (False, False): "single steps of all clients are interleaved, one after another",
}
"""By (drift on, averaging on)."""

QUESTIONS = {
    "level": (
        "Level",
        "Mean of the last tenth of the evaluations.",
    ),
    "fall": (
        "Largest fall",
        "How far the worst point lies from the best one before it, wherever in the run.",
    ),
    "area": (
        "Whole curve",
        "Mean over all evaluations: how well the model did on the way, not only at the end.",
    ),
}

METHOD = (
    "The run is replayed on its own event trace: the same dispatches, arrivals, aggregations, "
    "shard sizes, numbers of minibatches and learning rates, and the same random numbers. Each of "
    "the four causes can be switched off, which makes 16 arms, from the run itself (all on, the "
    "same bits) to plain SGD on the pooled, shuffled data (all off).",
    "A cause's share is its Shapley value: what switching it on costs, averaged over all orders "
    "in which the four can be switched on. Shares add up to the gap between the run and the "
    "pooled arm. A positive share is a cost; a negative one means that the cause helped. "
    "Intervals are 95% over seeds; one seed has none.",
    "How high a run ends and how far it falls on the way are different questions, so both are "
    "answered. Equal updates compares the arms after as many client updates; equal virtual time "
    "compares them at the same moment, and an evaluation counts for the time since the one "
    "before.",
)

CONTROLS = {
    "reference": (
        "Pooled SGD",
        "training on the pooled data by a program of its own, with as many gradient evaluations",
    ),
    "participation": (
        "Every client, every version",
        "the run's algorithm with all clients taking part in every version",
    ),
}
"""Curves that belong to no corner of the factorial."""


def sentence(on: Collection[str]) -> str:
    """An arm in one sentence, by the causes that are on in it."""
    data = "own" if "non_iid" in on else "reshuffled"
    base = (
        "gradients start from the version each had downloaded"
        if "staleness" in on
        else "gradients start from the current version"
    )
    walk = WALKS["drift" in on, "averaging" in on]
    return f"On {data} shards, {walk}; {base}."
