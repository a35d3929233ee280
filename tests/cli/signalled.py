"""fedray in a process of its own, which gets a signal as soon as it says something."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
QUICK = {
    "runtime.executor": "local",
    "data.source": "linear_regression",
    "data.clients": "6",
    "partition.scheme": "natural",
    "model.kind": "linear",
    "client.lr": "0.01",
    "server.rounds": "10",
    "server.schedule.concurrency": "4",
    "server.schedule.buffer_size": "2",
    "output.report": "false",
}
"""A run for which a new process need not import scikit-learn, which takes longer than the run."""

SCRIPT = """
import os, sys
from fedray.cli import main
word, number = sys.argv[1], int(sys.argv[2])
write = sys.stderr.write
def listening(text):
    global word
    count = write(text)
    if word and word in text:
        word = ""
        os.kill(os.getpid(), number)
    return count
sys.stderr.write = listening
sys.argv = ["fedray", *sys.argv[3:]]
main()
"""


def quick(**more: str) -> list[str]:
    """QUICK with these settings, as arguments."""
    dotted = {key.replace("__", "."): value for key, value in more.items()}
    return [part for k, v in {**QUICK, **dotted}.items() for part in ("--set", f"{k}={v}")]


def signalled(
    word: str, number: signal.Signals, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    """What became of `fedray arguments`, which was sent a signal when `word` was on stderr.

    By itself, so that the run can be short: it cannot be over before a test has seen the word.
    """
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, word, str(int(number)), *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
