"""One client's job as its method sees it: `parts.local.Local` over a model and a shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedray.config import schema
from fedray.learning import local
from fedray.parts.local import Walked
from fedray.types import Matrix, Model, Vector

_NONE = slice(0, 0)


class Job:
    """Everything that a job may look at. See `parts.local.Local` for the fields."""

    def __init__(
        self, model: Model, config: schema.Client, base: Vector, X: Matrix, y: NDArray[Any],
        lr: float, rng: np.random.Generator, *,
        broadcast: tuple[Vector, ...] = (), state: Matrix | None = None, vectors: int = 0,
        watch: local.Watch | None = None, own: slice = _NONE,
        kept: NDArray[np.bool_] | None = None, initial: Callable[[], Vector] | None = None,
    ) -> None:  # fmt: skip
        self._model: Any = model
        self._config, self._X, self._y = config, X, y
        self.base, self.lr, self.rng, self.broadcast = base, lr, rng, broadcast
        self._state, self._vectors, self._watch = state, vectors, watch
        self._own, self._kept, self._initial = own, kept, initial

    @property
    def fresh(self) -> bool:
        return self._state is None or not self._state.any()

    @property
    def state(self) -> Matrix:
        if self._state is None:
            self._state = np.zeros((self._vectors, len(self.base)), self.base.dtype)
        return self._state

    @property
    def own(self) -> Matrix | None:
        if self._state is None:
            return None
        rows = self._state[self._own]
        return rows if rows.any() else None

    @property
    def kept(self) -> NDArray[np.bool_]:
        if self._kept is None:
            self._kept = np.zeros(len(self.base), bool)
        return self._kept

    @property
    def initial(self) -> Vector:
        return self.base if self._initial is None else self._initial()

    @property
    def examples(self) -> int:
        return len(self._y)

    def sgd(
        self, *, start: Vector | None = None, shift: Vector | None = None, pull: float = 0.0,
        anchor: Vector | None = None, reference: Vector | None = None, scale: float = 1.0,
    ) -> Walked:  # fmt: skip
        """An estimator without gradients trains its own way, from the downloaded model."""
        model = self._model
        if not hasattr(model, "gradient"):
            passes = int(self._config.epochs)
            fitted = model.train(self.base, self._X, self._y, epochs=passes, rng=self.rng)
            return Walked(fitted, passes)
        bend = None
        if any(v is not None for v in (start, shift, reference)) or pull or scale != 1.0:
            bend = local.Bend(start, shift, pull, anchor, reference, scale)
        return local.sgd(
            model, self.base, self._X, self._y, self._config, self.lr, self.rng,
            self._watch, bend,
        )  # fmt: skip

    def tune(
        self, start: Vector, *, pull: float = 0.0, anchor: Vector | None = None,
        still: NDArray[np.bool_] | None = None, epochs: float | None = None,
        lr: float | None = None,
    ) -> Walked:  # fmt: skip
        config = replace(self._config, prox_mu=0.0)
        if epochs is not None:
            config = replace(config, epochs=epochs, steps=None)
        return local.sgd(
            self._model, self.base, self._X, self._y, config, lr or self.lr, self.rng,
            bend=local.Bend(start, None, pull, anchor, still=still),
        )  # fmt: skip

    def gradients(self) -> Iterator[Callable[[Vector], Vector]]:
        for X, y in local.minibatches(self._config, self._X, self._y, self.rng):
            yield partial(self._slope, X, y)

    def gradient(self, w: Vector) -> Vector:
        return self._slope(self._X, self._y, w)

    def _slope(self, X: Matrix, y: NDArray[Any], w: Vector) -> Vector:
        out = np.empty_like(w)
        self._model.gradient(w, X, y, out)
        if self._config.weight_decay:
            out += self._config.weight_decay * w
        return out

    def loss(self, w: Vector) -> float:
        if hasattr(self._model, "loss"):
            return float(self._model.loss(w, self._X, self._y))
        return float(self._model.score(w, self._X, self._y).loss_sum) / len(self._y)

    def loss_square(self, w: Vector) -> float:
        """Mean squared loss per sample at w on the whole shard, regularisation left out."""
        return float(self._model.score(w, self._X, self._y).loss_square_sum) / len(self._y)
