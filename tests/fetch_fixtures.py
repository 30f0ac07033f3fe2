"""What the tests of ``fetch`` share: a client for the replica, and the comparison with the answer key."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmr_replica import PASSWORD, USER, Replica
from dmr_replica_content import Content

from thermocancer.config import Config, load_config
from thermocancer.data.catalog import Record, read_catalog
from thermocancer.dmr.credentials import Credentials
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import Silent
from thermocancer.stages import fetch
from thermocancer.workspace import Workspace

SHAPE = (48, 64)
QUICK = {"fetch.interval_s": 0, "fetch.backoff_s": 0.005, "fetch.shape": list(SHAPE), "fetch.timeout_s": 5}
TODAY = datetime.date(2026, 1, 2)


@dataclass
class Client:
    """``fetch`` against one replica, in one workspace."""

    replica: Replica
    root: Path
    password: str = PASSWORD

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.root)

    def config(self, **settings: Any) -> Config:
        own = {f"fetch.{name}": value for name, value in settings.items()}
        return load_config(options={**QUICK, "fetch.url": self.replica.url, **own}, workspace=self.root, environment={})

    def fetch(self, *, today: datetime.date = TODAY, **settings: Any) -> StageReport:
        account = Credentials.of(USER, self.password)
        return fetch.run(self.config(**settings), self.workspace, Silent(), credentials=account, today=today)

    def plan(self, **settings: Any) -> Plan:
        return fetch.plan(self.config(**settings), self.workspace, credentials=Credentials.of(USER, self.password))

    def catalog(self) -> list[Record]:
        return read_catalog(self.workspace)

    def snapshot(self) -> dict[str, bytes]:
        """Every file under raw/, by its path."""
        raw = self.workspace.raw
        return {path.relative_to(raw).as_posix(): path.read_bytes() for path in raw.rglob("*") if path.is_file()}

    def tree(self) -> dict[str, bytes]:
        return {path: body for path, body in self.snapshot().items() if path.startswith(("Static/", "Dynamic/"))}


def check_answer_key(client: Client, content: Content) -> None:
    """The tree byte for byte, the catalog file for file, and every problem with its reason."""
    assert client.tree() == {path: body() for path, body in content.tree.items()}
    records = client.catalog()
    assert {each.path for each in records if each.status == "ok"} == set(content.tree)
    for each in records:
        if each.status == "ok":
            assert each.label == each.path.split("/")[-2 if each.protocol == "S" else 1]
            assert each.sha256
            assert each.bytes == len(content.tree[each.path]())
            assert each.layout
    found = {problem_key(each): each.reason for each in records if each.status != "ok"}
    assert found.keys() == content.problems.keys()
    for key, reason in content.problems.items():
        assert reason in found[key], key


def problem_key(record: Record) -> tuple[str, int, str]:
    name = str(record.extra["href"]) if record.status == "refused" else record.name.file_name
    return record.status, record.patient, name
