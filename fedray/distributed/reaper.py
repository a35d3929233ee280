"""Cleans up after a private Ray, also when its driver was killed.

Runs as a process of its own, in a session of its own (no Ctrl-C reaches it), and reads
its standard input, which ends when the driver closes it or dies. What is left then of
the Ray that writes into the given folder is ended, and the folder is removed.

Ray ties the raylet's life to the driver's, but on a killed driver its agents stay behind
(Ray 2.60), and nobody removes the folder.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import psutil

GRACE_S = 1.0
"""Processes may leave by themselves for so long before they are killed."""
LIMIT_S = 10.0


def writers(root: Path) -> list[psutil.Process]:
    """Processes that have a file below `root` open for writing.

    Every process of a Ray logs below its temporary folder. Command lines would not do:
    workers rename themselves. Readers (`tail -f` on a log) are none of ours.
    """
    found = []
    prefix = f"{root}/"
    for process in psutil.process_iter():
        try:
            files = process.open_files()
        except (psutil.Error, OSError):
            continue  # gone, a zombie, or another user's
        if any(f.path.startswith(prefix) and getattr(f, "mode", "w") != "r" for f in files):
            found.append(process)
    return found


def reap(root: Path, spare: int) -> None:
    """Ends every writer below `root` except the process `spare`, then removes `root`."""
    start = time.monotonic()
    while time.monotonic() - start < LIMIT_S:
        alive = [process for process in writers(root) if process.pid != spare]
        if not alive:
            shutil.rmtree(root, ignore_errors=True)
            if not root.exists():
                return
        elif time.monotonic() - start > GRACE_S:
            for process in alive:
                try:
                    process.kill()
                except psutil.Error:
                    continue
        time.sleep(0.05)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    reap(Path(sys.argv[1]), spare=int(sys.argv[2]))
