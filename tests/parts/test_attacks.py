"""Attacks: what malicious clients send, who they are, and that honest ones are left alone."""

from __future__ import annotations

import dataclasses
from statistics import NormalDist

import numpy as np
import pytest
from quadratics import LR, A, M, walk

import fedray
from fedray.config import schema
from fedray.config.load import load
from fedray.diagnosis.counterfactual.study import build_study
from fedray.errors import InputError
from fedray.parts.attacks import ATTACKS
from fedray.parts.attacks.alie import Alie, z_max
from fedray.parts.attacks.base import ByClients, Crew, crew
from fedray.parts.attacks.gaussian import Gaussian
from fedray.parts.attacks.ipm import Ipm
from fedray.parts.attacks.label_flip import LabelFlip
from fedray.parts.attacks.none import NoAttack
from fedray.parts.attacks.sign_flip import SignFlip
from fedray.report.page import render

ONCE = schema.Server(rounds=1, weighting="uniform")
CLIENT = schema.Client(steps=5, batch_size="full", lr=LR)
SENT = [walk(i, 0.0, 5) for i in range(3)]
"""What the three quadratics' updates from 0 are."""


@pytest.mark.parametrize(("attack", "expected"), [
    (NoAttack(), sum(SENT) / 3),
    (SignFlip(clients=(1,), scale=2.0), (SENT[0] - 2 * SENT[1] + SENT[2]) / 3),
    (SignFlip(clients=(0, 2), scale=1.0), (-SENT[0] + SENT[1] - SENT[2]) / 3),
    (Ipm(clients=(2,), epsilon=0.5), (1 - 0.25) * (SENT[0] + SENT[1]) / 3),
    (Alie(clients=(1,), z=1.5),
     (SENT[0] + SENT[2] + (SENT[0] + SENT[2]) / 2 - 1.5 * abs(SENT[0] - SENT[2]) / 2) / 3),
])  # fmt: skip
def test_a_round_moves_by_what_malicious_clients_send(toy, tmp_path, attack, expected):
    made = toy(A, M, client=CLIENT, server=ONCE, attack=attack)
    assert made.final(tmp_path) == pytest.approx(expected, rel=1e-12)


def test_norms_on_record_are_those_of_what_was_sent(toy, tmp_path):
    run = toy(A, M, client=CLIENT, server=ONCE, attack=Ipm(clients=(2,), epsilon=4.0)).fly(tmp_path)
    norms = run.updates.to_pandas().set_index("client")["norm"]
    assert norms[2] == pytest.approx(4 * abs(SENT[0] + SENT[1]) / 2)
    assert norms[0] == pytest.approx(abs(SENT[0]))
    assert run.clients["malicious"].to_pylist() == [False, False, True]


def test_where_nobody_is_honest_there_is_nothing_to_collude_on(toy, tmp_path):
    """In buffers of one, the malicious client is alone with itself."""
    server = schema.Server(
        rounds=9, weighting="uniform",
        schedule=schema.BufferedSchedule(concurrency=3, buffer_size=1),
    )  # fmt: skip
    made = toy(A, M, client=CLIENT, server=server, attack=Ipm(clients=(2,)))
    assert made.final(tmp_path / "ipm") == toy(A, M, client=CLIENT, server=server).final(
        tmp_path / "plain"
    )


def test_z_of_a_little_is_enough_is_the_papers():
    """n = 50, m = 24 is the paper's example: s = 2, Phi(z) = 24 / 26, z = 1.43."""
    assert z_max(50, 24) == pytest.approx(NormalDist().inv_cdf(24 / 26))
    assert z_max(50, 24) == pytest.approx(1.43, abs=0.01)
    assert z_max(25, 5) == pytest.approx(NormalDist().inv_cdf(12 / 20))
    assert z_max(10, 2) == 0.0  # an honest majority of 8 needs no more than its own half
    assert z_max(3, 2) == pytest.approx(3.09, abs=0.01)


