"""Selections: by hand, by formula, and by counting."""

from __future__ import annotations

import json
import math
from collections import Counter

import numpy as np
import pytest

from fedray.config import schema
from fedray.config.load import dump, load
from fedray.errors import InputError
from fedray.parts.selection import SELECTIONS
from fedray.parts.selection.availability import AvailabilityAware
from fedray.parts.selection.base import News, Reply
from fedray.parts.selection.oort import Oort, scores
from fedray.parts.selection.plain import RoundRobin
from fedray.parts.selection.power_of_choice import PowerOfChoice
from fedray.parts.selection.staleness import StalenessAware
from fedray.parts.selection.tiers import Tiers, chances
from fedray.simulation.availability import Always, Trace
from fedray.simulation.events import Aggregate, Arrived, Dispatch, Proceed, Started, WakeAt
from fedray.simulation.fleet import REPLY_BYTES, Fleet
from fedray.simulation.policies import BufferedPolicy, PeriodicPolicy, SyncPolicy
from fedray.simulation.population import Payload, Population
from fedray.simulation.timeline import Timeline

DOWN, UP = 100, 10
DRAWS = 6000


def fleet(selection, durations, *, sizes=None, replies=None, availability=None, seed=0) -> Fleet:
    """Clients with these job durations; `replies` (loss, score) by client, when asked."""
    none = np.zeros(len(durations))
    population = Population(
        none + 0.5, np.array(durations, float) - 0.5, none, schema.Constant(value=1.0), 0.0,
        availability or Always(), Payload(DOWN, UP),
    )  # fmt: skip
    made = Fleet(population, seed=seed, selection=selection, sizes=sizes, forward_s=none + 0.25)
    if replies is not None:
        made.survey = lambda clients: [Reply(*replies[c]) for c in clients]
    return made


def picked(of: Fleet, count: int, version: int = 0, now_s: float = 0.0) -> list[int]:
    """Who would train now; all are free again afterwards."""
    jobs = of.start(count, version, now_s)
    for job in jobs:
        of.release(job)
    return [job.client for job in jobs]


def news(version, rows) -> News:
    """rows: (client, examples, mean loss, mean squared loss, seconds)."""
    columns = map(list, zip(*rows, strict=True)) if rows else [[]] * 5
    clients, examples, losses, squares, seconds = columns
    return News(version, clients, [True] * len(rows), examples, losses, squares, seconds)


def near(count: float, chance: float, draws: int = DRAWS) -> bool:
    """Within five standard deviations of a binomial."""
    return abs(count - draws * chance) <= 5 * math.sqrt(draws * chance * (1 - chance))


# --- all ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SELECTIONS)
class TestEverySelection:
    def flock(self, kind, **more) -> Fleet:
        some = {"tiers": 3} if kind is Tiers else {}
        replies = [(1.0 + c % 7, 0.1 * (c % 5)) for c in range(30)]
        return fleet(
            kind(**some), np.linspace(1.0, 4.0, 30), sizes=np.arange(1.0, 31), replies=replies,
            **more,
        )  # fmt: skip

    def test_asks_nobody_twice_and_leaves_no_trace_of_who_was_not_wanted(self, kind):
        of = self.flock(kind)
        jobs = of.start(6, 0, 0.0)
        clients = [job.client for job in jobs]
        assert len(set(clients)) == len(clients) == 6
        assert sorted(of.in_flight) == sorted(clients) == of._busy

    def test_is_restored_from_json_in_the_middle(self, kind):
        def on(of: Fleet, first: int, last: int) -> list[list[int]]:
            found = []
            for version in range(first, last):
                jobs = of.start(4, version, float(version))
                found.append([job.client for job in jobs])
                for job in jobs:
                    of.release(job)
                of.made(version + 1, float(version), jobs)
                told = [(j.client, 5, 1.0 + j.client, 2.0 + j.client, 1.0) for j in jobs]
                of.learned(news(version + 1, told))
            return found

        whole = on(self.flock(kind), 0, 40)
        first = self.flock(kind)
        on(first, 0, 17)
        state = json.loads(json.dumps(vars(first.remembered())))
        second = self.flock(kind)
        second.restore(type(first.state)(**state), [])
        assert on(second, 17, 40) == whole[17:]


