"""Bad configurations: each is one line that names the key, the value and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fedray.cli import cli

BAD = [
    # YAML itself
    ("client: {lr: 0.1", [], "line 1, column"),
    ("seed: 1\nseed: 2", [], "line 2, column 1: 'seed' is given twice"),
    ("- 1\n- 2", [], "mapping of keys, not list"),
    ("a:\n\t- 1", [], "line 2, column 1"),
    ("1: 2", [], "a key must be a word, not '1'"),
    ("name: !!python/object:os.system x", [], "line 1, column 7"),
    ("name: &a [*a]", [], "alias that contains itself"),
    ("seed: 1\n---\nseed: 2", [], "line 2, column 1"),
    ("[" * 2000, [], "nested too deeply"),
    # keys
    ("roundz: 3", [], "roundz: unknown key; known are name, seed"),
    ("server: {roundz: 3}", [], "server.roundz: unknown key; did you mean 'rounds'?"),
    ("alpha: 0.1", [], "alpha: unknown key; did you mean 'data.alpha' or 'partition.alpha' or "),
    ("server.rounds: 3", [], "server.rounds: unknown key; keys are nested in a file"),
    ("partition: {shceme: iid}", [], "partition.shceme: unknown key"),
    (
        "server: {optimizer: {beta2: 0.9}}",
        [],
        "server.optimizer.beta2: unknown key for kind sgd; it belongs to kind adam, yogi",
    ),
    ("data: {source: csv}", [], "data.path: missing for source csv"),
    ("model: {kind: sklearn}", [], "model.estimator: missing for kind sklearn"),
    ("devices: {duration: {}}", [], "devices.duration.kind: missing; one of constant, uniform"),
    # values
    ("data: {source: digitz}", [], "not 'digitz'; did you mean 'digits'?"),
    ("algorithm: fedbuf", [], "algorithm: no algorithm 'fedbuf'; did you mean 'fedbuff'?"),
    (
        "data: {path: a.csv, label: y, client_column: y}",
        [],
        "data.client_column: 'y' is the label (data.label)",
    ),
    ("name: ../x", [], "name: '../x' names a folder in output.dir, so no '/'"),
    ("data: {source: csv, path: a.csv, features: []}", [], "data.features: must not be empty"),
    ("client: {lr: -1}", [], "client.lr: must be a number > 0, not -1"),
    ("client: {lr: '0.1'}", [], "client.lr: must be a number > 0, not '0.1'"),
    ("client: {lr: .nan}", [], "client.lr: must be a number > 0 and finite, not NaN"),
    ("client: {lr: .inf}", [], "client.lr: must be a number > 0 and finite, not Infinity"),
    ("client: {lr: -1, momentum: 1.0}", [], "not -1 (and 1 more)"),
    ("server: {rounds: true}", [], "server.rounds: must be an integer >= 1, not true"),
    ("server: {rounds: 2.5}", [], "server.rounds: must be an integer >= 1, not 2.5"),
    ("eval: {local_losses: yes}", [], "eval.local_losses: must be true or false, not 'yes'"),
    ("client: {batch_size: ful}", [], "an integer >= 1 or full, not 'ful'; did you mean 'full'?"),
    (
        "server: {clients_per_round: 1.5}",
        [],
        "server.clients_per_round: must be all or an integer >= 1 or a number > 0 and < 1",
    ),
    ("model: {kind: mlp, hidden: [64, x]}", [], "a list of integers >= 1, not 'x' at [1]"),
    ("model: {kind: mlp, hidden: []}", [], "model.hidden: must not be empty"),
    ("devices: 3", [], "devices: must be a mapping of keys, not 3"),
    ("server: {schedule: sync}", [], "a mapping with mode: sync, buffered, async, not 'sync'"),
    ("partition: {alpha: 0}", [], "partition.alpha: must be a number > 0, not 0"),
    ("name: ''", [], "name: must not be empty"),
    # --set
    ("", ["client.lr"], "--set 'client.lr': write it as KEY=VALUE"),
    ("", ["partition.alhpa=1"], "partition.alhpa: unknown key"),
    ("", ["server.rounds.x=1"], "server.rounds: must be an integer >= 1"),
    ("", ["client={lr: 0.1"], "--set client: line 1, column"),
    # contradictions
    ("client: {epochs: 1, steps: 3}", [], "client.steps: epochs and steps exclude each other"),
    ("partition: {alpha: 1, severity: 0.5}", [], "alpha and severity exclude each other"),
    (
        "devices: {table: a.csv, compute: {value: 1}}",
        [],
        "devices.compute: table and compute exclude each other",
    ),
    (
        "devices: {duration: {value: 1}, network: {}}",
        [],
        "devices.network: duration and network exclude each other",
    ),
    (
        "server: {schedule: {mode: buffered, on_stale: wait}}",
        [],
        "server.schedule.max_staleness: missing: on_stale wait needs a bound",
    ),
    (
        "server: {schedule: {mode: buffered, on_stale: wait, max_staleness: 1, buffer_size: 9}}",
        [],
        "server.schedule.buffer_size: 9 is more than the concurrency 8",
    ),
    (
        "server: {schedule: {mode: buffered, buffer_size: 4, every_s: 2}}",
        [],
        "server.schedule.every_s: buffer_size and every_s exclude each other: give one",
    ),
    (
        "privacy: {kind: central, noise_multiplier: 1}\n"
        "server: {weighting: uniform, schedule: {mode: buffered, every_s: 2}}",
        [],
        "server.schedule.every_s: the noise is made for sums over a number of updates",
    ),
    (
        "server: {schedule: {mode: buffered, every_s: 2, on_stale: wait, max_staleness: 1}}",
        [],
        "server.schedule.on_stale: wait is not allowed with every_s",
    ),
    (
        "partition: {clients: 5}\nserver: {schedule: {mode: async}}",
        [],
        "server.schedule.concurrency: 8 jobs at a time need as many clients, there are 5",
    ),
    (
        "server: {clients_per_round: 21}",
        [],
        "server.clients_per_round: 21 is more than the 20 clients (partition.clients)",
    ),
    (
        "server: {clients_per_round: 5, schedule: {mode: buffered}}",
        [],
        "server.clients_per_round: has no effect in mode buffered, it applies to sync",
    ),
    (
        "server: {aggregator: {kind: pairwise}}",
        [],
        "server.weighting: aggregator pairwise needs uniform, not 'examples': it counts every "
        "update as one",
    ),
    (
        "server: {aggregator: {kind: pairwise}, weighting: uniform, schedule: {mode: buffered}}",
        [],
        "server.schedule.mode: aggregator pairwise needs sync, not 'buffered'",
    ),
    ("partition: {scheme: natural}", [], "partition.scheme: natural needs data that says"),
    (
        "data: {source: diabetes}\npartition: {scheme: shards}",
        [],
        "partition.scheme: shards needs class labels",
    ),
    (
        "server: {schedule: {late: carry}}",
        [],
        "server.schedule.late: has no effect, since rounds wait for everyone",
    ),
    ("server: {schedule: {over_select: 1.3}}", [], "while server.clients_per_round is all"),
    (
        "data: {source: diabetes}\nstop: {accuracy: 0.9}",
        [],
        "stop.accuracy: the data is a regression, which has no accuracy",
    ),
    (
        "clock: wall\ndevices: {dropout: 0.1}",
        [],
        "devices: has no effect under clock wall",
    ),
    ("runtime: {executor: local, cpus: 2}", [], "runtime.cpus: has no effect with"),
    (
        "model: {kind: sklearn, estimator: a.B}\nclient: {epochs: 1.5}",
        [],
        "client.epochs: 1.5 is not allowed with model.kind sklearn",
    ),
    (
        "model: {kind: sklearn, estimator: a.B}\nclient: {lr: 0.5}",
        [],
        "client.lr: has no effect with model.kind sklearn",
    ),
    (
        "model: {kind: sklearn, estimator: a.B}\nalgorithm: fedprox",
        [],
        "client.prox_mu: has no effect with model.kind sklearn",
    ),
    (
        "devices: {jitter: {low: 2, high: 1}}",
        [],
        "devices.jitter.high: must be at least low 2, not 1",
    ),
    ("data: {source: synthetic, iid: true, beta: 0.5}", [], "data.beta: has no effect with"),
    ("devices: {compute: {value: 0}}", [], "devices.compute.value: a rate must be > 0, not 0"),
]


@pytest.mark.parametrize(("text", "overrides", "expected"), BAD, ids=[b[2][:50] for b in BAD])
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, text: str, overrides: list[str], expected: str
) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    sets = [word for override in overrides for word in ("--set", override)]
    result = CliRunner().invoke(cli, ["config", "show", str(file), *sets])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert expected in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("seed: 1")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    for name, expected in (
        ("mi.yaml", "no such file; did you mean 'my.yaml'?"),
        ("binary.yaml", "not text"),
        (".", "Is a directory"),
    ):
        result = CliRunner().invoke(cli, ["config", "show", str(tmp_path / name)])
        assert result.exit_code == 2
        assert expected in result.stderr


def test_alias_bomb_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    (tmp_path / "bomb.yaml").write_text("\n".join(lines))
    result = CliRunner().invoke(cli, ["config", "show", str(tmp_path / "bomb.yaml")])
    assert result.exit_code == 2
    assert "once its aliases are written out" in result.stderr


def test_verbose_shows_the_traceback(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("roundz: 1")
    arguments = ["config", "show", str(tmp_path / "bad.yaml"), "-v"]
    assert "Traceback" in CliRunner().invoke(cli, arguments).stderr
    assert "Traceback" not in CliRunner().invoke(cli, arguments[:-1]).stderr


@pytest.mark.parametrize("bound", ["", ", max_staleness: 10"])
def test_stale_updates_may_be_kept_with_a_bound_or_without(tmp_path: Path, bound: str) -> None:
    file = tmp_path / "keep.yaml"
    file.write_text(f"server: {{schedule: {{mode: buffered, on_stale: keep{bound}}}}}")
    done = CliRunner().invoke(cli, ["config", "show", str(file)])
    assert done.exit_code == 0, done.stderr
    assert "on_stale: keep" in done.stdout
