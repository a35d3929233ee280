"""Time travel: a run again from one of its versions on, with settings changed. An exact what-if."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from fedray.api.folder import new_folder
from fedray.api.launch import Interrupted, Watcher, carry_out
from fedray.config import schema
from fedray.config.layers import get, leaves, overrides_tree
from fedray.config.load import as_tree, load
from fedray.endings import terminable
from fedray.errors import FedrayError, InputError
from fedray.report.run import Run
from fedray.report.tables import first_rows, write_table, write_text
from fedray.simulation import checkpoint
from fedray.simulation.accounting import Guarantee, guarantee
from fedray.simulation.executor import LocalExecutor
from fedray.simulation.flight import Flight
from fedray.simulation.memories import memories_of
from fedray.simulation.outcome import FORK
from fedray.simulation.plan import Plan, build_plan, plan_for
from fedray.types import Federation

_ALL_OF_IT = "every number of the run follows from it; another one is a run of its own"
_KEPT = "it is kept from version 0 on, and cannot begin or end midway"
FIXED: Mapping[str, str] = {
    "data": _ALL_OF_IT,
    "partition": _ALL_OF_IT,
    "model": _ALL_OF_IT,
    "seed": _ALL_OF_IT,
    "algorithm": "it is a name for parts; change the parts themselves",
    "method": _KEPT,
    "personal": _KEPT,
    "diagnosis": _KEPT,
    "clock": "arrivals by the wall clock do not come again, virtual ones do",
    "server.quality.validation_fraction": "validation samples are taken out of the test set",
    "server.schedule.mode": "work that is under way was given out by the rules of the other mode",
}
"""Keys, and all below them, that a fork has in common with its run, and why."""


def fork(
    run: Run | str | Path,
    at: int,
    overrides: Sequence[str] = (),
    *,
    out: str | Path | None = None,
    watcher: Watcher | None = None,
    verbose: bool = False,
    **settings: Any,
) -> Run:
    """A run again, from its version `at` on, with settings changed: an exact what-if.

    Up to `at` the new run folder has the rows of the old one. From there on everything is
    computed under the new settings, also the work that was under way; when that arrives was
    settled when it was given out. Without settings the fork ends in the bits of the run.
    Where `at` has no checkpoint, the versions since the newest one before are computed anew.

    run: a run folder, finished or not. overrides, settings: as for `launch`, but for those in
    `FIXED`. out: the new folder; default <output.dir>/<name>-fork-<timestamp>. Raises
    InputError and FedrayError, one line, and Interrupted, like `launch`.
    """
    watcher = watcher or Watcher()
    source = run if isinstance(run, Run) else Run(run)
    source.fetch("checkpoints")
    old = load(source.path / "config.yaml").config
    loaded = load(source.path / "config.yaml", {**overrides_tree(overrides), **settings})
    for note in loaded.notes:
        watcher.note(note)
    changed = _changed(old, loaded.config)
    _check(source, old, loaded.config, at, changed)
    before, federation = build_plan(_without_end(old, at), loaded.base_dir)
    plan = plan_for(federation, loaded.config, loaded.base_dir)
    _check_privacy(guarantee(old, before.population.clients, before.cohort), plan.privacy, changed)
    target = new_folder(loaded.config, out, kind="-fork")
    try:
        with terminable():
            # A checkpoint of the run's last version does not know how it would have gone on.
            snapshot = _at(
                source.path, before, federation, target.path, at, watcher,
                known=min(at, old.server.rounds - 1),
            )  # fmt: skip
            snapshot = _as_changed(snapshot, old, loaded.config, watcher)
            snapshot = _as_remembered(snapshot, before, plan, target.path, watcher)
            checkpoint.save(target.path / "checkpoints", snapshot, keep=1)
            facts = {"run": source.place, "version": at, "changed": changed}
            write_text(target.path / FORK, json.dumps(facts, indent=2) + "\n")
    except KeyboardInterrupt as end:
        target.withdraw()
        raise Interrupted(source.place, by=end, begun=False) from None
    except FedrayError:
        target.withdraw()
        raise
    return carry_out(target, plan, federation, snapshot, watcher, verbose)


def _changed(old: schema.Config, new: schema.Config) -> dict[str, list[Any]]:
    """The old and the new value of every key that differs."""
    trees = as_tree(old), as_tree(new)
    names = dict.fromkeys(key for tree in trees for key in leaves(tree))
    pairs = {key: [get(tree, key) for tree in trees] for key in names}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _check(
    source: Run, old: schema.Config, new: schema.Config, at: int, changed: Mapping[str, Any]
) -> None:
    for key in changed:
        for fixed, why in FIXED.items():
            if key == fixed or key.startswith(f"{fixed}."):
                raise InputError(f"a fork cannot change it: {why}", key=key)
    if old.server.quality.active != new.server.quality.active:
        why = FIXED["server.quality.validation_fraction"]
        raise InputError(f"a fork cannot change it: {why}", key="server.quality.kind")
    if old.clock == "wall":
        raise InputError(f"{source.path} was made by the wall clock: {FIXED['clock']}")
    rounds = source.rounds
    last = max(rounds["version"].to_pylist(), default=0)
    if not 1 <= at <= last:
        raise InputError(f"{at} is not a version of {source.path}; it has 1 to {last}", key="--at")
    if at == last and source.summary.get("stopped_by") in ("virtual_time_s", "no_clients"):
        raise InputError(
            f"{at} was made of what had arrived when the run ended; choose an earlier version",
            key="--at",
        )
    if new.server.rounds <= at:
        raise InputError(
            f"{new.server.rounds} versions, and the fork begins with {at}; nothing would follow",
            key="server.rounds",
        )
    limit_s = new.stop.virtual_time_s
    reached_s = rounds["virtual_time_s"].to_pylist()[rounds["version"].to_pylist().index(at)]
    if limit_s is not None and limit_s <= reached_s:
        raise InputError(
            f"{limit_s:g} s, and version {at} was made at {reached_s:g} s",
            key="stop.virtual_time_s",
        )


_ACCOUNTED = ("privacy", "secure_aggregation", "server.selection", "server.clients_per_round",
              "server.schedule", "server.rounds")  # fmt: skip


def _check_privacy(
    was: Guarantee | None, now: Guarantee | None, changed: Mapping[str, Any]
) -> None:
    """Raises InputError where the fork's epsilon would be of noise that its beginning had not."""
    if now is None or (was is not None and replace(was, rounds=0) == replace(now, rounds=0)):
        return
    key = next((k for prefix in _ACCOUNTED for k in changed if k.startswith(prefix)), "privacy")
    raise InputError(
        "a fork cannot change it: epsilon is of all versions, and those before the fork have "
        "their noise and sampling (privacy.kind none claims nothing)",
        key=key,
    )


