"""YAML without the traps of YAML 1.1, and round trips."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fedray.config.load import dump, load
from fedray.config.presets import ALGORITHMS
from fedray.config.text import parse, write

ROOT = Path(__file__).parents[2] / "configs"
CONFIGS = sorted(path for path in ROOT.rglob("*.yaml") if path.parent.name != "sweeps")

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False),
    st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=12),
    st.sampled_from(["on", "no", "1e-3", "010", "0o7", "1:30", "2020-01-01", "~", "", "<<", "="]),
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 1e5),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("no", "no"),
        ("y", "y"),
        ("true", True),
        ("010", 10),
        ("0o10", 8),
        ("0x1f", 31),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),
        ("~", None),
    ],
)
def test_scalars(text: str, value: object) -> None:
    got = parse(f"a: {text}", "test")["a"]
    assert got == value
    assert type(got) is type(value)


def test_merge_keys_work_and_do_not_count_as_double() -> None:
    text = "base: &b {x: 1, y: 2}\nmine: {<<: *b, y: 3}"
    assert parse(text, "test")["mine"] == {"x": 1, "y": 3}


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text("abc<=~", min_size=1), st.lists(SCALARS) | SCALARS, max_size=4))
def test_what_is_written_is_read_back(tree: dict[str, object]) -> None:
    assert parse(write(tree), "test") == tree


@pytest.mark.parametrize("path", [None, *CONFIGS], ids=str)
def test_every_shipped_file_loads_and_survives_a_dump(path: Path | None) -> None:
    loaded = load(path)
    assert loaded.notes == []
    text = dump(loaded.config)
    assert load(text).config == loaded.config
    assert dump(load(text).config) == text


def test_there_are_files_to_test() -> None:
    assert len(CONFIGS) >= 13


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_survives_a_dump(algorithm: str) -> None:
    config = load({"algorithm": algorithm}).config
    assert load(dump(config)).config == config


@settings(max_examples=40, deadline=None)
@given(
    algorithm=st.sampled_from(sorted(ALGORITHMS)),
    name=st.text(
        alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/."),
        min_size=1,
    ),
    lr=st.floats(1e-300, 1e300),
    training=st.one_of(
        st.fixed_dictionaries({"client.epochs": st.floats(0.01, 50)}),
        st.fixed_dictionaries({"client.steps": st.integers(1, 9)}),
    ),
    batch=st.sampled_from(["full", 1, 64]),
    split=st.one_of(
        st.fixed_dictionaries({"partition.alpha": st.floats(1e-3, 1e3)}),
        st.fixed_dictionaries({"partition.severity": st.floats(0, 1)}),
    ),
    devices=st.sampled_from(
        [{}, {"devices.duration": {"mean": 2}}, {"devices.network.latency_s": {"value": 1}}]
    ),
)
def test_any_configuration_survives_a_dump(
    algorithm: str,
    name: str,
    lr: float,
    training: dict[str, object],
    batch: object,
    split: dict[str, object],
    devices: dict[str, object],
) -> None:
    assume(algorithm not in ("ditto", "pfedme") or lr < 0.1)  # they refuse steps that overshoot
    overrides = {"name": name, "client.lr": lr, "client.batch_size": batch}
    config = load({"algorithm": algorithm}, {**overrides, **training, **split, **devices}).config
    assert load(dump(config)).config == config


def test_a_dump_reads_the_same_in_other_yaml_readers() -> None:
    config = load({"name": "off", "client": {"lr": 1e-7}}).config
    other = yaml.safe_load(dump(config))
    assert (other["name"], other["client"]["lr"]) == ("off", 1e-7)
