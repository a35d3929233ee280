"""Label flipping: poisoned data, honest training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from fedray.parts.attacks.base import ByClients
from fedray.parts.fields import Doc, Index


@dataclass(frozen=True, kw_only=True)
class LabelFlip(ByClients):
    """Malicious clients train on wrong labels: y -> C - 1 - y, or `source` -> `target` alone.

    They follow the protocol with poisoned data (Tolpegin et al. 2020), and report its losses.
    """

    PAPER: ClassVar[str] = (
        "Biggio et al. 2012 (arXiv 1206.6389); in federated learning Tolpegin et al. 2020, Data "
        "Poisoning Attacks Against Federated Learning Systems (arXiv 2007.08432)"
    )
    kind: Literal["label_flip"] = "label_flip"
    source: Annotated[Index | None, Doc("class that is mislabelled, by number; default: all")] = (
        None
    )
    target: Annotated[Index | None, Doc("the class that it is said to be")] = None

    def conflict(self, classes: int) -> tuple[str, str] | None:
        if not classes:
            return "kind", "label_flip needs class labels, but the data is a regression"
        pair = {"source": self.source, "target": self.target}
        missing = [name for name, value in pair.items() if value is None]
        if len(missing) == 1:
            return missing[0], "missing: source and target go together"
        for name, value in pair.items():
            if value is not None and value >= classes:
                return name, f"there is no class {value}; allowed: 0 to {classes - 1}"
        if not missing and self.source == self.target:
            return "target", f"{self.target} is source, so nothing would be flipped"
        return None

    def labels(self, y: NDArray[Any], classes: int) -> NDArray[Any]:
        if self.source is None or self.target is None:
            return classes - 1 - y
        return np.where(y == self.source, self.target, y).astype(y.dtype)