def _without_end(config: schema.Config, at: int) -> schema.Config:
    """The run as it was, but that it goes on beyond `at`."""
    rounds = max(config.server.rounds, at + 1)
    return replace(config, server=replace(config.server, rounds=rounds), stop=schema.Stop())


def _at(
    source: Path,
    plan: Plan,
    federation: Federation,
    folder: Path,
    at: int,
    watcher: Watcher,
    *,
    known: int,
) -> checkpoint.Snapshot:
    """The run at version `at`; its tables up to there and what clients remember in `folder`.

    `known` is the last version whose checkpoint may be gone on from.
    """
    snapshot, complaints = checkpoint.load_newest(source / "checkpoints", up_to=known)
    for complaint in complaints:
        watcher.note(complaint)
    if snapshot is not None and snapshot.version == at:
        _copy(source, folder, snapshot)
        return snapshot
    begun = snapshot.version if snapshot else 0
    which = f"from the checkpoint of version {begun}" if begun else "from the start"
    watcher.note(f"no checkpoint of version {at}: computing up to it again, {which}")
    again = folder / "again"
    again.mkdir()
    if snapshot is not None:
        _copy(source, again, snapshot)
    _fly_to(at, plan, federation, again, snapshot)
    made, _ = checkpoint.load_newest(again / "checkpoints", up_to=at)
    assert made is not None
    _copy(again, folder, made)
    shutil.rmtree(again)
    return made


