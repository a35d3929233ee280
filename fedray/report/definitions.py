"""What the report's terms mean, one sentence each."""

from __future__ import annotations

from typing import NamedTuple

MODES = {"sync": "synchronous", "buffered": "buffered asynchronous", "async": "asynchronous"}

STATUSES = {
    "applied": "went into a version",
    "stale": "arrived beyond the staleness bound",
    "late": "arrived after its round was closed",
    "dropped_out": "lost on the way",
    "rejected": "not finite, or refused by the server",
}

STOPPED = {
    "accuracy": "the target accuracy was reached",
    "loss": "the target loss was reached",
    "virtual_time_s": "its virtual time was over",
    "bytes": "its byte budget was spent",
    "patience": "no evaluation had been better for a while",
    "interrupted": "it was interrupted",
}

HETEROGENEITY = {
    "label_severity": (
        "Label severity",
        "Label EMD over that of one class per client: 0 is IID, 1 is one class per client.",
    ),
    "label_emd": (
        "Label EMD",
        "Distance of the clients' label shares from the overall ones, sum over classes of "
        "|P_k(c) - P(c)|, averaged over clients by size (Zhao et al. 2018). Between 0 and 2.",
    ),
    "label_js": (
        "Label Jensen-Shannon",
        "Root of (entropy of the mean label distribution minus mean entropy), over its largest "
        "value for so many clients: 0 where all agree, at most 1 (Lin 1991).",
    ),
    "label_hellinger": (
        "Label Hellinger",
        "Root mean square Hellinger distance between the clients' label distributions: 0 to 1.",
    ),
    "quantity_gini": (
        "Quantity Gini",
        "Inequality of shard sizes: 0 where all are equal, towards 1 where one client has all.",
    ),
    "clients_effective": (
        "Effective clients",
        "1 / sum of squared shares of the samples: as many clients of equal size would "
        "carry the same weight.",
    ),
    "feature_distance": (
        "Feature distance",
        "Share of the inputs' variance that lies between clients: 0 where their means are "
        "equal, at most 1.",
    ),
}

DYNAMICS = {
    "cancellation": (
        "Cancellation",
        "Norm of the weighted mean of the updates over the weighted mean of their norms. "
        "1: clients pull the same way; about 1/√K: K unrelated directions; near 0: they cancel.",
    ),
    "cosine_mean": (
        "Cosine",
        "Mean cosine between each client's update and the aggregate that it went into. "
        "1: clients agree; near 0 or below: the version helps few of them.",
    ),
    "cosine_pairwise": (
        "Cosine between clients",
        "Mean cosine between the updates of two different clients of a version. 1: they agree; "
        "0: unrelated directions; below 0: they work against each other.",
    ),
    "forgetting": (
        "Forgetting",
        "Mean over classes of how far a class's accuracy is below its own best so far. "
        "0: nothing that was learnt is lost.",
    ),
    "drift_mean": (
        "Drift",
        "Mean distance of the local models from the version that they started from. "
        "Far and disagreeing is client drift: local optima pull away from the common one.",
    ),
    "update_norm": (
        "Length of the update",
        "Norm of the aggregated update, before the server's optimizer. Shrinks as a run "
        "converges; a level that stays is noise or disagreement.",
    ),
    "n_effective": (
        "Effective updates",
        "1 / sum of squared weights: as many equally weighted updates would average out "
        "as much noise. Low means that a few clients decide a version.",
    ),
    "staleness_mean": (
        "Staleness",
        "Mean of (server version when applied - version trained from) over the updates "
        "in each version.",
    ),
}

DILUTION_LAW = (
    "Dashed: what the cancellation would be if the updates were unrelated directions of these "
    "lengths. Below it, clients work against each other; above it, they agree."
)


class Term(NamedTuple):
    """A part of the direction that a step took."""

    name: str
    meaning: str


TERMS = {
    "participation": Term(
        "Participation",
        "The clients in the version, weighted as they were, instead of all clients by their data.",
    ),
    "staleness": Term(
        "Staleness",
        "Gradients at the versions that clients had downloaded instead of the newest one; when "
        "every update makes a version, also the pull back to the old model.",
    ),
    "drift": Term(
        "Drift",
        "Gradients on the way of the local steps instead of where they set out.",
    ),
    "noise": Term(
        "Noise",
        "Gradients of minibatches instead of the whole shard's.",
    ),
    "residual": Term(
        "Residual",
        "The rest: proximal terms, local momentum, and what the server's optimizer or aggregator "
        "made of the updates.",
    ),
    "gradient": Term(
        "Gradient",
        "The step that a gradient over all clients' data would be: what training is to do.",
    ),
}
"""What a step's direction is made of, see `diagnosis.decompose`."""

LOOKED_INTO = {
    "local": (
        "Before and after local training",
        "Local training lifts a client's model on its own data. What that model shows on the test "
        "set, and what the average of all of them does, is what the federation gains by it.",
    ),
    "aggregation": (
        "Aggregation gap",
        "Clients' models on the test set, on average, less the model that they were averaged to. "
        "Below zero the average is better than its parts; above zero averaging costs.",
    ),
    "dissimilarity": (
        "Dissimilarity of the gradients (B²)",
        "Mean squared norm of the clients' gradients over the squared norm of their mean, by "
        "samples. 1: all clients have the same gradient; large: they want different things.",
    ),
    "divergence": (
        "Distance from pooled training",
        "Distance between the model and one trained on the pooled data with as many minibatches, "
        "over that one's norm.",
    ),
    "pooled": (
        "Beside pooled training",
        "The model trained on the pooled data with as many minibatches: the ceiling.",
    ),
}
"""Figures of the versions that were looked into: title and how to read it."""
