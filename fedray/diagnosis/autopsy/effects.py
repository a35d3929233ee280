"""What each update of a step did to the test loss, to first order.

Version t+1 is w' = w + B sum_i a_i d_i + m, where B is what the server optimizer makes of
the aggregated update (its step size; for the adaptive ones a diagonal) and m is what it
remembers of earlier ones. Update i's effect on the test loss F is <B a_i d_i, grad F(w)>,
memory's is <m, grad F(w)>, and their sum is <w' - w, grad F(w)>. What the loss really did
beyond that is curvature.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedray.config import schema
from fedray.diagnosis.counterfactual.replay import Made
from fedray.learning.decomposition import HeldOutBlock, everyone
from fedray.learning.optimizers import OPTIMIZERS, State
from fedray.learning.work import Work, eval_pieces
from fedray.models.scoring import metrics
from fedray.simulation.events import clients_of
from fedray.simulation.step import Step
from fedray.types import Federation, Floats, Ints, Metrics, Vector


class Effects(NamedTuple):
    """First-order effects of one step on the test loss; arrays are (A,) over its updates."""

    version: int
    at_s: float
    clients: Ints
    staleness: Ints
    weights: Floats
    effects: Floats
    memory: float
    slope: float
    """Norm of the test gradient at the version before."""

    @property
    def first_order(self) -> float:
        return float(self.effects.sum()) + self.memory

    @property
    def unit_effects(self) -> Floats:
        """Effect per unit weight and unit test gradient (A,): how far uphill an update points."""
        with np.errstate(all="ignore"):
            return np.asarray(self.effects / (self.weights * self.slope))


class Memory:
    """The server optimizer's state, followed along a replay: all steps must be shown to it."""

    def __init__(self, config: schema.Optimizer, state: State) -> None:
        self._config, self._state = config, state

    def take(self, made: Made) -> None:
        """Takes a step in; a step without accepted updates leaves the optimizer alone."""
        step = _step(made)
        if step.accepted.any():
            optimizer = OPTIMIZERS[type(self._config)]
            _, self._state = optimizer(self._config, made.before, step.update, self._state)

    @property
    def gain(self) -> float | Vector:
        """B of the step taken last: a number, or the diagonal (P,)."""
        match self._config:
            case schema.SgdOptimizer(lr=lr):
                return lr
            case schema.MomentumOptimizer(lr=lr, momentum=momentum, nesterov=nesterov):
                return lr * (1.0 + momentum if nesterov else 1.0)
            case adaptive:
                v = np.asarray(self._state.get("v", adaptive.tau**2), np.float64)
                return adaptive.lr * (1.0 - adaptive.beta1) / (np.sqrt(v) + adaptive.tau)


def effects(made: Made, gain: float | Vector, gradient: Vector) -> Effects:
    """The effects of one step, from the test gradient (P,) at `made.before`."""
    step, group = _step(made), made.groups[-1]
    scaled = gain * gradient
    moved = made.after.astype(np.float64) - made.before
    clients = clients_of(group.jobs)[step.accepted]
    weights = step.weights[step.accepted]
    with np.errstate(all="ignore"):
        pulls = np.array([np.dot(vector.astype(np.float64), scaled) for vector in step.vectors])
        of_updates = weights * pulls if len(pulls) else np.zeros(0)
        memory = float(moved @ gradient) - float(of_updates.sum())
    return Effects(
        made.version, group.at_s, clients, step.staleness[step.accepted], weights,
        of_updates, memory, float(np.linalg.norm(gradient)),
    )  # fmt: skip


class TestSet:
    """The test set as the run sees it: its scores, bit for bit, and its gradient."""

    __test__ = False  # not one of pytest's

    def __init__(self, work: Work, federation: Federation) -> None:
        self._work, self._federation = work, federation

    def score(self, w: Vector) -> Metrics:
        """As recorded in `rounds.parquet`."""
        return metrics(everyone(self._work, self._federation, w))

    def gradient(self, w: Vector) -> Floats:
        """Of the test loss, without regularisation as the recorded loss is: (P,) float64."""
        samples = len(self._federation.y_test)
        pieces = np.arange(eval_pieces(samples))
        summed = HeldOutBlock(w, pieces, samples)(self._work, self._federation)
        return np.asarray(summed / samples)


def _step(made: Made) -> Step:
    assert made.step is not None  # the run's own arm averages whole walks, always
    return made.step
