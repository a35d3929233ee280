"""Conformance: every method, held to what all of them promise."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import fedray
from fedray.api.launch import Interrupted, Watcher
from fedray.config import schema
from fedray.parts.arrivals import Arrivals, Combined, Memory, ServerView
from fedray.parts.methods import METHODS
from fedray.parts.methods.base import Method
from fedray.report.run import Run
from fedray.simulation.memories import Memories

MODES = {
    "sync": {"mode": "sync"},
    "deadline": {
        "mode": "sync", "deadline_s": 1.5, "late": "carry",
        "staleness_weight": {"kind": "polynomial"},
    },
    "buffered": {"mode": "buffered", "concurrency": 4, "buffer_size": 3},
    "async": {"mode": "async", "concurrency": 4},
}  # fmt: skip
UNWEIGHTED = {"area"}
"""Methods that take no staleness weights."""
NAMED = [kind for kind in METHODS if kind.ALGORITHM is not None]
SIZE, CLIENTS, COUNT = 5, 9, 7


def arrivals(kind: type[Method], dtype: type = np.float64, seed: int = 0) -> Arrivals:
    rng = np.random.default_rng(seed)
    updates = rng.normal(size=(COUNT, SIZE)).astype(dtype)
    vectors = rng.normal(size=(kind.uploads, COUNT, SIZE)).astype(dtype)
    shares = np.full(COUNT, 1 / COUNT)
    return Arrivals(
        updates=updates, weights=shares * rng.uniform(0.5, 1.0, COUNT),
        clients=rng.permutation(CLIENTS)[:COUNT], staleness=rng.integers(0, 3, COUNT),
        examples=rng.integers(1, 9, COUNT), steps=rng.integers(1, 6, COUNT),
        lr=rng.uniform(0.1, 0.2, COUNT), losses=rng.uniform(0.1, 2.0, COUNT),
        uploads=tuple(vectors), shares=shares, version=1, seed=seed,
        norms=np.linalg.norm(updates, axis=1).astype(np.float64), walks=updates,
        labels=np.zeros(COUNT, np.int64),
    )  # fmt: skip


def reordered(group: Arrivals, order: np.ndarray) -> Arrivals:
    """The same updates, arriving in another order."""
    fields = {k: v[order] for k, v in group._asdict().items() if isinstance(v, np.ndarray)}
    return group._replace(**fields, uploads=tuple(v[order] for v in group.uploads))


def view(kind: type[Method], folder, dtype: type = np.float64, *, linear: bool = True):
    """A server of CLIENTS clients whose aggregator is the weighted mean."""

    def average(group: Arrivals) -> Combined:
        if linear:
            return Combined(group.weights.astype(dtype) @ group.updates, group.weights)
        return Combined(np.median(group.updates, axis=0), group.weights)

    table = Memories("table", 1, SIZE, np.dtype(dtype), folder) if kind.table else None
    return ServerView(
        w=np.linspace(-1, 1, SIZE).astype(dtype), clients=CLIENTS, p=np.full(CLIENTS, 1 / CLIENTS),
        average=average, table=table, linear=linear, cohort_gradient=np.ones(SIZE, dtype),
        frequency=np.linspace(0.3, 1.0, CLIENTS),
    )  # fmt: skip


def three(kind: type[Method], server: ServerView, orders=(None,) * 3) -> tuple[Combined, Memory]:
    """Three versions in a row; the last one's result."""
    method, memory = kind(), {}
    for seed, order in enumerate(orders):
        group = arrivals(kind, server.w.dtype.type, seed)
        found = method.combine(group if order is None else reordered(group, order), server, memory)
        memory = found.memory
    return found, memory


