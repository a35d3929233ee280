"""Opening a run folder, whatever state it is in."""

from __future__ import annotations

import numpy as np
import pytest
from run_folder import write_run

from fedray.errors import InputError
from fedray.report.run import Run

NASTY = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return Run(write_run(tmp_path_factory.mktemp("runs") / "quick"))


def test_tables_model_and_summary_are_at_hand(quick):
    assert quick.rounds.num_rows == 51
    assert quick.clients.to_pandas().examples.min() > 0
    assert quick.updates.num_rows == quick.summary["updates"]["applied"] + 11
    assert quick.model["coef"].shape == (10, 64)
    assert quick.client_evals.num_rows == 0
    assert quick.config["partition"]["alpha"] == 0.3
    assert quick.rounds is quick.rounds


def test_it_shows_itself(quick):
    assert "50 versions, accuracy 90.0% (best 91.1% at 48)" in repr(quick)
    card = quick._repr_html_()
    assert "<svg" in card
    assert "90.0%" in card


def test_its_plot_has_both_figures_over_versions_and_time(quick):
    figure = quick.plot()
    assert len(figure.axes) == 4
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_an_interrupted_run_is_read_from_its_parts(tmp_path):
    run = Run(write_run(tmp_path / "r", interrupted=True))
    assert run.summary == {}
    assert run.model == {}
    assert run.updates.num_rows == 200
    assert not run.finished
    assert "unfinished" in repr(run)
    assert "unfinished" in run._repr_html_()


def test_the_card_escapes_names(tmp_path):
    card = Run(write_run(tmp_path / "r", versions=2, config={"name": NASTY}))._repr_html_()
    assert "<script" not in card
    assert "&lt;script" in card


@pytest.mark.parametrize("make", ["absent", "empty", "config only"])
def test_what_is_no_run_is_refused_in_one_line(tmp_path, make):
    path = tmp_path / "r"
    if make != "absent":
        path.mkdir()
    if make == "config only":
        (path / "config.yaml").write_text("name: x\n")
    with pytest.raises(InputError, match=r"rounds\.parquet") as caught:
        Run(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("summary.json", lambda run: run.summary),
        ("model.npz", lambda run: run.model),
        ("rounds.parquet", lambda run: run.rounds),
        ("config.yaml", lambda run: run.config),
    ],
)
def test_a_broken_file_is_named(tmp_path, file, read):
    path = write_run(tmp_path / "r", versions=2)
    (path / file).write_bytes(b"{: \x00broken")
    with pytest.raises(InputError, match=file):
        read(Run(path))


def test_a_pickle_in_the_model_is_not_opened(tmp_path):
    path = write_run(tmp_path / "r", versions=2)
    np.savez(path / "model.npz", coef=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"model\.npz"):
        _ = Run(path).model
