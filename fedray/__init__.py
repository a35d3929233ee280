"""fedray: federated learning on Ray, asynchronous and reproducible to the bit.

    run = fedray.launch("configs/fashion_mnist.yaml", **{"partition.alpha": 0.1})
    run.rounds, run.updates, run.clients, run.summary, run.plot()
    fedray.diagnose(run, seeds=3).words
    fedray.sweep("configs/sweeps/severity.yaml").trials

Names are imported when first used, so that `import fedray` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedray.api.autopsy import autopsy as autopsy
    from fedray.api.diagnose import diagnose as diagnose
    from fedray.api.doctor import doctor as doctor
    from fedray.api.fork import fork as fork
    from fedray.api.launch import launch as launch
    from fedray.api.sweep import sweep as sweep
    from fedray.errors import FedrayError as FedrayError
    from fedray.errors import InputError as InputError
    from fedray.report.diagnosis.reader import Diagnosis as Diagnosis
    from fedray.report.run import Run as Run
    from fedray.report.sweep.reader import Sweep as Sweep

__version__ = "0.1.0"

_HOMES = {
    "launch": "fedray.api.launch",
    "autopsy": "fedray.api.autopsy",
    "doctor": "fedray.api.doctor",
    "fork": "fedray.api.fork",
    "diagnose": "fedray.api.diagnose",
    "sweep": "fedray.api.sweep",
    "Run": "fedray.report.run",
    "Diagnosis": "fedray.report.diagnosis.reader",
    "Sweep": "fedray.report.sweep.reader",
    "FedrayError": "fedray.errors",
    "InputError": "fedray.errors",
}
__all__ = [
    "Diagnosis",
    "FedrayError",
    "InputError",
    "Run",
    "Sweep",
    "__version__",
    "autopsy",
    "diagnose",
    "doctor",
    "fork",
    "launch",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fedray' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
