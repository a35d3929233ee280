"""A method of a user's own, by import path."""

from __future__ import annotations

from pathlib import Path

import pytest

import fedray
from fedray.config.load import as_tree, load
from fedray.errors import InputError

SOURCE = '''
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Gt

from fedray.parts.arrivals import Combined
from fedray.parts.fields import Doc
from fedray.parts.methods.base import Method


@dataclass(frozen=True, kw_only=True)
class Bounded(Method):
    """Steps no longer than `bound`."""

    bound: Annotated[float, Gt(0), Doc("longest step")] = 1.0

    def combine(self, arrivals, server, memory):
        found = server.average(arrivals)
        length = float((found.update @ found.update) ** 0.5)
        return Combined(found.update * min(1.0, self.bound / length), found.weights)
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_method.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def test_it_is_used_with_its_own_parameters_and_survives_a_dump(tmp_path):
    asked = {"algorithm": "own_method:Bounded", "method": {"bound": 0.25},
             "server": {"rounds": 3}, "output": {"report": False}}  # fmt: skip
    config = load(asked).config
    assert (config.method.kind, config.method.bound) == ("own_method:Bounded", 0.25)
    assert load(as_tree(config)).config == config
    run = fedray.launch(asked, out=tmp_path / "run", **{"runtime.executor": "local"})
    norms = run.rounds.to_pandas()["update_norm"].dropna()
    assert norms.max() == pytest.approx(0.25, rel=1e-6)


@pytest.mark.ray
def test_client_actors_find_it_too(tmp_path):
    asked = {"algorithm": "own_method:Bounded", "partition": {"clients": 4},
             "server": {"rounds": 2}, "output": {"report": False}}  # fmt: skip
    on_ray = fedray.launch(asked, out=tmp_path / "ray", **{"runtime.clients_per_actor": 2})
    local = fedray.launch(asked, out=tmp_path / "local", **{"runtime.executor": "local"})
    assert on_ray.summary["final"] == local.summary["final"]


@pytest.mark.parametrize(("settings", "key", "says"), [
    ({"algorithm": "own_method:Bunded"}, "algorithm", "did you mean 'Bounded'?"),
    ({"algorithm": "nowhere:Bounded"}, "algorithm", "cannot import 'nowhere'"),
    ({"algorithm": "own_method:Doc"}, "algorithm", "is no method"),
    ({"algorithm": "own_method:Bounded", "method": {"bound": -1.0}}, "method.bound",
     "must be a number > 0, not -1"),
    ({"algorithm": "own_method:Bounded", "method": {"bund": 1.0}}, "method.bund", "bound"),
    ({"method": {"kind": "own_method:Gone"}}, "method.kind", "has no 'Gone'"),
])  # fmt: skip
def test_bad_input_is_one_line(settings, key, says):
    with pytest.raises(InputError) as caught:
        load(settings)
    assert caught.value.key == key
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