@pytest.mark.parametrize("kind", METHODS)
class TestCombine:
    @pytest.mark.parametrize("linear", [True, False])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_keeps_shape_and_precision(self, kind, tmp_path, dtype, linear):
        server = view(kind, tmp_path, dtype, linear=linear)
        found, memory = three(kind, server)
        assert found.update.dtype == dtype
        assert found.update.shape == (SIZE,)
        assert found.weights.shape == (COUNT,)
        assert np.isfinite(found.update).all()
        assert np.isfinite(found.weights).all()
        for vector in (*kind().broadcast(server.w, memory), kind().readout(server.w, memory)):
            assert vector.dtype == dtype
            assert vector.shape == (SIZE,)
        assert len(kind().broadcast(server.w, {})) + kind.cohort_gradient == kind.broadcasts

    def test_writes_to_nothing_that_it_is_given(self, kind, tmp_path):
        server, group = view(kind, tmp_path), arrivals(kind)
        memory = kind().combine(group, server, {}).memory
        kept = [np.copy(v) for v in (*group[:8], *group.uploads, *memory.values(), server.w)]
        kind().combine(group, server, memory)
        now = (*group[:8], *group.uploads, *memory.values(), server.w)
        assert all(np.array_equal(a, b) for a, b in zip(now, kept, strict=True))

    def test_does_the_same_again(self, kind, tmp_path):
        one, first = three(kind, view(kind, tmp_path))
        other, second = three(kind, view(kind, tmp_path))
        assert np.array_equal(one.update, other.update)
        assert all(np.array_equal(first[name], second[name]) for name in first)

    def test_does_not_depend_on_the_order_of_arrival(self, kind, tmp_path):
        orders = [np.random.default_rng(i).permutation(COUNT) for i in range(3)]
        one, first = three(kind, view(kind, tmp_path))
        other, second = three(kind, view(kind, tmp_path), orders)
        np.testing.assert_allclose(one.update, other.update, rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(one.weights[orders[-1]], other.weights, rtol=1e-10)
        for name in first:
            np.testing.assert_allclose(first[name], second[name], rtol=1e-10, atol=1e-13)


def asked(kind: type[Method], mode: str = "sync", rounds: int = 3, **runtime: object) -> dict:
    """A small run on digits, with what the method's preset asks for."""
    assert kind.ALGORITHM is not None
    everyone = kind.ALGORITHM.values["server"].get("clients_per_round") == "all"
    some = MODES[mode]["mode"] == "sync" and not everyone
    cohort = {"clients_per_round": 3} if some else {}
    schedule = dict(MODES[mode])
    if kind.ALGORITHM.name in UNWEIGHTED:
        schedule.pop("staleness_weight", None)
    return {
        "algorithm": kind.ALGORITHM.name,
        "seed": 1,
        "partition": {"clients": 6, "alpha": 0.3},
        "server": {"rounds": rounds, "schedule": schedule, **cohort},
        "devices": {"duration": {"kind": "uniform", "low": 0.5, "high": 2.0}},
        "checkpoint": {"every": 2},
        "output": {"report": False},
        "runtime": runtime or {"executor": "local"},
    }


ALLOWED = [
    pytest.param(kind, mode, id=f"{kind.ALGORITHM.name}-{mode}")
    for kind in NAMED for mode in MODES
    if MODES[mode]["mode"] not in kind.ALGORITHM.refuses
]  # fmt: skip


@pytest.mark.parametrize(("kind", "mode"), ALLOWED)
def test_learns_something_in_every_mode_that_it_does_not_refuse(kind, mode, tmp_path):
    unsaved = {**asked(kind, mode, 4), "checkpoint": {"every": 0}}
    run = fedray.launch(unsaved, out=tmp_path / "run")
    assert all(np.isfinite(value).all() for value in run.model.values())
    loss = run.rounds["loss"].to_numpy()
    assert loss[-1] < loss[0]


@pytest.mark.parametrize("kind", NAMED)
def test_says_what_it_is(kind):
    card = kind.ALGORITHM
    assert all((card.title, card.paper, card.rule, card.proof, card.differs))
    assert card.values["method"]["kind"] == kind().kind
    assert all(reason for reason in card.refuses.values())
    for mode in card.refuses:
        with pytest.raises(fedray.InputError, match="does not go with method"):
            fedray.launch(asked(kind, mode), out="never")


class _Interrupts(Watcher):
    def progress(self, progress) -> None:
        if progress.version == 4:
            raise KeyboardInterrupt


def same(left: Run, right: Run) -> None:
    for name, values in left.model.items():
        assert np.array_equal(values, right.model[name]), name
    for column in ("loss", "accuracy", "update_norm", "bytes_up", "bytes_down"):
        assert left.rounds[column].to_pandas().equals(right.rounds[column].to_pandas()), column


@pytest.mark.parametrize("kind", NAMED)
def test_goes_on_from_a_checkpoint_with_the_same_bits(kind, tmp_path):
    calm = fedray.launch(asked(kind, rounds=7), out=tmp_path / "calm")
    with pytest.raises((Interrupted, KeyboardInterrupt)):
        fedray.launch(asked(kind, rounds=7), out=tmp_path / "run", watcher=_Interrupts())
    same(fedray.launch(resume=tmp_path / "run"), calm)


@pytest.fixture(scope="module")
def shared_ray() -> Iterator[None]:
    from fedray.distributed.session import session

    with session(schema.Runtime(cpus=2)):
        yield


def by_what_travels() -> Iterator[object]:
    """All methods; slow are those for which actors do nothing that they do not do for another."""
    known = set()
    for kind in NAMED:
        travels = (
            kind.uploads, kind.state_vectors, kind.broadcasts, kind.cohort_gradient,
            kind.needs_losses,
        )  # fmt: skip
        yield pytest.param(kind, marks=[pytest.mark.slow] if travels in known else [])
        known.add(travels)


@pytest.mark.ray
@pytest.mark.parametrize("kind", list(by_what_travels()))
def test_the_same_bits_on_ray(kind, shared_ray, tmp_path):
    """In the mode that is hardest on the method: arrivals that are late are carried over. Where
    a cohort's gradient is added up, by two actors."""
    each = 3 if kind.cohort_gradient else 6
    ray = fedray.launch(asked(kind, "deadline", clients_per_actor=each), out=tmp_path / "ray")
    same(ray, fedray.launch(asked(kind, "deadline"), out=tmp_path / "local"))
