"""What can be done about lost accuracy: a table of mitigations that exist, one record each.

A remedy is a change of configuration keys, worked out from the run's own settings and
trace. It is tried, never assumed to help: `prescribe` runs it and measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal, NamedTuple, TypeAlias

from fedray.config import schema
from fedray.config.load import Loaded, load
from fedray.diagnosis.counterfactual.trace import only_recorded
from fedray.diagnosis.remedies import rules as changes
from fedray.diagnosis.remedies.rules import Rule, Settings, Situation, about, retimes
from fedray.errors import InputError

Target: TypeAlias = Literal["non_iid", "drift", "staleness", "averaging", "participation"]
"""What a remedy acts on: a cause of the diagnosis, or that few clients make a version."""


class Remedy(NamedTuple):
    """One mitigation, with the reason why it may help."""

    name: str
    target: Target
    reason: str
    settings: Rule
    note: str = ""
    """What else changes, where that is easily overlooked."""


class Candidate(NamedTuple):
    """A remedy for one run: what it sets, and the configuration that comes of it."""

    name: str
    target: Target
    reason: str
    settings: Settings
    config: schema.Config
    note: str = ""


def candidates(
    loaded: Loaded, situation: Situation, say: Callable[[str], None] | None = None
) -> list[Candidate]:
    """Every remedy that applies, over the settings of `loaded`; of equal ones the first.

    A trace that was recorded cannot be worked out anew, so only what leaves it as it is
    applies there. What a rule lets through and the configuration's own checks refuse
    is left out and told to `say`; without one it raises InputError.
    """
    found: list[Candidate] = []
    known = [loaded.config]
    recorded = only_recorded(situation.config)
    for name, target, reason, rule, note in REMEDIES:
        settings = rule(situation)
        if settings is None or (recorded and retimes(settings)):
            continue
        try:
            config = load(loaded.explicit, settings).config
        except InputError as error:
            if say is None:
                raise
            say(f"{name}: left out, {error}")
            continue
        if config not in known:
            known.append(config)
            found.append(Candidate(name, target, reason, settings, config, note))
    return found


def together(
    ranked: Sequence[Candidate], configure: Callable[[Settings], schema.Config]
) -> Candidate | None:
    """The first two, by rank, that are about different things, as one; None if there are none.

    `configure` makes the configuration of settings (InputError: there is none).
    """
    for one, other in combinations(ranked, 2):
        if about(one.settings) & about(other.settings):
            continue
        settings = {**one.settings, **other.settings}
        try:
            config = configure(settings)
        except InputError:
            continue
        notes = "; ".join(filter(None, dict.fromkeys([one.note, other.note])))
        return Candidate(
            f"{one.name} + {other.name}", one.target, f"{one.reason}; and {other.reason}",
            settings, config, notes,
        )  # fmt: skip
    return None


_FEWER = "fewer gradient steps per update, so less computing at equal updates"

REMEDIES: tuple[Remedy, ...] = (
    Remedy(
        "server momentum 0.9, same step", "participation",
        "averages the step over about ten versions, which evens out who happened to take part",
        changes.momentum(0.1),
    ),
    Remedy(
        "server momentum 0.9", "averaging",
        "adds up directions that versions share, so that averaging costs less of the step",
        changes.momentum(1.0),
    ),
    *(
        Remedy(
            f"Fed{kind.capitalize()}, server lr {lr:g}", "averaging",
            "scales every parameter's step by its own history, whatever length the mean has left",
            changes.adaptive(kind, lr),
        )
        for kind in ("adam", "yogi", "adagrad")
        for lr in (0.01, 0.1)
    ),
    Remedy(
        "plain server step", "averaging",
        "takes the mean as it is, without what an optimizer's memory adds from past versions",
        changes.plain,
    ),
    Remedy(
        "server step x2", "averaging",
        "makes up for the length that updates lose when they are averaged",
        changes.server_step(2.0),
    ),
    Remedy(
        "server step x0.5", "participation",
        "follows each group of clients only half of the way",
        changes.server_step(0.5),
    ),
    Remedy(
        "proper mean", "averaging",
        "gives every client its share, where the running average favours the last one",
        changes.mean,
    ),
    Remedy(
        "equal weights", "non_iid",
        "keeps large shards from outvoting the others", changes.weighting("uniform"),
    ),
    Remedy(
        "weights by examples", "non_iid",
        "weights clients as pooled training weights their samples", changes.weighting("examples"),
    ),
    *(
        Remedy(
            f"FedProx, mu {mu:g}", "drift",
            "pulls long local training back towards the model that it started from",
            changes.prox(mu),
        )
        for mu in (0.001, 0.01, 0.1, 1.0)
    ),
    *(
        Remedy(
            f"local training / {n}", "drift",
            "lets clients hear from each other before they have walked far apart",
            changes.fewer_steps(n), note=_FEWER,
        )
        for n in (2, 4)
    ),
    Remedy(
        "SCAFFOLD", "drift",
        "corrects every local step by how the client's gradients differ from everybody's",
        changes.method("scaffold", weighting="uniform"),
        "twice the bytes both ways, and a vector that every client keeps",
    ),
    Remedy(
        "FedNova", "drift",
        "divides updates by the steps they took, so that longer walks do not pull harder",
        changes.normalised,
    ),
    Remedy(
        "FedExP", "averaging",
        "steps further where updates agree less, by as much as averaging has shortened them",
        changes.method("fedexp", drifting=False),
    ),
    Remedy(
        "client lr x0.5", "drift",
        "halves how far a client gets from the model that it started from",
        changes.client_lr(0.5),
    ),
    Remedy(
        "client lr x2", "averaging",
        "makes longer steps, of which more is left after averaging",
        changes.client_lr(2.0),
    ),
    Remedy(
        "client lr falling to a tenth", "non_iid",
        "lets the pull of single clients fade out towards the end", changes.lr_decay,
    ),
    Remedy(
        "staleness bound at the median, drop", "staleness",
        "leaves out the staler half of the updates", changes.bound(0.5, "drop"),
        note="slow clients are heard less often",
    ),
    Remedy(
        "staleness bound at 90 %, drop", "staleness",
        "leaves out the stalest tenth of the updates", changes.bound(0.9, "drop"),
        note="slow clients are heard less often",
    ),
    Remedy(
        "staleness bound at the median, wait", "staleness",
        "holds new versions back until the oldest work has arrived, and loses none of it",
        changes.bound(0.5, "wait"),
    ),
    Remedy(
        "discount (1 + staleness)^-0.5", "staleness",
        "weighs updates down the staler they are", changes.discount("polynomial", exponent=0.5),
    ),
    Remedy(
        "discount 1 / (1 + staleness)", "staleness",
        "weighs updates down the staler they are, strongly",
        changes.discount("polynomial", exponent=1.0),
    ),
    Remedy(
        "discount beyond the median staleness", "staleness",
        "takes usual updates in full and next to nothing of the stalest", changes.hinge,
    ),
    Remedy(
        "no staleness discount", "averaging",
        "keeps the length of the step, and hears slow clients as loud as fast ones",
        changes.discount("constant"),
    ),
    *(
        Remedy(
            f"buffer x{n}", "staleness",
            "makes fewer versions of more updates each, so that work in flight gets less stale",
            changes.larger_buffer(n),
        )
        for n in (2, 4)
    ),
    Remedy(
        "half as many clients at a time", "staleness",
        "staleness is in proportion to the work in flight", changes.fewer_at_a_time,
    ),
    Remedy(
        "buffered instead of async", "staleness",
        "averages a few arrivals before each version, so that versions pass by more slowly",
        changes.buffered,
    ),
    Remedy(
        "rounds instead of arrivals", "staleness",
        "waits for whoever was asked, so that every update is fresh", changes.rounds,
    ),
    Remedy(
        "cohort x2", "participation",
        "makes each version from more clients, closer to the federation as a whole",
        changes.cohort(2),
    ),
    Remedy(
        "everyone in every round", "participation",
        "leaves nothing to the draw of the cohort", changes.cohort(None),
    ),
    Remedy(
        "twice as many clients at a time", "participation",
        "keeps more clients at work, slow ones among them", changes.more_at_a_time,
    ),
    Remedy(
        "clients in turn", "participation",
        "hears everyone equally often", changes.in_turn,
    ),
    Remedy(
        "carry late updates over", "participation",
        "lets slow clients count, one version later", changes.carry,
    ),
    Remedy(
        "draw 1.3 times the cohort", "participation",
        "fills up rounds that the deadline cuts short", changes.over_select,
    ),
)  # fmt: skip
"""Every mitigation that can be configured; a new one is a line here."""