def _fly_to(
    at: int,
    plan: Plan,
    federation: Federation,
    folder: Path,
    snapshot: checkpoint.Snapshot | None,
) -> None:
    """Flies in this process until version `at`, and leaves a checkpoint of it."""
    with threadpool_limits(limits=1):
        executor = LocalExecutor(plan.work, federation)
        flight = Flight(plan, federation, executor, folder, snapshot=snapshot)
        flight.pause_at({at})
        with closing(flight.run({})) as versions:
            for progress in versions:
                if progress.version == at:
                    flight.save()
                    break


def _copy(source: Path, folder: Path, snapshot: checkpoint.Snapshot) -> None:
    """The tables' rows up to a snapshot, and the files that belong to it."""
    for name, rows in snapshot.meta["rows"].items():
        path = source / f"{name}.parquet"
        if rows:
            write_table(first_rows(path, rows), folder / path.name)
    (folder / "checkpoints").mkdir(exist_ok=True)
    for segments in snapshot.meta.get("segments", {}).values():
        for name, _ in segments:
            shutil.copyfile(source / "checkpoints" / name, folder / "checkpoints" / name)


def _as_changed(
    snapshot: checkpoint.Snapshot, old: schema.Config, new: schema.Config, watcher: Watcher
) -> checkpoint.Snapshot:
    """The snapshot as the new settings take it: what other parts remember is forgotten."""
    stopper = {**snapshot.meta["stopper"], "reason": None}
    snapshot = snapshot._replace(meta={**snapshot.meta, "stopper": stopper})
    if snapshot.optimizer and type(old.server.optimizer) is not type(new.server.optimizer):
        watcher.note("server.optimizer: another kind, which begins without a memory")
        snapshot = snapshot._replace(optimizer={})
    if type(old.server.aggregator) is not type(new.server.aggregator):
        rule = {k: v for k, v in snapshot.rule.items() if not k.startswith("aggregator.")}
        snapshot = snapshot._replace(rule=rule)
    return snapshot


def _as_remembered(
    snapshot: checkpoint.Snapshot, before: Plan, plan: Plan, folder: Path, watcher: Watcher
) -> checkpoint.Snapshot:
    """With updates in another code, clients forget what the old one left out, and nothing else.

    What a method and clients' own models remember comes first among a client's vectors.
    """
    segments = dict(snapshot.meta.get("segments", {}))
    if "clients" not in segments or _codes(before) == _codes(plan):
        return snapshot
    watcher.note("compression.up: another code, which begins without a memory")
    checkpoints = folder / "checkpoints"
    old, new = (memories_of(each, checkpoints).get("clients") for each in (before, plan))
    assert old is not None
    old.restore(checkpoints, segments.pop("clients"))
    if new is not None:
        kept = plan.work.method.state_vectors + plan.work.personal.state_vectors
        for client in old.clients:
            vectors, before_it = np.zeros(new.shape, plan.work.model.dtype), old.get(client)
            assert before_it is not None
            vectors[:kept] = before_it[:kept]
            new.remember(client, vectors, old.dispatch(client))
        segments["clients"] = new.save(checkpoints, snapshot.version)
    return snapshot._replace(meta={**snapshot.meta, "segments": segments})


def _codes(plan: Plan) -> list[tuple[type, int]]:
    """What clients remember for the code that their updates travel in."""
    return [(type(each), each.memory_vectors) for each in plan.work.transforms
            if each.memory_vectors]  # fmt: skip