def test_a_word_stands_for_its_kind():
    for word in ("size", "round_robin"):
        config = load({"server": {"selection": word, "clients_per_round": 5}}).config
        assert config.server.selection.kind == word
        assert load(dump(config)).config == config
    asked = {"server": {"selection": "size", "clients_per_round": 5}}
    assert load(asked, ["server.selection=round_robin"]).config.server.selection == RoundRobin()
    found = load(asked, ["server.selection.kind=oort", "server.selection.pace=0.5"]).config
    assert found.server.selection == Oort(pace=0.5)
    with pytest.raises(InputError, match=r"server\.selection\.kind: must be one of uniform, size"):
        load({"server": {"selection": "sizes", "clients_per_round": 5}})


@pytest.mark.parametrize(("settings", "key"), [
    ({"server.selection": "power_of_choice", "server.schedule.mode": "buffered"},
     "server.schedule.mode"),
    ({"server.selection": "tiers", "server.schedule.mode": "async"}, "server.schedule.mode"),
    ({"server.selection": "oort", "server.clients_per_round": 5, "eval.local_losses": False},
     "eval.local_losses"),
    ({"server.selection": "availability", "server.clients_per_round": 5}, "server.selection"),
    ({"server.selection.kind": "staleness", "server.selection.max_expected": 2,
      "server.clients_per_round": 5}, "server.selection.max_expected"),
    ({"server.selection.kind": "tiers", "server.selection.adaptive": False,
      "server.selection.interval": 3, "server.clients_per_round": 5}, "server.selection.interval"),
    ({"server.selection": "oort"}, "server.selection"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused_with_its_key(settings, key):
    with pytest.raises(InputError) as caught:
        load({}, settings)
    assert caught.value.key == key
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["power_of_choice", "oort", "tifl"])
def test_is_picked_by_name(name):
    config = load({"algorithm": name}).config
    assert config.server.selection.ALGORITHM.name == name


# --- the timeline ---------------------------------------------------------------------------


def test_nobody_is_picked_before_the_version_is_there():
    def policy(selection):
        return SyncPolicy(schema.SyncSchedule(), fleet(selection, [1.0, 1.0, 1.0]), cohort=2)

    blind, looking = policy("uniform"), policy(Oort())
    for each in (blind, looking):
        each.step(0.0, Started())
    commands = {}
    for each in (blind, looking):
        jobs = list(each.fleet.in_flight.values())
        each.step(1.0, Arrived(jobs[0]))
        commands[each.fleet.looks] = [type(c) for c in each.step(1.0, Arrived(jobs[1]))]
    assert commands == {False: [Aggregate, Dispatch], True: [Aggregate, WakeAt]}
    assert [type(c) for c in looking.step(1.0, Proceed())] == [Dispatch]


@pytest.mark.parametrize("make", [
    lambda f: SyncPolicy(schema.SyncSchedule(deadline_s=2.2, late="carry"), f, 4),
    lambda f: BufferedPolicy(schema.BufferedSchedule(concurrency=5, buffer_size=2), f),
    lambda f: BufferedPolicy(schema.AsyncSchedule(concurrency=5), f),
    lambda f: PeriodicPolicy(schema.BufferedSchedule(concurrency=5, every_s=0.8), f),
])  # fmt: skip
def test_the_timeline_of_a_looking_selection_is_restored_after_any_version(make):
    def fresh():
        chosen = PowerOfChoice(losses="last")
        return Timeline(make(fleet(chosen, np.linspace(1.0, 3.0, 12))), rounds=20)

    def on(timeline, state=None):
        found = []
        for commands in timeline:
            found += [c for c in commands if isinstance(c, Dispatch | Aggregate)]
            for c in commands:
                if isinstance(c, Aggregate):
                    rows = [(j.client, 1, float(j.client % 5), 1.0, 1.0) for j in c.jobs]
                    if rows:
                        timeline.policy.fleet.learned(news(c.version, rows))
                    if state is not None and c.version == 9:
                        state.append(json.loads(json.dumps(timeline.to_json())))
                        return found
        return found

    whole, kept = on(fresh()), []
    before = on(fresh(), kept)
    second = fresh()
    second.restore(kept[0])
    assert before + on(second) == whole


# --- power-of-choice -------------------------------------------------------------------------


def test_power_of_choice_keeps_the_highest_losses_of_candidates_drawn_by_size():
    """P(i and j are candidates) = p_i p_j / (1 - p_i) + p_j p_i / (1 - p_j)."""
    p = np.arange(1, 6) / 15
    losses = [3.0, 1.0, 5.0, 2.0, 4.0]
    of = fleet(PowerOfChoice(candidates=2), [1.0] * 5, sizes=15 * p,
               replies=[(loss, 0.0) for loss in losses])  # fmt: skip
    counts = Counter(picked(of, 1)[0] for _ in range(DRAWS))
    expected = np.zeros(5)
    for i in range(5):
        for j in range(i):
            pair = p[i] * p[j] * (1 / (1 - p[i]) + 1 / (1 - p[j]))
            expected[i if losses[i] > losses[j] else j] += pair
    assert expected.sum() == pytest.approx(1.0)
    assert all(near(counts[c], expected[c]) for c in range(5))


def test_asking_costs_a_model_down_a_reply_up_and_the_time_of_the_slowest():
    of = fleet(
        PowerOfChoice(candidates=4), [1.0, 2.0, 3.0, 4.0], replies=[(c, 0) for c in range(4)]
    )
    jobs = of.start(2, 0, 10.0)
    assert [job.client for job in jobs] == [3, 2]
    assert of.take_bytes() == (4 * DOWN, 4 * REPLY_BYTES)
    # Download 0.5 and forward pass 0.25 of everybody, then computing: 3.5 and 2.5.
    assert [job.due_s for job in jobs] == [10.0 + 0.75 + 3.5, 10.0 + 0.75 + 2.5]


def test_with_last_losses_those_never_heard_of_come_first():
    of = fleet(PowerOfChoice(candidates=4, losses="last"), [1.0] * 4)
    of.learned(news(1, [(0, 1, 2.0, 4.0, 1.0), (1, 1, 9.0, 81.0, 1.0), (2, 1, 5.0, 25.0, 1.0)]))
    assert picked(of, 3) == [3, 1, 2]
    assert of.take_bytes() == (3 * DOWN, 0)


# --- Oort -------------------------------------------------------------------------------------


def test_scores_are_those_of_equation_2_by_hand():
    """U = 10, 20, 40; all below the clip; range 40 - 0.999 * 10; T = 2, so the last is halved
    twice; round 5."""
    rule = Oort(clip=1.0)
    found = scores(np.array([10.0, 20.0, 40.0]), np.array([1.0, 2.0, 4.0]),
                   np.array([1.0, 2.0, 4.0]), 5, 2.0, rule)  # fmt: skip
    spread = 40 - 9.99
    expected = [
        (10 - 9.99) / spread + math.sqrt(0.1 * math.log(5) / 1),
        (20 - 9.99) / spread + math.sqrt(0.1 * math.log(5) / 2),
        ((40 - 9.99) / spread + math.sqrt(0.1 * math.log(5) / 4)) * 0.25,
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_utilities_are_capped_at_their_quantile():
    capped = scores(
        np.array([1.0, 2.0, 3.0, 100.0]), np.ones(4), np.ones(4), 1, 9.0, Oort(clip=0.5)
    )
    np.testing.assert_allclose(capped, (np.array([1, 2, 3, 3]) - 0.999) / (100 - 0.999))


def test_oort_explores_the_share_that_it_says_by_speed_and_picks_the_rest_by_score():
    durations = [1.0, 2.0, 4.0, 4.0, 1.0, 1.0]
    rule = Oort(exploration=0.5, exploration_decay=1.0, exploration_min=0.0, cut_off=0.0, pace=1.0)
    of = fleet(rule, durations)
    of.learned(news(1, [(4, 10, 0, 4.0, 1.0), (5, 10, 0, 9.0, 1.0)]))  # U = 20 and 30
    counts = Counter(picked(of, 1, version=1)[0] for _ in range(DRAWS))
    assert near(counts[4] + counts[5], 0.5)
    new = sum(counts[c] for c in range(4))
    for c, speed in zip(range(4), (4, 2, 1, 1), strict=True):
        assert near(counts[c], speed / 8, new)
    low = 20 * 0.999
    age = math.sqrt(0.1 * math.log(2) / 1)
    score = [(20 - low) / (30 - low) + age, 1 + age]
    assert near(counts[4], score[0] / sum(score), DRAWS - new)


def test_only_scores_near_the_last_that_is_picked_qualify():
    rule = Oort(exploration=0.0, exploration_min=0.0, cut_off=0.95, pace=1.0)
    of = fleet(rule, [1.0] * 4)
    of.learned(news(1, [(c, 1, 0, u * u, 1.0) for c, u in enumerate((10.0, 99.0, 100.0, 40.0))]))
    seen = Counter(c for _ in range(300) for c in picked(of, 1, version=1))
    assert set(seen) == {1, 2}


def test_epsilon_decays_to_its_floor():
    rule = Oort()
    assert rule.epsilon(0) == pytest.approx(0.9 * 0.98)
    assert rule.epsilon(10) == pytest.approx(0.9 * 0.98**11)
    assert rule.epsilon(1000) == 0.2


def test_the_pacer_lets_slower_clients_in_when_utility_falls():
    of = fleet(Oort(pacer_window=2, pace=0.3, pacer_step=0.1), [1.0] * 3)
    for version, square in enumerate((9.0, 9.0, 4.0, 4.0, 4.0, 4.0), start=1):
        of.learned(news(version, [(0, 1, 0, square, 1.0)]))
    # 3 + 3 > 2 + 2 once; then 2 + 2 against 2 + 2.
    assert of._selector.memory["pace"] == pytest.approx(0.4)


def test_the_blacklist_keeps_those_out_who_were_heard_of_too_often():
    rule = Oort(exploration=0.0, exploration_min=0.0, blacklist=2, pace=1.0)
    of = fleet(rule, [1.0] * 2)
    for version in (1, 2, 3):
        of.learned(news(version, [(0, 1, 0, 100.0, 1.0)]))
    of.learned(news(4, [(1, 1, 0, 1.0, 1.0)]))
    assert {picked(of, 1, version=4)[0] for _ in range(50)} == {1}


# --- tiers -------------------------------------------------------------------------------------


def test_chances_of_tiers_go_by_rank():
    assert chances([0.9, 0.2, 0.5]) == [1 / 6, 3 / 6, 2 / 6]
    assert chances([0.5, 0.5]) == [1 / 3, 2 / 3]  # the slower of equals


def test_a_round_is_of_one_tier_and_tiers_come_equally_often_at_first():
    of = fleet(Tiers(tiers=3, adaptive=False), [1.0, 9.0, 5.0, 1.5, 8.0, 5.5])
    tiers = [{0, 3}, {2, 5}, {1, 4}]
    counts = Counter(tiers.index(set(picked(of, 2))) for _ in range(DRAWS))
    assert all(near(counts[t], 1 / 3) for t in range(3))
    assert Counter(len(picked(of, 5)) for _ in range(9)) == {2: 9}


def test_chances_are_set_anew_when_the_last_tier_has_not_improved():
    told = {0: 0.9, 1: 0.1, 2: 0.5}
    of = fleet(Tiers(tiers=3, interval=2), [1.0, 2.0, 3.0], replies=[(0, 0)] * 3)
    of.survey = lambda clients: [Reply(0.0, told[c]) for c in clients]
    (last,) = picked(of, 1, version=0)
    assert "chances" not in of._selector.memory  # nothing to compare with yet
    assert of.take_bytes() == (4 * DOWN, 3 * REPLY_BYTES)
    told[last] += 0.05
    (last,) = picked(of, 1, version=2)
    assert "chances" not in of._selector.memory  # it improved
    told[last] -= 0.05
    picked(of, 1, version=4)
    assert of._selector.memory["chances"] == chances([told[0], told[1], told[2]])
    before = of._selector.memory["scores"]
    told[0] = 0.0
    picked(of, 1, version=5)  # no round to look in
    assert of._selector.memory["scores"] == before


def test_credits_bound_the_rounds_of_a_tier_until_all_are_used_up():
    of = fleet(Tiers(tiers=2, adaptive=False, credits=3), [1.0, 2.0])
    rounds = [picked(of, 1)[0] for _ in range(60)]
    for first in range(0, 60, 6):
        assert Counter(rounds[first : first + 6]) == {0: 3, 1: 3}


def test_a_tier_that_cannot_be_reached_is_stood_in_for():
    gone = Trace({0: [0.0]}, {0: [100.0]})  # only client 0 is ever on
    of = fleet(Tiers(tiers=2, adaptive=False), [1.0, 2.0], availability=gone)
    assert [picked(of, 1) for _ in range(20)] == [[0]] * 20


# --- staleness and availability -----------------------------------------------------------------


def test_the_oldest_of_the_candidates_trains():
    of = fleet(StalenessAware(candidates=4), [1.0] * 4)
    for version, client in ((1, 2), (2, 0), (3, 3)):
        (job,) = [j for j in of.start(4, version, 0.0) if j.client == client]
        of.made(version, 0.0, [job])
        for each in list(of.in_flight.values()):
            of.release(each)
    assert picked(of, 4) == [1, 2, 0, 3]
    one = fleet(StalenessAware(candidates=1), [1.0] * 4)
    counts = Counter(picked(one, 1)[0] for _ in range(DRAWS))
    assert all(near(counts[c], 0.25) for c in range(4))


def test_clients_that_would_be_too_stale_train_only_if_nobody_else_is_free():
    of = fleet(StalenessAware(candidates=2, max_expected=3.0), [1.0, 2.0, 50.0])
    of.made(1, 1.0, [])  # a version per second: the last client would miss 50
    assert {c for _ in range(50) for c in picked(of, 2)} == {0, 1}
    assert sorted(picked(of, 3)) == [0, 1, 2]


def test_clients_that_stay_on_long_enough_come_first():
    on = Trace({c: [0.0] for c in range(4)}, {0: [0.9], 1: [5.0], 2: [1.9], 3: [2.5]})
    of = fleet(AvailabilityAware(margin=2.0), [1.0] * 4, availability=on)
    assert {c for _ in range(50) for c in picked(of, 2)} == {1, 3}
    assert sorted(picked(of, 4)) == [0, 1, 2, 3]


def test_a_forecast_is_as_often_right_as_it_says():
    """One of two stays on: the right one is picked if its draw comes first and is right, ...
    by symmetry with chance accuracy whenever the two are looked at independently."""
    on = Trace({0: [0.0], 1: [0.0]}, {0: [100.0], 1: [0.5]})
    of = fleet(AvailabilityAware(accuracy=0.8), [1.0] * 2, availability=on)
    counts = Counter(picked(of, 1)[0] for _ in range(DRAWS))
    assert near(counts[0], 0.8)
