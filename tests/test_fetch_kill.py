"""SIGKILL at random moments, then one clean run: as if nothing had happened. (The benchmark does fifty.)"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dmr_replica import Faults, Replica
from dmr_replica_content import cohort, fixtures
from fetch_fixtures import SHAPE, Client, check_answer_key, comparable, kill_fetch

from thermocancer.dmr.mirror import JOURNAL


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The mirror of the hard cases when nothing happens."""
    with Replica(fixtures(SHAPE), Faults(validators=True)).running() as replica:
        client = Client(replica, tmp_path_factory.mktemp("undisturbed"))
        client.fetch()
        return comparable(client)


@pytest.mark.parametrize("moment", range(5))
def test_killed_then_clean_is_byte_identical(tmp_path: Path, undisturbed: dict[str, bytes], moment: int) -> None:
    rng = np.random.default_rng([2026, moment])
    content = fixtures(SHAPE)
    with Replica(content, Faults(validators=True, delay_s=0.002)).running() as replica:
        client = Client(replica, tmp_path / "killed")
        connections = 1 + 2 * (moment % 2)
        killed = kill_fetch(
            client, after_requests=int(rng.integers(20, 105)), then_s=float(rng.uniform(0, 0.01)),
            more=(f"--connections={connections}",),
        )  # fmt: skip
        assert killed
        whole = set(client.tree())
        replica.forget()
        client.fetch()
        again = [path for path in whole if path.split("/")[-1] in {each.split("/")[-1] for each in replica.requests()}]
        assert not again, "nothing whole is fetched twice"
        check_answer_key(client, content)
    assert comparable(client) == undisturbed
    assert JOURNAL not in client.snapshot()


def test_killed_while_replacing_changed_files(tmp_path: Path) -> None:
    content = cohort(2, SHAPE, dynamic_exams=False)
    later = cohort(2, SHAPE, dynamic_exams=False, seed=5)
    for number, patient in later.patients.items():
        patient.rows, patient.visits = content.patients[number].rows, content.patients[number].visits
    with Replica(content, Faults(validators=True, delay_s=0.002)).running() as replica:
        mirrors = [Client(replica, tmp_path / name) for name in ("killed", "undisturbed")]
        for each in mirrors:
            each.fetch()
        for path, bodies in content.files.items():
            bodies[:] = [lambda body=bodies[0]: body().replace(b" 3", b" 2", 50)]
            content.tree[next(each for each in content.tree if path.endswith(each.split("/")[-1]))] = bodies[0]
        for after in (14, 13, 16):
            kill_fetch(mirrors[0], after_requests=after, then_s=0.002, more=("--recheck", "validators"))
        for each in mirrors:
            each.fetch(recheck="validators")
            check_answer_key(each, content)
    assert comparable(mirrors[0]) == comparable(mirrors[1])
    assert len([path for path in mirrors[0].snapshot() if path.startswith("replaced/")]) == 10
