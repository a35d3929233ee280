"""What a launch shows while it runs."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from fedray.api.outlook import outlook
from fedray.cli.display import LiveDisplay, PlainDisplay, Track, flow
from fedray.config.load import load
from fedray.simulation.plan import build_plan
from fedray.simulation.progress import Progress
from fedray.types import Metrics

PLAN, _ = build_plan(load({"data": {"source": "iris"}, "server": {"rounds": 100}}).config, Path())


def at(
    version: int,
    *,
    accuracy: float = 0.5,
    wall_time_s: float | None = None,
    best: float | None = None,
) -> Progress:
    return Progress(
        version=version, rounds=100, virtual_time_s=10.0 * version,
        metrics=Metrics(loss=1 - accuracy, accuracy=accuracy), staleness_mean=1.25, in_flight=8,
        updates=4 * version, wall_time_s=version / 2 if wall_time_s is None else wall_time_s,
        best=accuracy if best is None else best,
    )  # fmt: skip


def test_time_left_and_speed_are_those_of_this_session() -> None:
    track = Track()
    track.take(at(40, wall_time_s=1000.0))  # resumed: 40 versions took an age on another day
    assert track.left_s is None
    track.take(at(50, wall_time_s=1005.0))
    assert track.left_s == pytest.approx(25.0)  # 0.5 s a version, 50 to go
    assert track.updates_per_s == pytest.approx(8.0)


def test_a_limit_on_virtual_time_counts_as_far_as_it_is_nearer() -> None:
    config = load({"data": {"source": "iris"}, "stop": {"virtual_time_s": 500}}).config
    track = Track()
    track.planned(outlook(build_plan(config, Path())[0], Path("runs/x")))
    track.take(at(10))
    assert track.done == pytest.approx(0.2)


def test_best_figures_are_kept() -> None:
    track = Track()
    for version, (accuracy, best) in enumerate([(0.5, 0.5), (0.8, 0.8), (0.6, 0.8)], 1):
        track.take(at(version, accuracy=accuracy, best=best))
    assert "accuracy 60.0% (best 80.0%)" in track.figures()
    assert "loss 0.4 (best 0.2)" in track.figures()


@pytest.mark.parametrize("width", [40, 70, 110])
def test_flow_breaks_no_phrase(width: int) -> None:
    track = Track()
    track.take(at(7))
    lines = flow(track.figures(), width)
    assert " · ".join(lines) == " · ".join(track.figures())
    assert all(len(line) <= width for line in lines)


@pytest.mark.parametrize("width", [70, 110])
def test_the_live_display_fits_the_terminal_at_every_stage(width: int) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, color_system=None)
    display = LiveDisplay(console)

    def shown() -> str:
        screen.truncate(screen.seek(0))
        console.print(display.render())
        return screen.getvalue()

    assert "reading and splitting" in shown()
    display.planned(outlook(PLAN, Path("runs/x")))
    assert "starting Ray" in shown()
    display.starting(3, 21)
    assert "actors 3/21 up" in shown()
    display.progress(at(20))
    display.progress(at(30))
    text = shown()
    assert all(word in text for word in ("30/100 versions", "30%", "0:00:35 left", "8 in flight"))
    assert all(len(line) <= width for line in text.splitlines())
    display.interrupting()
    assert "Ctrl-C again" in shown()


def test_plain_lines_come_at_every_tenth_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay()
    display.planned(outlook(PLAN, Path("runs/x")))
    for version in range(1, 101):
        display.progress(at(version))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("version")]
    assert [line.split()[1] for line in lines] == [f"{n}/100" for n in range(10, 101, 10)]
