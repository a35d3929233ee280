"""Small federations that tests can reason about with pencil and paper; storage elsewhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedray.config import schema
from fedray.data.shards import ArrayShards
from fedray.learning.work import Work
from fedray.parts.attacks.base import Attack, crew
from fedray.parts.attacks.none import NoAttack
from fedray.parts.methods.base import Method
from fedray.parts.methods.plain import Plain
from fedray.parts.personal.base import Personal
from fedray.parts.personal.off import Off
from fedray.parts.privacy.base import Privacy
from fedray.parts.privacy.none import NoPrivacy
from fedray.parts.secure.base import NotSecure, Secure
from fedray.report.run import Run
from fedray.simulation.accounting import guarantee
from fedray.simulation.availability import Always
from fedray.simulation.executor import LocalExecutor
from fedray.simulation.flight import Flight
from fedray.simulation.plan import Plan, transforms
from fedray.simulation.population import Payload, Population
from fedray.types import Federation, Score

# A shell lets what it starts with `&` ignore Ctrl-C, and with it all that our tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Quadratic:
    """f(w) = mean over samples of x (w - y)^2 / 2, one parameter: all is known in closed form."""

    start: float = 0.0
    size: int = 1
    dtype: np.dtype[Any] = np.dtype(np.float64)

    def init(self, rng: np.random.Generator) -> Any:
        return np.full(1, self.start)

    def named(self, w: Any) -> dict[str, Any]:
        return {"w": w}

    def loss(self, w: Any, X: Any, y: Any) -> float:
        return float(np.mean(X[:, 0] * (w[0] - y) ** 2) / 2)

    def gradient(self, w: Any, X: Any, y: Any, out: Any) -> None:
        out[0] = np.mean(X[:, 0] * (w[0] - y))

    def score(self, w: Any, X: Any, y: Any) -> Score:
        return Score(len(y), self.loss(w, X, y) * len(y), None, 0.0, float(y.sum()), 1.0)


Devices = Callable[[int], np.ndarray]


@dataclass(frozen=True)
class Toy:
    """A federation of quadratics: client i has curvature a_i, minimum m_i, one sample of them.

    Or `samples[i]` of the same, for clients of different sizes.
    """

    a: Sequence[float]
    m: Sequence[float]
    duration_s: Sequence[float]
    config: schema.Config
    start: float = 0.0
    jitter: schema.Distribution = schema.Constant(value=1.0)
    dropout: float = 0.0
    model: Any = None
    """Another than Quadratic(start)."""
    samples: Sequence[int] | None = None

    @property
    def sizes(self) -> np.ndarray:
        return np.array(self.samples or [1] * len(self.a), np.int64)

    @property
    def federation(self) -> Federation:
        X = np.repeat(np.array(self.a, float), self.sizes)[:, None]
        y = np.repeat(np.array(self.m, float), self.sizes)
        shards = ArrayShards(X=X, y=y, offsets=np.append(0, np.cumsum(self.sizes)))
        tests = shards if self.config.personal.held_out else None
        return Federation(shards, X, y, ("x",), (), None, None, tests=tests)

    @property
    def plan(self) -> Plan:
        clients, server = len(self.a), self.config.server
        none = np.zeros(clients)
        cohort = clients if server.clients_per_round == "all" else int(server.clients_per_round)
        spent = guarantee(self.config, clients, cohort)
        return Plan(
            config=self.config,
            work=Work(
                self.model or Quadratic(self.start), self.config.client, self.config.seed, True,
                method=self.config.personal.method(self.config.method),
                personal=self.config.personal, transforms=transforms(self.config, spent),
                attackers=crew(self.config.attack, clients, 0, self.config.seed),
            ),
            population=Population(
                none, np.array(self.duration_s, float), none, self.jitter, self.dropout,
                Always(), Payload(8, 8),
            ),
            sizes=self.sizes,
            cohort=cohort,
            classification=False,
            privacy=spent,
        )  # fmt: skip

    def fly(self, folder: Path) -> Run:
        """Runs to the end in this process."""
        return self.flown(folder)[0]

    def flown(self, folder: Path) -> tuple[Run, LocalExecutor]:
        """Runs to the end in this process; the executor has what clients then remember."""
        executor = LocalExecutor(self.plan.work, self.federation)
        self.trace(folder, executor)
        return Run(folder), executor

    def trace(self, folder: Path, executor: LocalExecutor | None = None) -> list[float]:
        """Runs to the end; the parameter of the versions 1, 2, ..., as it is read out."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text("name: toy\n")
        executor = executor or LocalExecutor(self.plan.work, self.federation)
        flight = Flight(self.plan, self.federation, executor, folder)
        found = {}
        for progress in flight.run({"kind": "local"}):
            model = flight._loop.model
            assert progress.version == model.version
            found[progress.version] = float(model.readout[0])
        return list(found.values())

    def final(self, folder: Path) -> float:
        """The last version's parameter."""
        return float(self.fly(folder).model["w"][0])


@pytest.fixture
def toy() -> Callable[..., Toy]:
    """Makes a Toy; `client` and `server` are given as schema records."""

    def make(
        a: Sequence[float],
        m: Sequence[float],
        *,
        client: schema.Client,
        server: schema.Server,
        duration_s: Sequence[float] | None = None,
        seed: int = 0,
        eval_every: int = 10**9,
        method: Method | None = None,
        personal: Personal | None = None,
        attack: Attack | None = None,
        compression: schema.Compression | None = None,
        privacy: Privacy | None = None,
        secure: Secure | None = None,
        **more: Any,
    ) -> Toy:
        config = replace(
            schema.Config(seed=seed, checkpoint=schema.Checkpoint(every=0)),
            client=client, server=server, eval=schema.Eval(every=eval_every),
            method=method or Plain(), attack=attack or NoAttack(), personal=personal or Off(),
            compression=compression or schema.Compression(),
            privacy=privacy or NoPrivacy(), secure_aggregation=secure or NotSecure(),
        )  # fmt: skip
        return Toy(a, m, duration_s or [1.0] * len(a), config, **more)

    return make


@pytest.fixture(scope="session")
def options() -> Iterator[str]:
    """What the URIs of a bucket on moto's S3, in this process, end with."""
    from moto.server import ThreadedMotoServer  # slow to import: not for who deselects it
    from pyarrow import fs

    keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED")
    before = {key: os.environ.get(key) for key in keys}
    os.environ.update(dict.fromkeys(keys, "true"))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    ends = f"?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
    made, _ = fs.FileSystem.from_uri(f"s3://bucket{ends}&allow_bucket_creation=true")
    made.create_dir("bucket")
    yield ends
    server.stop()
    for key, value in before.items():
        os.environ.pop(key) if value is None else os.environ.update({key: value})
