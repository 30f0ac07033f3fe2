"""What the tests of ``fetch`` share: a client for the replica, and the comparison with the answer key."""

from __future__ import annotations

import datetime
import json
import os
import re
import signal
import subprocess
import sys
import time
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


def check_answer_key(client: Client, content: Content) -> set[str]:
    """The tree byte for byte, the catalog file by file, each problem with its reason. Returns the files that are ok."""
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
    return {each.path for each in records if each.status == "ok"}


def problem_key(record: Record) -> tuple[str, int, str]:
    name = str(record.extra["href"]) if record.status == "refused" else record.name.file_name
    return record.status, record.patient, name


def cli_environment(password: str = PASSWORD) -> dict[str, str]:
    """The environment of a shell with the account set, and nothing else of ours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("THERMOCANCER_")}
    return kept | {"THERMOCANCER_USER": USER, "THERMOCANCER_PASSWORD": password}


def cli_arguments(client: Client, *more: str) -> list[str]:
    """The command a user would type, with the settings that make the replica quick."""
    settings = [f"--set={name}={json.dumps(value)}" for name, value in QUICK.items()]
    return [sys.executable, "-m", "thermocancer", "fetch", "-w", str(client.root), "--url", client.replica.url,
            *settings, *more]  # fmt: skip


def kill_fetch(client: Client, *, after_requests: int, then_s: float, more: tuple[str, ...] = ()) -> bool:
    """Run the command and SIGKILL it when the server has seen so many requests, and a little later.

    Returns whether it was killed (and had not ended by itself).
    """
    client.replica.forget()
    process = subprocess.Popen(
        cli_arguments(client, *more), env=cli_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while len(client.replica.seen) < after_requests and process.poll() is None:
        time.sleep(0.0005)
    time.sleep(then_s)
    process.kill()
    return process.wait() == -signal.SIGKILL


def comparable(client: Client) -> dict[str, bytes]:
    """The mirror, but for the day on which the clinical fields were read."""
    found = client.snapshot()
    found["patients.jsonl"] = re.sub(rb'"read": "[0-9-]+"', b'"read": ""', found["patients.jsonl"])
    return found
