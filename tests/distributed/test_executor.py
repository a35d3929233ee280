"""The executor over actors that live in this process, so that a test decides when they die."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from ray.exceptions import OutOfMemoryError, RayActorError, RayError

from fedray.config import schema
from fedray.distributed import arena
from fedray.distributed import executor as executor_module
from fedray.distributed import kept as kept_module
from fedray.distributed import troupe as troupe_module
from fedray.distributed.actors import Client
from fedray.distributed.executor import RayExecutor
from fedray.distributed.troupe import Troupe
from fedray.learning.work import Work
from fedray.simulation.events import Job
from fedray.simulation.executor import LocalExecutor
from fedray.types import Federation

CLIENTS = 4


class Actor:
    """Does what it is asked at once, unless it is dead: then the answer is its death."""

    def __init__(self, client: Client) -> None:
        self.client, self.dead, self.death = client, False, RayActorError
        self.attach = SimpleNamespace(remote=lambda handle: (client.attach(handle),))
        self.perform = SimpleNamespace(
            remote=lambda items: (self.death() if self.dead else client.perform(items),)
        )


def _get(refs: Any, *, timeout: float | None = None) -> Any:
    found = [ref[0] for ref in (refs if isinstance(refs, list) else [refs])]
    for answer in found:
        if isinstance(answer, RayError):
            raise answer
    return found if isinstance(refs, list) else found[0]


class Ref(tuple):
    """A reference is a 1-tuple of its answer, known by its identity."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


@pytest.fixture
def stage(toy, monkeypatch):
    """(executor, its local equal, actors, arena) for `CLIENTS` quadratics on two actors."""
    return _staged(toy, monkeypatch)


def _staged(toy, monkeypatch, *, keeps: bool = False):
    fake = SimpleNamespace(
        get=_get, wait=lambda refs, **_: (refs, []), kill=lambda _: None, put=lambda value: value
    )
    monkeypatch.setattr(troupe_module, "ray", fake)
    monkeypatch.setattr(executor_module, "ray", fake)
    monkeypatch.setattr(kept_module, "ray", fake)
    made = toy(
        [1.0, 2.0, 3.0, 4.0], [1.0, 5.0, 9.0, 13.0],
        client=schema.Client(steps=2, lr=0.1), server=schema.Server(),
    )  # fmt: skip
    work, data = made.plan.work, made.federation

    def create(_: int) -> Actor:
        actor = Actor(Client(work, data))
        plain = actor.perform.remote
        actor.perform.remote = lambda items: Ref(plain(items))
        return actor

    room = arena.make(12, 1, np.dtype(np.float64))
    actors = [create(0), create(1)]
    troupe = Troupe(create, actors, restarts=5, timeout_s=5.0, arena=room)
    found = RayExecutor(
        troupe, work=work, sizes=made.plan.sizes, teams=np.arange(2), test_samples=CLIENTS,
        evaluators=1, arena=room, keeps=keeps,
    )  # fmt: skip
    return found, LocalExecutor(work, data), actors, room


def job(client: int, dispatch: int, version: int = 0) -> Job:
    return Job(client, dispatch, version, 0.0, 1.0)


def test_a_call_asked_again_does_not_write_where_others_have_written_since(stage) -> None:
    executor, local, actors, _ = stage
    executor.versions = local.versions = {0: np.zeros(1)}
    kept, late, other = job(0, 0), job(2, 1), job(1, 2)
    actors[0].dead = True
    executor.submit([kept, late])  # both to actor 0, in one call
    executor.flush()
    executor.cancel(late)
    executor.submit([other])  # to actor 1
    executor.flush()
    found, expected = executor.join([other, kept]), local.join([other, kept])
    assert found.deltas.tolist() == expected.deltas.tolist()


def test_an_actor_that_ray_ends_for_want_of_memory_is_replaced(stage) -> None:
    executor, local, actors, _ = stage
    executor.versions = local.versions = {0: np.zeros(1)}
    actors[0].dead, actors[0].death = True, lambda: OutOfMemoryError("the node is low on memory")
    jobs = [job(0, 0), job(1, 1)]
    executor.submit(jobs)
    assert executor.join(jobs).deltas.tolist() == local.join(jobs).deltas.tolist()
    assert executor._troupe.lost == 1


def test_who_makes_lost_updates_again_keeps_no_others(toy, monkeypatch) -> None:
    executor, local, actors, _ = _staged(toy, monkeypatch, keeps=True)
    executor.versions = local.versions = {0: np.zeros(1)}
    jobs = [job(0, 0), job(2, 1), job(1, 2), job(2, 3)]  # clients 0 and 2 are of actor 0
    executor.submit(jobs)
    executor.join(jobs[:1])
    found = executor.join(jobs[1:3]).deltas
    actors[0].dead = True  # between the join and the sums
    expected = local.join(jobs[1:3]).deltas
    assert np.asarray(found).tolist() == expected.tolist()
    assert found.dots(np.ones(1)).tolist() == expected[:, 0].tolist()
    assert found.total(np.array([1.0, 2.0])).tolist() == [expected[0, 0] + 2 * expected[1, 0]]
    assert sorted(executor._troupe._actors[0].client._kept) == [1]
    last = executor.join(jobs[3:]).deltas  # answered by the one that is gone
    assert np.asarray(last).tolist() == local.join(jobs[3:]).deltas.tolist()


def test_calls_that_nobody_waits_for_any_more_hold_nothing(stage) -> None:
    executor, _, _, room = stage
    for version in range(30):
        executor.versions = {version: np.full(1, float(version))}
        used, late = job(0, 2 * version, version), job(1, 2 * version + 1, version)
        executor.submit([used, late])
        executor.flush()
        executor.cancel(late)
        executor.join([used])
    executor.versions = {}
    executor.flush()
    free = 0
    while room.take(1) is not None:
        free += 1
    assert free == 12 - 1  # but for the row that the last join handed out


class Share(NamedTuple):
    """Asks for the labels of a client, and says who answers."""

    client: int
    answered: list[int]
    examples: int = 10

    def __call__(self, work: Work, federation: Federation) -> list[float]:
        self.answered.append(self.client)
        return federation.shards.load(self.client)[1].tolist()


def test_questions_are_answered_in_order_by_whoever_has_the_least_to_do(stage) -> None:
    executor, local, actors, _ = stage
    answered: list[int] = []
    actors[1].dead = True  # half of the questions are asked again of the actor that replaces it
    for each in (executor, local):
        each.ask("labels", [Share(client, answered) for client in (2, 0, 3, 1)])
        each.ask(("others", 7), [Share(1, answered)])
    executor.flush()
    first = list(answered)
    assert 1 < len(first) < 5
    for key in ("labels", ("others", 7)):
        assert executor.answers(key) == local.answers(key)
    assert sorted(answered) == sorted([0, 0, 1, 1, 1, 1, 2, 2, 3, 3])
    assert not executor._troupe._open


def test_answers_that_nobody_has_sent_for_are_sent_for(stage) -> None:
    executor, _, _, _ = stage
    executor.ask(1, [Share(0, []), Share(2, [])])
    assert executor.answers(1) == [[1.0], [9.0]]
    executor.ask(2, [])
    assert executor.answers(2) == []
