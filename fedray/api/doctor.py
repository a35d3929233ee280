"""What is to be known of this machine before a run, and whether a run fits on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedray.config.layers import overrides_tree
from fedray.config.load import load
from fedray.distributed.checkup import Finding, machine_findings, run_findings
from fedray.simulation.plan import build_plan


@dataclass(frozen=True)
class Checkup:
    """All that was looked at, and, of a run, what it needs."""

    findings: tuple[Finding, ...]
    needs: Mapping[str, Any] | None

    @property
    def fits(self) -> bool:
        """Whether nothing has to be refused."""
        return all(finding.level != "refused" for finding in self.findings)


def doctor(
    source: str | Path | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    **settings: Any,
) -> Checkup:
    """Looks at this machine, and at a run on it where one is given. Starts nothing.

    source, overrides and settings: as for `launch`; with none of them the machine alone. A
    few jobs of the run are trained, for a third of a second, to say how long it will take.
    """
    settings = {**overrides_tree(overrides), **settings}
    if source is None and not settings:
        return Checkup(tuple(machine_findings(0, None)), None)
    loaded = load(source, settings)
    plan, federation = build_plan(loaded.config, loaded.base_dir)
    found, needs = run_findings(plan, federation, Path(loaded.config.output.dir))
    return Checkup(tuple(found), needs)
