"""Many pieces of work: the same results by one process, by workers, and after a worker was killed."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from thermocancer import compute
from thermocancer.compute import on_dask, run_all, worker_count
from thermocancer.compute.on_dask import batch_cluster, connect
from thermocancer.config import load_config
from thermocancer.config.learning import ClusterSection, ComputeSection
from thermocancer.errors import DataError, RunError
from thermocancer.stages import doctor


@dataclass(frozen=True)
class Squares:
    """Squares numbers; the first worker to meet ``deadly`` is killed by it, and every one where ``again``."""

    marks: Path
    deadly: int | None = None
    again: bool = False

    def run(self, number: int) -> tuple[int, int]:
        if number < 0:
            raise DataError("a negative number", where="piece", found=number)
        with (self.marks / "pids").open("a") as handle:
            handle.write(f"{os.getpid()}\n")
        if number == self.deadly:
            known = self.marks / "killed"
            if self.again or not known.exists():
                known.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return number, number**2


@pytest.mark.parametrize("engine", ["local", "dask"])
def test_a_killed_workers_piece_is_done_again(engine: str, tmp_path: Path) -> None:
    section = ComputeSection(engine=engine, workers=2)
    try:
        told: list[str] = []
        found = sorted(run_all(Squares(tmp_path, deadly=3), list(range(8)), section, told.append))
        assert [("/status" in each) for each in told] == [True] * (engine == "dask")
    finally:
        if engine == "dask":
            client = connect(section, 2)
            cluster = client.cluster
            client.close()
            cluster.close()
            connect.cache_clear()
    assert found == [(number, number**2) for number in range(8)]
    assert (tmp_path / "killed").exists()
    assert str(os.getpid()) not in (tmp_path / "pids").read_text().split()


@pytest.mark.parametrize("same", [True, False], ids=["same", "another version"])
def test_doctor_looks_at_the_scheduler(tmp_path: Path, same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    import distributed

    settings = {"n_workers": 1, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**settings) as cluster:
        config = load_config(
            assignments=[f"compute.address={cluster.scheduler_address}", "compute.engine=dask", "compute.workers=2",
                         "strategy.threads=1"], environment={},
        )  # fmt: skip
        if not same:
            monkeypatch.setattr(on_dask.platform, "python_version", lambda: "2.7")
        (found,) = doctor._compute(config)
        assert (found.state, cluster.scheduler_address in found.text) == (("ok", True) if same else ("bad", False))
        assert ("/status" in found.text) if same else ("python is not the same" in found.text)
    (gone,) = doctor._compute(config)
    assert gone.state == "bad"
    assert "cannot be reached" in gone.text


def test_a_piece_that_kills_every_worker_ends_the_work(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="again and again") as caught:
        list(run_all(Squares(tmp_path, 1, True), [0, 1, 2], ComputeSection(workers=2)))
    assert "compute.workers" in str(caught.value.hint)


def test_what_a_worker_raises_arrives_whole(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        list(run_all(Squares(tmp_path), [-1, 2], ComputeSection(workers=2)))
    assert caught.value.fields() == {"what": "a negative number", "where": "piece", "found": "-1"}


@pytest.mark.parametrize(
    ("section", "pieces", "free", "expected"),
    [
        (None, 9, None, 1),
        (ComputeSection(), 9, None, 1),
        (ComputeSection(workers=3), 1, None, 1),
        (ComputeSection(workers=3), 9, 10**8, 3),
        (ComputeSection(workers="auto"), 9, 10**8, 1),
        (ComputeSection(workers="auto", memory_gb=0.05), 9, 10**8, 2),
    ],
)
def test_workers_are_as_many_as_cores_and_memory_allow(
    section: ComputeSection | None, pieces: int, free: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("joblib.externals.loky.cpu_count", lambda: 8)
    monkeypatch.setattr(compute, "free_memory_bytes", lambda: free)
    assert worker_count(section, pieces) == expected


def test_the_job_that_slurm_is_given() -> None:
    section = ClusterSection(queue="cpu", walltime="01:30:00", directives=("--account=breast",))
    cluster = batch_cluster(section, 3.0)  # nothing is submitted before it is scaled
    try:
        lines = cluster.job_script().splitlines()
    finally:
        cluster.close()
    head = [line.split(" ", 1)[1] for line in lines if line.startswith("#SBATCH")]
    assert {"-p cpu", "-t 01:30:00", "--account=breast", "--cpus-per-task=1"} <= set(head)
    assert any(each.startswith("--mem=3G") for each in head)
    assert "--nthreads 1" in " ".join(lines)
