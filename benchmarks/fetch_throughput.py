"""What ``fetch`` costs beside waiting for the server, and whether its memory stays flat.

    python benchmarks/fetch_throughput.py [--patients 425] [--full-patients 8]

Runs the replica of the site in a process of its own, without throttle, and mirrors it twice: 27 small
files a patient for many patients (the bookkeeping), then full-size matrices (the checking and writing).
Beside it stands the shortest script that does the job badly: get, write, nothing checked or flushed.
Ends with 1 when a file costs more than 20 ms outside waiting, or memory grows by more than 60 MB.
"""

from __future__ import annotations

import argparse
import datetime
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
MOST_MS_A_FILE = 20.0
MOST_GROWTH_MB = 60.0


@contextmanager
def replica(patients: int, shape: str) -> Iterator[str]:
    """The address of a replica that runs elsewhere; its matrices are few and shared, so that serving is quick."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "tests" / "dmr_replica.py"), "--patients", str(patients), "--shape", shape,
         "--variety", "8", "--port", "0"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[0]
    finally:
        process.kill()
        process.wait()


class Watch:
    """A progress that notes the process's peak memory as the work goes on."""

    def __init__(self) -> None:
        self.peaks_mb: list[float] = []

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[Watch]:
        yield self

    def advance(self, steps: float = 1) -> None:
        self.peaks_mb.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    def say(self, text: str) -> None:
        return None

    def note(self, text: str) -> None:
        return None


def fetch_all(url: str, shape: str, folder: Path, connections: int) -> float:
    """Mirror the replica; prints a line and returns milliseconds a file outside waiting."""
    from thermocancer.config import load_config
    from thermocancer.dmr.credentials import Credentials
    from thermocancer.stages import fetch
    from thermocancer.workspace import Workspace

    size = [int(part) for part in shape.split("x")]
    options = {"fetch.url": url, "fetch.interval_s": 0, "fetch.shape": size, "fetch.connections": connections}
    config = load_config(options=options, workspace=folder, environment={})
    watch, cpu_s = Watch(), time.process_time()
    account = Credentials.of("replica-user", "replica-pass")
    report = fetch.run(config, Workspace(folder), watch, credentials=account, today=datetime.date(2026, 1, 1))
    figures = report.figures
    files = figures["new"]
    cpu_ms = (time.process_time() - cpu_s) / files * 1000
    own_ms = (figures["seconds"] - figures["waiting_seconds"] - figures["pausing_seconds"]) / files * 1000
    tenth = len(watch.peaks_mb) // 10
    growth = watch.peaks_mb[-1] - watch.peaks_mb[tenth]
    print(
        f"fetch   {shape:>8}  {files:6d} files  {figures['seconds']:7.1f} s  {figures['bytes'] / 1e6:8.1f} MB  "
        f"waiting {figures['waiting_seconds']:6.1f} s  outside waiting {own_ms:5.2f} ms a file "
        f"(processor {cpu_ms:.2f})  memory at most {watch.peaks_mb[-1]:.0f} MB, +{growth:.0f} MB after the first tenth"
    )
    if growth > MOST_GROWTH_MB:
        raise SystemExit(f"memory grew by {growth:.0f} MB")
    return own_ms


def plain_script(url: str, folder: Path, fetched: Path) -> float:
    """Get the same files with requests and write them; returns seconds."""
    import requests

    session = requests.Session()
    session.trust_env = False
    names = sorted(path.name for path in fetched.rglob("T*.txt"))
    started = time.perf_counter()
    for name in names:
        content = session.get(f"{url}bancovl/{name[1:5]}/{name}").content
        (folder / name).write_bytes(content)
    return time.perf_counter() - started


def compare(patients: int, shape: str, connections: int) -> float:
    with replica(patients, shape) as url, tempfile.TemporaryDirectory() as scratch:
        ours, theirs = Path(scratch, "ours"), Path(scratch, "theirs")
        theirs.mkdir()
        started = time.perf_counter()
        own_ms = fetch_all(url, shape, ours, connections)
        seconds = time.perf_counter() - started
        plain = plain_script(url, theirs, ours)
        print(
            f"plain   {shape:>8}  the same files unchecked: {plain:.1f} s; fetch takes {seconds / plain:.1f} times that"
        )
    return own_ms


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=425)
    parser.add_argument("--full-patients", type=int, default=8, help="patients with full-size matrices, 50 MB each")
    parser.add_argument("--connections", type=int, default=1)
    chosen = parser.parse_args()
    costs = [compare(chosen.patients, "48x64", chosen.connections)]
    costs.append(compare(chosen.full_patients, "480x640", chosen.connections))
    sys.exit(max(costs) > MOST_MS_A_FILE)


if __name__ == "__main__":
    main()