def test_colluding_updates_are_mean_minus_z_std():
    honest = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    sent = Alie(z=2.0).collude(honest, 2)
    assert sent.dtype == np.float32
    np.testing.assert_allclose(sent, honest.mean(0) - 2 * honest.std(0), rtol=1e-6)
    np.testing.assert_allclose(Ipm(epsilon=3.0).collude(honest, 2), -3 * honest.mean(0), rtol=1e-6)


def test_labels_are_turned_round_or_one_class_renamed():
    y = np.array([0, 1, 2, 9, 2])
    assert LabelFlip().labels(y, 10).tolist() == [9, 8, 7, 0, 7]
    assert LabelFlip(source=2, target=7).labels(y, 10).tolist() == [0, 1, 7, 9, 7]
    assert y.tolist() == [0, 1, 2, 9, 2]
    malicious = Crew(LabelFlip(), np.array([3]), 10, 0)
    assert malicious.labels(3, y)[0] == 9
    assert malicious.labels(2, y) is y


def test_noise_is_as_long_as_asked_and_a_function_of_the_job():
    delta = np.full(4000, 0.1, np.float32)
    malicious = Crew(Gaussian(scale=3.0), np.array([1]), 10, 0)

    def sent(client: int, dispatch: int) -> np.ndarray:
        vector = delta.copy()
        malicious.spoil(vector, client, dispatch)
        return vector

    assert np.linalg.norm(sent(1, 5)) == pytest.approx(3 * np.linalg.norm(delta), rel=0.05)
    assert np.array_equal(sent(1, 5), sent(1, 5))
    assert not np.array_equal(sent(1, 5), sent(1, 6))
    assert np.array_equal(sent(0, 5), delta)
    assert abs(np.corrcoef(sent(1, 5), sent(1, 6))[0, 1]) < 0.1


