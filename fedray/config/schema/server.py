"""What the server does: `server`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Gt, Lt

from fedray.config.schema.optimizers import Optimizer, SgdOptimizer
from fedray.config.schema.parts import Aggregator, Quality, Selection
from fedray.config.schema.schedule import Schedule, SyncSchedule
from fedray.parts.aggregators.mean import Mean
from fedray.parts.fields import Count, Doc, OrWord, Strict
from fedray.parts.quality.plain import Alike
from fedray.parts.selection.plain import Uniform


@dataclass(frozen=True, kw_only=True)
class Server(Strict):
    """What the server does with updates, and when."""

    rounds: Annotated[Count, Doc("number of new global versions")] = 50
    clients_per_round: Annotated[
        Literal["all"] | Count | Annotated[float, Gt(0), Lt(1)],
        Doc("sync: cohort as a count, a fraction of all clients, or all"),
    ] = "all"
    selection: Annotated[
        Selection,
        OrWord("kind"),
        Doc("who trains next; a word alone, like round_robin, stands for that kind"),
    ] = field(default_factory=Uniform)
    weighting: Annotated[
        Literal["examples", "uniform"], Doc("share of an update: by its examples, or equal")
    ] = "examples"
    quality: Annotated[
        Quality,
        OrWord("kind"),
        Doc("what else an update's share goes by: how good it turns out to be"),
    ] = field(default_factory=Alike)
    aggregator: Aggregator = field(default_factory=Mean)
    optimizer: Optimizer = field(default_factory=SgdOptimizer)
    schedule: Schedule = field(default_factory=SyncSchedule)
