"""Devices: how long jobs take, from distributions and from tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedray import rng
from fedray.config import schema
from fedray.errors import InputError
from fedray.simulation import distributions, tables
from fedray.simulation.population import Payload, build_population

LAWS = [  # and the mean that each has, by its textbook formula
    (schema.Constant(value=3.0), 3.0),
    (schema.Uniform(low=1.0, high=5.0), 3.0),
    (schema.HalfNormal(scale=2.0), 2.0 * np.sqrt(2 / np.pi)),
    (schema.Exponential(mean=2.0), 2.0),
    (schema.LogNormal(median=2.0, sigma=0.5), 2.0 * np.exp(0.5**2 / 2)),
    (schema.Pareto(minimum=1.0, shape=4.0), 4.0 / 3.0),
]


def population(devices: schema.Devices, samples=(60, 120), names=None, base_dir=Path()):
    return build_population(
        devices, samples_per_job=np.array(samples), names=names, payload=Payload(1000, 500),
        seed=3, base_dir=base_dir,
    )  # fmt: skip


@pytest.mark.parametrize(("law", "mean"), LAWS, ids=lambda law: getattr(law, "kind", ""))
def test_draws_have_the_mean_that_the_law_has(law, mean):
    drawn = distributions.draw(law, rng.generator(1, rng.Stream.DEVICES), 200_000)
    assert drawn.shape == (200_000,)
    assert (drawn >= 0).all()
    assert drawn.mean() == pytest.approx(mean, rel=0.02)


def test_a_job_is_download_computation_and_upload():
    network = schema.Network(
        down_bytes_per_s=schema.Constant(value=100.0),
        up_bytes_per_s=schema.Constant(value=10.0),
        latency_s=schema.Constant(value=0.5),
    )
    devices = schema.Devices(compute=schema.Constant(value=30.0), network=network)
    found = population(devices)
    assert found.download_s.tolist() == [10.5, 10.5]
    assert found.compute_s.tolist() == [2.0, 4.0]
    assert found.upload_s.tolist() == [50.5, 50.5]
    assert found.duration_s.tolist() == [63.0, 65.0]


def test_a_duration_is_the_whole_job():
    found = population(schema.Devices(duration=schema.Constant(value=7.0)))
    assert found.duration_s.tolist() == [7.0, 7.0]


def test_the_seed_decides_and_clients_differ():
    devices = schema.Devices()
    first, again = population(devices, [60] * 5), population(devices, [60] * 5)
    assert first.duration_s.tolist() == again.duration_s.tolist()
    assert len(set(first.duration_s.tolist())) == 5


def test_a_rate_of_zero_is_refused():
    devices = schema.Devices(compute=schema.Constant(value=0.0))
    with pytest.raises(InputError, match=r"devices: .*rates must be > 0"):
        population(devices)


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_tables_come_in_any_order_and_by_name(tmp_path):
    write(tmp_path, "client,duration_s\nb,2.5\na,1.5\n")
    found = population(schema.Devices(table="table.csv"), names=("a", "b"), base_dir=tmp_path)
    assert found.duration_s.tolist() == [1.5, 2.5]


def test_tables_of_rates(tmp_path):
    write(
        tmp_path,
        "client,samples_per_s,down_bytes_per_s,up_bytes_per_s,latency_s\n"
        "0,60,1000,500,0.25\n1,60,500,250,0\n",
    )
    found = population(schema.Devices(table="table.csv"), base_dir=tmp_path)
    assert found.download_s.tolist() == [1.25, 2.0]
    assert found.compute_s.tolist() == [1.0, 2.0]
    assert found.upload_s.tolist() == [1.25, 2.0]


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("client,duration_s\n0,1\n", "client 1 has no row"),
        ("client,duration_s\n0,1\n1,2\n1,3\n", "a client twice"),
        ("client,duration_s\n0,1\n1,-2\n", "duration_s holds -2; must be > 0"),
        ("client,duration_s\n0,1\n7,2\n", "unknown client 7; allowed: 0 to 1"),
        ("client,duration_s\n0,1\n1,soon\n", "must hold numbers"),
        ("client,seconds\n0,1\n1,2\n", "no column 'samples_per_s'"),
        ("klient,duration_s\n0,1\n1,2\n", "no column 'client'"),
        ("client,duration_s,samples_per_s\n0,1,5\n1,2,5\n", "take one out"),
    ],
)
def test_bad_tables_are_one_line_with_the_key(tmp_path, text, fragment):
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        tables.device_table(path, clients=2, names=None)
    message = str(caught.value)
    assert message.startswith("devices.table: ")
    assert fragment in message
    assert "\n" not in message


def test_traces_are_sorted_windows(tmp_path):
    path = write(tmp_path, "client,start_s,end_s\n1,20,30\n1,0,10\n0,5,6\n")
    trace = tables.availability_trace(path, clients=3, names=None)
    assert trace.on_until(1, 3.0) == 10.0
    assert trace.on_until(1, 15.0) == 15.0  # off
    assert trace.next_on(3, 6.0) == 20.0
    assert trace.next_on(3, 20.0) == np.inf
    assert trace.on_until(2, 0.0) == 0.0  # never on


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("client,start_s,end_s\n0,5,5\n", "is empty"),
        ("client,start_s,end_s\n0,0,5\n0,4,8\n", "overlap at 4 s"),
        ("client,from,end_s\n0,0,5\n", "no column 'start_s'"),
    ],
)
def test_bad_traces_are_one_line_with_the_key(tmp_path, text, fragment):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=r"^devices\.availability\.path: ") as caught:
        tables.availability_trace(path, clients=1, names=None)
    assert fragment in str(caught.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(InputError, match=r"devices\.table: no such file"):
        tables.device_table(tmp_path / "none.csv", clients=1, names=None)