def test_malicious_clients_are_a_share_drawn_from_the_seed():
    drawn = [SignFlip(share=0.3).members(20, seed).tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == 6
    assert drawn[0] == sorted(drawn[0])
    assert SignFlip(clients=(4, 1, 4)).members(20, 0).tolist() == [1, 4]
    assert len(SignFlip().members(20, 0)) == 4
    counts = np.bincount(
        np.concatenate([SignFlip(share=0.3).members(10, seed) for seed in range(300)]), minlength=10
    )
    assert counts.min() > 60  # 90 each are expected


@pytest.mark.parametrize("kind", [kind for kind in ATTACKS if issubclass(kind, ByClients)])
class TestEveryAttack:
    def test_leaves_honest_clients_and_its_inputs_alone(self, kind):
        made = crew(kind(clients=(1,)), 5, 10, 0)
        delta, y = np.arange(6, dtype=np.float32), np.arange(6)
        honest = delta.copy()
        made.spoil(honest, 0, 0)
        assert np.array_equal(honest, delta)
        assert np.array_equal(made.labels(0, y), y)
        if kind.omniscient:
            group = np.random.default_rng(0).normal(size=(3, 6))
            kept = group.copy()
            assert made.attack.collude(group, 1).shape == (6,)
            assert np.array_equal(group, kept)

    def test_does_something(self, kind):
        attack, y = kind(clients=(1,)), np.arange(6)
        delta = np.arange(6, dtype=np.float32)
        changes = not np.array_equal(attack.labels(y, 10), y)
        changes |= not np.array_equal(attack.update(delta, np.random.default_rng(0)), delta)
        assert changes or kind.omniscient

    def test_names_its_paper(self, kind):
        assert "arXiv" in kind.PAPER

    def test_is_not_diagnosed_or_taken_apart(self, kind, tmp_path):
        mode = {"server": {"schedule": {"mode": "sync"}}}
        loaded = load({"attack": {"kind": kind().kind}, **mode})
        with pytest.raises(InputError, match=r"attack\.kind: a study knows honest"):
            build_study(loaded.config, tmp_path)
        with pytest.raises(InputError, match=r"diagnosis\.decompose"):
            load({"attack": {"kind": kind().kind}, "diagnosis": {"decompose": 3}, **mode})
        found = load({"diagnosis": {"decompose": 3}, **mode}, {"attack.kind": kind().kind})
        assert found.config.diagnosis.decompose == "off"
        assert any("diagnosis.decompose: dropped" in note for note in found.notes)


@pytest.mark.parametrize(("attack", "more", "key", "said"), [
    ({"kind": "alie", "clients": [3, 20]}, {}, "attack.clients", "0 to 19"),
    ({"kind": "alie", "share": 0.01}, {}, "attack.share", "nobody of 20"),
    ({"kind": "alie", "share": 0.99}, {}, "attack.share", "everybody of 20"),
    ({"kind": "alie", "clients": list(range(20))}, {}, "attack.clients", "everybody of 20"),
    ({"kind": "ipm", "share": 0.1, "clients": [1]}, {}, "attack.clients", "exclude each other"),
    ({"kind": "alie"}, {"algorithm": "fedasync"}, "server.schedule.mode", "of one update"),
    ({"kind": "ipm"}, {"algorithm": "fedasync"}, "server.schedule.mode", "of one update"),
    ({"kind": "alie"}, {"privacy": {"kind": "central", "noise_multiplier": 1.0},
                        "server": {"weighting": "uniform"}}, "attack.kind", "central"),
    ({"kind": "label_flip"}, {"data": {"source": "diabetes"}}, "attack.kind", "regression"),
    ({"kind": "backdoor"}, {}, "attack.kind", "label_flip"),
    ({"kind": "none", "share": 0.1}, {}, "attack.share", "belongs to kind"),
])  # fmt: skip
def test_bad_attacks_are_one_line(attack, more, key, said):
    with pytest.raises(InputError) as caught:
        load({"attack": attack, **more})
    assert caught.value.key == key
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("attack", "classes", "key"), [
    (LabelFlip(source=3), 10, "attack.target"),
    (LabelFlip(target=3), 10, "attack.source"),
    (LabelFlip(source=3, target=3), 10, "attack.target"),
    (LabelFlip(source=3, target=10), 10, "attack.target"),
    (LabelFlip(), 0, "attack.kind"),
])  # fmt: skip
def test_labels_that_the_data_do_not_have_are_refused(attack, classes, key):
    with pytest.raises(InputError) as caught:
        crew(dataclasses.replace(attack, clients=(1,)), 5, classes, 0)
    assert caught.value.key == key


def test_the_share_is_written_out_and_overrides_replace_it():
    asked = {"attack": {"kind": "sign_flip"}}
    assert load(asked).config.attack == SignFlip(share=0.2)
    assert load(asked, {"attack.clients": [1]}).config.attack == SignFlip(clients=(1,))
    assert load({"attack": {"kind": "ipm", "share": 0.3}}, {"attack.kind": "none"}).notes


def test_flipped_labels_cost_what_honest_clients_do_not(tmp_path):
    """A renamed class is what the model comes to say, when most clients rename it."""

    def run(name: str, **attack: object) -> fedray.Run:
        return fedray.launch({
            "partition": {"scheme": "iid", "clients": 10},
            "server": {"rounds": 12, "schedule": {"mode": "sync"}},
            "runtime": {"executor": "local"}, "output": {"report": False},
            "attack": attack,
        }, out=tmp_path / name)  # fmt: skip

    spoilt = run("spoilt", kind="label_flip", share=0.8, source=3, target=5)
    clean = run("clean", kind="none")
    of = [np.array(r.rounds["accuracy_per_class"].to_pylist()[-1]) for r in (spoilt, clean)]
    assert of[0][3] < 0.2 < 0.8 < of[1][3]
    assert of[0][[0, 1, 2]].min() > 0.8
    assert "8 of the 10 clients are malicious (attack.kind label_flip)" in render(spoilt)
    assert "malicious" not in render(clean).split("<script")[0]
    assert clean.clients["malicious"].null_count == 10
    assert sum(spoilt.clients["malicious"].to_pylist()) == 8
