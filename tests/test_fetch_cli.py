"""The command as a shell, a cron job and a terminal meet it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from dmr_replica import PASSWORD, USER, Faults, Replica
from dmr_replica_content import cohort, fixtures
from fetch_fixtures import SHAPE, Client, cli_arguments, cli_environment
from typer.testing import CliRunner

from thermocancer.cli import register


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Replica(cohort(2, SHAPE, dynamic_exams=False)).running() as replica:
        yield Client(replica, tmp_path / "study")


def call(client: Client, *more: str, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        cli_arguments(client, *more), env=cli_environment(password), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip


def test_cron_prints_plain_lines_then_nothing(client: Client) -> None:
    done = call(client)
    assert done.returncode == 0
    assert "10 new" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    again = call(client, "--quiet")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")


def test_the_lock_of_a_living_process_is_respected(client: Client) -> None:
    with client.workspace.lock("raw"):
        held = call(client)
    assert held.returncode == 75


def test_no_account_and_no_terminal_is_a_config_error(client: Client) -> None:
    environment = cli_environment()
    del environment["THERMOCANCER_PASSWORD"]
    done = subprocess.run(
        cli_arguments(client), env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "THERMOCANCER_PASSWORD" in done.stderr
    assert USER not in done.stderr


def test_on_a_terminal_the_account_is_asked_for_and_the_password_not_shown(client: Client) -> None:
    environment = cli_environment() | {"TERM": "xterm"}
    del environment["THERMOCANCER_USER"], environment["THERMOCANCER_PASSWORD"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        cli_arguments(client), env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=_take_terminal,
    )  # fmt: skip
    os.close(theirs)
    shown = _read_until(ours, b"site")
    os.write(ours, USER.encode() + b"\n")
    shown += _read_until(ours, b"Password: ")
    os.write(ours, PASSWORD.encode() + b"\n")
    shown += _read_until(ours, None)
    os.close(ours)
    assert process.wait(30) == 0
    assert PASSWORD.encode() not in shown
    assert len(client.tree()) == 10


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _read_until(terminal: int, text: bytes | None) -> bytes:
    shown = b""
    while text is None or text not in shown:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # the other side has closed: the process ended
            return shown
        if not piece:
            return shown
        shown += piece
    return shown


def test_no_secret_in_any_output_or_file(tmp_path: Path) -> None:
    secret = "letters-nobody-may-see"
    workspace = tmp_path / "study"
    content = fixtures(SHAPE)
    with Replica(content, Faults(validators=True, unavailable={"T0002.1.2.S": 1})).running() as replica:
        client = Client(replica, workspace)
        outputs = [
            call(client, "--verbose", "--json", str(tmp_path / "report.json")),
            call(client, "--verbose", "--dry-run", "--json", "-"),
            call(client, "--verbose", "--json", str(tmp_path / "refused.json"), password=secret),
            call(client, "--verbose", "--set", "fetch.url=http://127.0.0.1:9/dmi/", "--set", "fetch.retries=0",
                 password=secret),
            call(client, "--verbose", "--set", "fetch.timeout_s=oops", password=secret),
        ]  # fmt: skip
        replica.faults.login_failure = "login"
        outputs.append(call(client, "--verbose", password=secret))
    assert [each.returncode for each in outputs] == [5, 0, 4, 4, 2, 4]
    shown = subprocess.run(
        [sys.executable, "-m", "thermocancer", "config", "show", "-w", str(workspace)], env=cli_environment(secret),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    texts = [each.stdout + each.stderr for each in (*outputs, shown)]
    texts += [path.read_text("utf-8", "replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert len(texts) > len(content.tree)
    for text in texts:
        assert PASSWORD not in text
        assert secret not in text
        assert USER not in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"new", "unchanged", "changed", "missing", "refused", "failed", "requests", "bytes", "seconds"} <= set(
        report["figures"]
    )
    assert all(each["reason"] for each in report["figures"]["reasons"]["failed"])


@pytest.mark.parametrize(
    ("options", "key"),
    [
        (["--view", "Back"], "fetch.views"),
        (["--since", "yesterday"], "fetch.since"),
        (["--protocol", "X"], "fetch.protocols"),
        (["--insecure", "--ca-bundle", "x.pem"], "fetch.ca_bundle"),
        (["--connections", "9"], "fetch.connections"),
    ],
)
def test_wrong_options_name_their_key(client: Client, options: list[str], key: str) -> None:
    done = CliRunner(env=cli_environment()).invoke(register(), [*cli_arguments(client)[3:], *options])
    assert done.exit_code == 2
    assert key in done.stderr
    assert not client.replica.seen


def test_interrupted_is_130_and_keeps_what_was_fetched(client: Client) -> None:
    import signal
    import time

    client.replica.faults.delay_s = 0.02
    process = subprocess.Popen(
        cli_arguments(client), env=cli_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while len(client.replica.requests("bancovl")) < 4 and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "goes on where this one stopped" in errors
    there = len(client.tree())
    assert 1 <= there < 10
    assert {each.path for each in client.catalog()} == set(client.tree())
