"""The server's state machine: hand-written events, exact commands, no arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from fedray.config import schema
from fedray.simulation.availability import Always, Cycle, Trace
from fedray.simulation.events import (
    Aggregate,
    Arrived,
    ClientsCameOn,
    DeadlinePassed,
    Discard,
    Dispatch,
    Job,
    Started,
    TimeIsUp,
    WakeAt,
)
from fedray.simulation.fleet import Fleet
from fedray.simulation.policies import BufferedPolicy, PeriodicPolicy, SyncPolicy
from fedray.simulation.population import Payload, Population
from fedray.simulation.timeline import Timeline

DOWN, UP = 100, 10


def fleet(durations, *, availability=None, dropout=0.0, selection="round_robin", seed=0):
    none = np.zeros(len(durations))
    population = Population(
        none, np.array(durations, float), none, schema.Constant(value=1.0), dropout,
        availability or Always(), Payload(DOWN, UP),
    )  # fmt: skip
    sizes = np.arange(1.0, len(durations) + 1)
    return Fleet(population, seed=seed, selection=selection, sizes=sizes)


def job(client, dispatch, base, sent, due, lost=False):
    return Job(client, dispatch, base, sent, due, lost)


def test_buffered_replaces_arrivals_and_starts_the_last_one_from_the_new_version():
    policy = BufferedPolicy(
        schema.BufferedSchedule(concurrency=2, buffer_size=2), fleet([1.0, 1.5, 1.0])
    )
    first, second = job(0, 0, 0, 0.0, 1.0), job(1, 1, 0, 0.0, 1.5)
    assert policy.step(0.0, Started()) == [Dispatch([first, second])]
    third = job(2, 2, 0, 1.0, 2.0)
    assert policy.step(1.0, Arrived(first)) == [Dispatch([third])]
    after = job(0, 3, 1, 1.5, 2.5)
    assert policy.step(1.5, Arrived(second)) == [
        Aggregate(1, 1.5, [first, second], 3 * DOWN, 2 * UP),
        Dispatch([after]),
    ]


def test_buffered_drops_what_is_staler_than_the_bound():
    schedule = schema.BufferedSchedule(
        concurrency=2, buffer_size=1, max_staleness=1, on_stale="drop"
    )
    policy = BufferedPolicy(schedule, fleet([1.0, 9.0]))
    policy.step(0.0, Started())
    slow = policy.fleet.in_flight[1]
    for at in (1.0, 2.0):
        policy.step(at, Arrived(policy.fleet.in_flight[0]))
    assert policy.version == 2
    commands = policy.step(9.0, Arrived(slow))
    assert commands[0] == Discard(slow, "stale", 9.0, 2)
    assert commands[1] == Dispatch([job(1, 4, 2, 9.0, 18.0)])
    assert policy.version == 2


def test_keep_applies_any_staleness():
    schedule = schema.BufferedSchedule(
        concurrency=2, buffer_size=1, max_staleness=1, on_stale="keep"
    )
    policy = BufferedPolicy(schedule, fleet([1.0, 9.0]))
    policy.step(0.0, Started())
    slow = policy.fleet.in_flight[1]
    for at in (1.0, 2.0):
        policy.step(at, Arrived(policy.fleet.in_flight[0]))
    assert policy.step(9.0, Arrived(slow))[0].jobs == [slow]


def test_wait_holds_versions_back_until_the_oldest_work_is_in():
    schedule = schema.BufferedSchedule(
        concurrency=2, buffer_size=1, max_staleness=0, on_stale="wait"
    )
    policy = BufferedPolicy(schedule, fleet([1.0, 9.0, 1.0]))
    policy.step(0.0, Started())
    quick, slow = policy.fleet.in_flight[0], policy.fleet.in_flight[1]
    assert policy.step(1.0, Arrived(quick)) == []  # not replaced either: it would go stale
    commands = policy.step(9.0, Arrived(slow))
    assert commands[0] == Aggregate(1, 9.0, [quick, slow], 2 * DOWN, 2 * UP)
    assert [j.base_version for j in commands[1].jobs] == [1, 1]


def test_a_lost_job_is_discarded_and_replaced():
    policy = BufferedPolicy(schema.BufferedSchedule(concurrency=1, buffer_size=1), fleet([1.0]))
    policy.step(0.0, Started())
    lost = policy.fleet.in_flight[0]._replace(lost=True)
    assert policy.step(1.0, Arrived(lost)) == [
        Discard(lost, "dropped_out", 1.0, 0),
        Dispatch([job(0, 1, 0, 1.0, 2.0)]),
    ]


EVERY = schema.BufferedSchedule(concurrency=2, every_s=2.0)


def test_by_the_clock_who_has_arrived_waits_for_the_version_and_starts_from_it():
    policy = PeriodicPolicy(EVERY, fleet([1.5, 3.5]))
    quick, slow = job(0, 0, 0, 0.0, 1.5), job(1, 1, 0, 0.0, 3.5)
    assert policy.step(0.0, Started()) == [
        Dispatch([quick, slow]), WakeAt(2.0, DeadlinePassed(0)),
    ]  # fmt: skip
    assert policy.step(1.5, Arrived(quick)) == []
    after = job(0, 2, 1, 2.0, 3.5)
    assert policy.step(2.0, DeadlinePassed(0)) == [
        Aggregate(1, 2.0, [quick], 2 * DOWN, UP), Dispatch([after]),
        WakeAt(4.0, DeadlinePassed(1)),
    ]  # fmt: skip
    assert policy.step(3.5, Arrived(after)) == []
    assert policy.step(3.5, Arrived(slow)) == []
    commands = policy.step(4.0, DeadlinePassed(1))
    assert commands[0] == Aggregate(2, 4.0, [after, slow], DOWN, 2 * UP)
    assert [j.base_version for j in commands[1].jobs] == [2, 2]


def test_by_the_clock_a_period_without_arrivals_makes_a_version_too():
    policy = PeriodicPolicy(EVERY, fleet([9.0, 9.0]))
    policy.step(0.0, Started())
    assert policy.step(2.0, DeadlinePassed(0)) == [
        Aggregate(1, 2.0, [], 2 * DOWN, 0), WakeAt(4.0, DeadlinePassed(1)),
    ]  # fmt: skip


def test_by_the_clock_waiting_clients_keep_their_places():
    """Somebody who comes on meanwhile is not started in the place of who has arrived."""
    policy = PeriodicPolicy(EVERY, fleet([1.0, 5.0, 1.0]))
    policy.step(0.0, Started())
    policy.step(1.0, Arrived(policy.fleet.in_flight[0]))
    assert policy.step(1.2, ClientsCameOn()) == []
    lost = policy.fleet.in_flight[1]._replace(lost=True)
    assert policy.step(1.5, Arrived(lost)) == [Discard(lost, "dropped_out", 1.5, 0)]
    started = policy.step(1.6, ClientsCameOn())[0].jobs
    assert [(j.client, j.base_version) for j in started] == [(2, 0)]


def test_by_the_clock_no_period_begins_while_nobody_trains():
    off = Trace({0: [5.0]}, {0: [99.0]})
    policy = PeriodicPolicy(
        schema.BufferedSchedule(concurrency=1, every_s=2.0), fleet([1.0], availability=off)
    )
    assert policy.step(0.0, Started()) == [WakeAt(5.0, ClientsCameOn())]
    assert policy.step(5.0, ClientsCameOn()) == [
        Dispatch([job(0, 0, 0, 5.0, 6.0)]), WakeAt(7.0, DeadlinePassed(0)),
    ]  # fmt: skip


def test_by_the_clock_time_up_flushes_what_has_arrived():
    policy = PeriodicPolicy(EVERY, fleet([1.0, 9.0]))
    policy.step(0.0, Started())
    first = policy.fleet.in_flight[0]
    policy.step(1.0, Arrived(first))
    assert policy.step(1.8, TimeIsUp()) == [Aggregate(1, 1.8, [first], 2 * DOWN, UP)]


def test_time_up_flushes_the_partial_buffer():
    policy = BufferedPolicy(
        schema.BufferedSchedule(concurrency=2, buffer_size=2), fleet([1.0, 5.0])
    )
    policy.step(0.0, Started())
    first = policy.fleet.in_flight[0]
    policy.step(1.0, Arrived(first))
    assert policy.step(1.0, TimeIsUp()) == [Aggregate(1, 1.0, [first], 3 * DOWN, UP)]
    assert policy.step(1.0, TimeIsUp()) == []


def test_sync_waits_for_the_whole_cohort():
    policy = SyncPolicy(schema.SyncSchedule(), fleet([1.0, 2.0, 3.0]), cohort=2)
    first, second = job(0, 0, 0, 0.0, 1.0), job(1, 1, 0, 0.0, 2.0)
    assert policy.step(0.0, Started()) == [Dispatch([first, second])]
    assert policy.step(1.0, Arrived(first)) == []
    assert policy.step(2.0, Arrived(second)) == [
        Aggregate(1, 2.0, [first, second], 2 * DOWN, 2 * UP),
        Dispatch([job(2, 2, 1, 2.0, 5.0), job(0, 3, 1, 2.0, 3.0)]),
    ]


def test_over_selection_keeps_the_first_arrivals():
    policy = SyncPolicy(schema.SyncSchedule(over_select=1.5), fleet([1.0, 2.0, 3.0]), cohort=2)
    policy.step(0.0, Started())
    first, second, surplus = (policy.fleet.in_flight[c] for c in range(3))
    policy.step(1.0, Arrived(first))
    commands = policy.step(2.0, Arrived(second))
    assert commands[:2] == [
        Discard(surplus, "late", 2.0, 0),
        Aggregate(1, 2.0, [first, second], 3 * DOWN, 2 * UP),
    ]
    assert len(commands[2].jobs) == 3  # the one called off is free again


def test_deadline_drops_late_updates():
    policy = SyncPolicy(schema.SyncSchedule(deadline_s=1.5), fleet([1.0, 2.0]), cohort=2)
    dispatch, wake = policy.step(0.0, Started())
    assert wake == WakeAt(1.5, DeadlinePassed(0))
    first, late = dispatch.jobs
    policy.step(1.0, Arrived(first))
    commands = policy.step(1.5, DeadlinePassed(0))
    assert commands[:2] == [
        Discard(late, "late", 1.5, 0),
        Aggregate(1, 1.5, [first], 2 * DOWN, UP),
    ]


def test_deadline_carries_late_updates_into_the_next_version():
    schedule = schema.SyncSchedule(deadline_s=1.5, late="carry")
    policy = SyncPolicy(schedule, fleet([1.0, 2.0, 1.0]), cohort=2)
    first, late = policy.step(0.0, Started())[0].jobs
    policy.step(1.0, Arrived(first))
    aggregate, dispatch, _ = policy.step(1.5, DeadlinePassed(0))
    assert aggregate.jobs == [first]
    assert [j.client for j in dispatch.jobs] == [2, 0]  # client 1 is still at it
    policy.step(2.0, Arrived(late))
    again = dispatch.jobs
    policy.step(2.5, Arrived(again[0]))
    aggregate = policy.step(2.5, Arrived(again[1]))[0]
    assert aggregate.jobs == [late, *again]
    assert [aggregate.version - 1 - j.base_version for j in aggregate.jobs] == [1, 0, 0]


def test_a_deadline_of_a_closed_round_does_nothing():
    policy = SyncPolicy(schema.SyncSchedule(deadline_s=5.0), fleet([1.0]), cohort=1)
    dispatch, _ = policy.step(0.0, Started())
    policy.step(1.0, Arrived(dispatch.jobs[0]))
    assert policy.step(5.0, DeadlinePassed(0)) == []


def test_a_round_in_which_nothing_arrives_makes_an_empty_version():
    policy = SyncPolicy(schema.SyncSchedule(deadline_s=0.5), fleet([1.0]), cohort=1)
    policy.step(0.0, Started())
    assert policy.step(0.5, DeadlinePassed(0))[1] == Aggregate(1, 0.5, [], DOWN, 0)


def test_an_update_exactly_at_the_deadline_is_on_time():
    policy = SyncPolicy(schema.SyncSchedule(deadline_s=1.0), fleet([1.0, 3.0]), cohort=2)
    timeline = Timeline(policy, rounds=1)
    made = [c for commands in timeline for c in commands if isinstance(c, Aggregate)]
    assert [j.client for j in made[0].jobs] == [0]


def test_ties_are_ordered_by_client_and_then_dispatch():
    policy = SyncPolicy(schema.SyncSchedule(), fleet([1.0] * 4, selection="uniform"), cohort=4)
    for commands in Timeline(policy, rounds=3):
        for command in commands:
            if isinstance(command, Aggregate):
                assert [j.client for j in command.jobs] == [0, 1, 2, 3]


def test_time_limit_ends_the_run_with_what_arrived():
    policy = BufferedPolicy(schema.BufferedSchedule(concurrency=1, buffer_size=10), fleet([1.0]))
    timeline = Timeline(policy, rounds=100, time_limit_s=25.5)
    made = [c for commands in timeline for c in commands if isinstance(c, Aggregate)]
    assert [len(c.jobs) for c in made] == [10, 10, 5]
    assert made[-1].at_s == 25.5


def test_offline_clients_are_waited_for():
    off_until_10 = Trace({0: [10.0]}, {0: [12.5]})
    policy = BufferedPolicy(
        schema.BufferedSchedule(concurrency=1, buffer_size=1),
        fleet([1.0], availability=off_until_10),
    )
    assert policy.step(0.0, Started()) == [WakeAt(10.0, ClientsCameOn())]
    assert policy.step(10.0, ClientsCameOn()) == [Dispatch([job(0, 0, 0, 10.0, 11.0)])]


def test_a_client_that_goes_off_mid_job_is_lost_at_that_moment():
    windows = Trace({0: [0.0]}, {0: [2.5]})
    policy = BufferedPolicy(
        schema.BufferedSchedule(concurrency=1, buffer_size=1), fleet([1.0], availability=windows)
    )
    discards, made = [], []
    for commands in Timeline(policy, rounds=10):
        discards += [c for c in commands if isinstance(c, Discard)]
        made += [c for c in commands if isinstance(c, Aggregate)]
    assert [c.at_s for c in made] == [1.0, 2.0]
    assert [(d.status, d.at_s) for d in discards] == [("dropped_out", 2.5)]


def test_cycles_move_time_on_and_respect_windows():
    cycle = Cycle(1.0, 3.0, np.array([0.0, 2.0]))
    assert cycle.on_until(0, 0.25) == 1.0
    assert cycle.on_until(0, 1.5) == 1.5  # off
    assert cycle.on_until(1, 2.5) == 3.0
    assert cycle.next_on(2, 1.0) == pytest.approx(2.0)


@pytest.mark.parametrize("selection", ["uniform", "size"])
def test_selection_has_the_chances_that_it_says(selection):
    clients, draws = 5, 20_000
    chosen = fleet([1.0] * clients, selection=selection)
    counts = np.zeros(clients)
    for _ in range(draws):
        started = chosen.start(1, 0, 0.0)[0]
        counts[started.client] += 1
        chosen.release(started)
    chances = np.full(clients, 0.2) if selection == "uniform" else np.arange(1, 6) / 15
    # Within five standard deviations of a binomial.
    assert (abs(counts - draws * chances) < 5 * np.sqrt(draws * chances * (1 - chances))).all()


@pytest.mark.parametrize("selection", ["uniform", "size", "round_robin"])
def test_no_client_is_asked_twice_at_a_time_and_all_can_be_asked(selection):
    everyone = fleet([1.0] * 50, selection=selection)
    jobs = everyone.start(60, 0, 0.0)
    assert sorted(j.client for j in jobs) == list(range(50))
    assert everyone.start(1, 0, 0.0) == []


def test_dropout_loses_the_share_that_it_says():
    flaky = fleet([1.0], dropout=0.25)
    lost = 0
    for _ in range(8000):
        started = flaky.start(1, 0, 0.0)[0]
        lost += started.lost
        flaky.release(started)
    assert abs(lost - 2000) < 5 * np.sqrt(8000 * 0.25 * 0.75)


@pytest.mark.parametrize(
    "policy",
    [
        lambda f: BufferedPolicy(schema.BufferedSchedule(concurrency=6, buffer_size=3), f),
        lambda f: PeriodicPolicy(schema.BufferedSchedule(concurrency=6, every_s=0.7), f),
        lambda f: SyncPolicy(schema.SyncSchedule(deadline_s=1.1, late="carry"), f, 4),
        lambda f: SyncPolicy(schema.SyncSchedule(over_select=1.3), f, 5),
    ],
)
@pytest.mark.parametrize("selection", ["uniform", "size", "round_robin"])
def test_a_restored_timeline_goes_on_with_the_same_commands(policy, selection):
    import json

    def fresh():
        durations = np.linspace(0.3, 2.9, 20)
        cycle = Cycle(5.0, 2.0, np.linspace(0.0, 6.9, 20))
        return Timeline(
            policy(fleet(durations, availability=cycle, dropout=0.1, selection=selection)),
            rounds=40,
        )

    whole = list(fresh())
    cut = next(i for i, commands in enumerate(whole) if any(
        isinstance(c, Aggregate) and c.version == 20 for c in commands))  # fmt: skip
    first = fresh()
    for i, _ in enumerate(first):
        if i == cut:
            break
    state = json.loads(json.dumps(first.to_json()))
    second = fresh()
    second.restore(state)
    # Empty steps may differ: a wake-up that was already scheduled is simply kept.
    assert [c for c in second if c] == [c for c in whole[cut + 1 :] if c]
