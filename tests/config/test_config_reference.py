"""The reference page, the JSON Schema and the algorithms are made from the schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.config import schema
from fedray.config.load import load
from fedray.config.presets import ALGORITHMS, find
from fedray.config.reference import json_schema, markdown, meanings, paste
from fedray.config.tree import keys, locate
from fedray.errors import InputError

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text() == markdown(), "run: fedray config reference > docs/configuration.md"


def test_every_key_is_on_the_page() -> None:
    page = markdown()
    todo, seen = [schema.Config], set()
    while todo:
        record = todo.pop()
        for key in keys(record).values():
            assert f"`{key.name}`" in page
            below = {key.record, *key.variants.values()} - {None} - seen
            seen |= below
            todo += below
    assert len(seen) > 40


def test_tables_have_four_cells() -> None:
    rows = [line for line in markdown().splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {5}


def test_json_schema_knows_descriptions_bounds_and_closes_records() -> None:
    found = json_schema()
    client = found["$defs"]["Client"]
    assert client["additionalProperties"] is False
    assert client["properties"]["lr"]["exclusiveMinimum"] == 0
    assert client["properties"]["lr"]["description"] == "step size"
    assert found["properties"]["server"]["$ref"].startswith("#/$defs/")


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_pasted_algorithm_is_the_algorithm(name: str) -> None:
    algorithm = find(name)
    assert load(paste(algorithm)).config == load({"algorithm": name}).config
    assert all(meaning for _, _, meaning in meanings(algorithm))
    assert "arXiv" in algorithm.paper or "openreview" in algorithm.paper


def test_algorithms_are_what_their_papers_say() -> None:
    def server(name: str) -> schema.Server:
        return load({"algorithm": name}).config.server

    assert server("fedavg") == schema.Server()
    assert server("fedavgm").optimizer == schema.MomentumOptimizer(lr=1.0, momentum=0.9)
    assert server("fedadam").optimizer == schema.AdamOptimizer(
        lr=0.1, beta1=0.9, beta2=0.99, tau=1e-3
    )
    assert server("fedyogi").optimizer == schema.YogiOptimizer(
        lr=0.01, beta1=0.9, beta2=0.99, tau=1e-3
    )
    assert server("fedadagrad").optimizer == schema.AdagradOptimizer(lr=0.1, beta1=0.0, tau=1e-3)
    half = schema.PolynomialWeight(exponent=0.5)
    assert server("fedbuff").schedule == schema.BufferedSchedule(
        buffer_size=10, staleness_weight=half
    )
    assert server("fedbuff").weighting == "uniform"
    assert server("fedasync").schedule == schema.AsyncSchedule(mixing=0.6, staleness_weight=half)
    assert load({"algorithm": "fedasync"}).config.client.prox_mu == 0.005
    sgd = load({"algorithm": "fedsgd"}).config.client
    assert (sgd.steps, sgd.batch_size) == (1, "full")


def test_an_unknown_algorithm_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'fedprox'"):
        find("fedporx")


def test_locate_finds_every_place_of_a_name() -> None:
    assert list(locate("lr")) == ["client.lr", "personal.lr", "server.optimizer.lr"]
    assert list(locate("nowhere")) == []
