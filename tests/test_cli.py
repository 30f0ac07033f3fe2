"""The command line itself: exit codes, plain output, JSON reports, quiet, dry run, locks."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from thermocancer.cli import common, console, register
from thermocancer.errors import ConfigError, check_installed, install_hint
from thermocancer.locks import stage_lock

ESCAPE = "\x1b"


def call(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as cron would: no terminal, its own process."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("THERMOCANCER_")}
    return subprocess.run(
        [sys.executable, "-m", "thermocancer", *arguments],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, env=clean | environment, timeout=240, check=False,
    )  # fmt: skip


SMALL = ["--patients", "4", "--seed", "3", "--shape", "48x64", "--set", "simulate.dynamic=false"]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    done = call("simulate", *SMALL, "-w", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["config", "check"], 0, "valid"),
        (["config", "check", "--set", "autoencoder.epoch=5"], 2, "autoencoder.epochs"),
        (["config", "check", "-c", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["simulate", "--no-such-option"], 2, "no-such-option"),
        (["cook"], 2, "cook"),
        (["convert"], 3, "no thermograms"),
        (["train-ae", "--variant", "v9"], 2, "where: --variant"),
        (["fetch", "--connections", "99"], 2, "where: --connections"),
        (["predict", "here.txt", "--run", "x/y"], 2, "where: --run"),
        (["compare", "one"], 2, "where: RUN RUN..."),
        (["evaluate", "--ru", "a"], 2, "--run"),
        (["build-dataset"], 3, "no thermograms"),
    ],
    ids=[
        "fine",
        "unknown-key",
        "no-file",
        "no-option",
        "no-command",
        "no-data-convert",
        "variant",
        "connections",
        "name-of-run",
        "one-run",
        "near-option",
        "no-data-build",
    ],
)
def test_exit_codes_and_what_is_said(tmp_path: Path, arguments: list[str], code: int, part: str) -> None:
    where = ["-w", str(tmp_path)] if arguments[0] != "cook" else []
    done = call(*arguments, *where)
    assert done.returncode == code, done.stderr
    assert part in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert ESCAPE not in done.stdout + done.stderr


@pytest.mark.parametrize("stands", [False, True], ids=["new", "a folder of somebody's"])
@pytest.mark.parametrize("command", [["convert"], ["evaluate", "--run", "a"], ["import", "nowhere"], ["train-ae"]])
def test_a_mistyped_workspace_leaves_nothing_behind(tmp_path: Path, command: list[str], stands: bool) -> None:
    folder = tmp_path / "typo"
    if stands:
        (folder / "images").mkdir(parents=True)
        (folder / "mine.txt").write_text("mine")
    assert call(*command, "-w", str(folder)).returncode in (2, 3)
    assert folder.exists() == stands
    assert not stands or sorted(each.name for each in folder.rglob("*")) == ["images", "mine.txt"]


def test_a_second_run_does_nothing_and_says_so_in_one_line(cohort: Path) -> None:
    done = call("simulate", *SMALL, "-w", str(cohort))
    assert done.returncode == 0
    assert "nothing to do" in done.stdout
    assert len(done.stdout.splitlines()) <= 2


def test_quiet_says_nothing_when_all_is_well(cohort: Path) -> None:
    done = call("simulate", *SMALL, "-w", str(cohort), "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_json_on_standard_output_is_json_alone(cohort: Path) -> None:
    done = call("convert", "-w", str(cohort), "--json", "-")
    report = json.loads(done.stdout)
    assert done.returncode == report["exit_code"] == 0
    assert report["stage"] == "convert"
    assert report["made"] > 0


def test_a_dry_run_touches_nothing(tmp_path: Path) -> None:
    done = call("simulate", *SMALL, "-w", str(tmp_path / "new"), "--dry-run", "--json", str(tmp_path / "plan.json"))
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "new").exists()
    assert json.loads((tmp_path / "plan.json").read_text())["todo"]


def test_a_held_lock_ends_with_75(cohort: Path) -> None:
    with stage_lock(cohort / "locks" / "convert.lock"):
        done = call("convert", "-w", str(cohort))
    assert done.returncode == 75
    assert str(os.getpid()) in done.stderr


def test_the_environment_is_the_weakest_layer(tmp_path: Path) -> None:
    shown = call("config", "show", THERMOCANCER_SEED="7", THERMOCANCER_AUTOENCODER__EPOCHS="9")
    assert "seed: 7" in shown.stdout
    assert "epochs: 9" in shown.stdout
    stronger = call("config", "show", "--set", "seed=8", THERMOCANCER_SEED="7")
    assert "seed: 8" in stronger.stdout


def test_credentials_are_no_settings_and_are_never_shown() -> None:
    shown = call("config", "show", THERMOCANCER_USER="replica-user", THERMOCANCER_PASSWORD="replica-pass")
    assert shown.returncode == 0
    assert "replica" not in shown.stdout + shown.stderr


def test_the_schema_is_json_and_strict() -> None:
    schema = json.loads(call("config", "schema").stdout)
    assert schema["additionalProperties"] is False
    assert "import" in schema["properties"]


def test_doctor_looks_at_packages_devices_and_workspace(cohort: Path) -> None:
    done = call("doctor", "-w", str(cohort), "--json", "-")
    found = json.loads(done.stdout)["checks"]
    checks = {each["name"]: each for each in found}
    assert checks["tensorflow"]["state"] == "ok"
    assert checks["catalog"]["state"] == "ok"
    devices = [each["text"] for each in found if each["name"] == "devices"]
    assert any(text.startswith("strategy: ") and "cpu" in text for text in devices)


def test_doctor_says_when_a_device_is_not_there(tmp_path: Path) -> None:
    done = call("doctor", "-w", str(tmp_path), "--set", "strategy.kind=gpu", "--quiet")
    assert done.returncode == 1
    assert "strategy: refused" in done.stdout


def test_doctor_finds_a_lost_file(cohort: Path) -> None:
    lost = next((cohort / "raw" / "Static").rglob("*.txt"))
    aside = lost.rename(cohort / "aside.txt")
    try:
        done = call("doctor", "-w", str(cohort))
    finally:
        aside.rename(lost)
    assert done.returncode == 1
    assert lost.name in done.stdout


def test_a_name_cannot_fake_a_line_of_the_program(tmp_path: Path) -> None:
    folder = tmp_path / "healthy"
    folder.mkdir()
    (folder / "1_x\x1b[2J\nerror: none.txt").write_text("no matrix at all")
    done = call("import", str(tmp_path), "--workspace", str(tmp_path / "w"), "--view", "Frontal")
    assert done.returncode in (2, 3)
    assert ESCAPE not in done.stdout + done.stderr
    assert not [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("error: none")]


def test_a_full_disk_behind_json_is_an_error_and_the_device_stays(cohort: Path) -> None:
    done = call("filter", "-w", str(cohort), "--json", "/dev/full")
    assert done.returncode in (1, 3)
    assert "No space" in done.stderr
    assert "unexpected" not in done.stderr
    assert Path("/dev/full").is_char_device()


def test_a_card_holds_no_html_of_a_name() -> None:
    from thermocancer.evaluation.report.page import fill_template

    facts = {"run": "<img src=x onerror=alert(1)>\n# Faked", "sources_in_words": [], "flow": [], "audit": None}
    card = fill_template("data-set-card.md", facts | {"no_shortcut": "p < 0.05", "subgroups": []})
    assert "<img" not in card
    assert "\n# Faked" not in card
    assert "p < 0.05" in card


@pytest.mark.parametrize("what", ["schema", "show"])
def test_a_reader_who_has_seen_enough_is_no_bug(what: str) -> None:
    """As behind ``| head``: here the reader leaves before anything was written."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "thermocancer", "config", what]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")


def test_a_pipe_that_broke_elsewhere_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> int:
        raise BrokenPipeError(32, "a worker's pipe")

    with pytest.raises(typer.Exit) as left:
        common.with_exit_code(broken, common.Call([], [], None, False, None, False, False))
    assert left.value.exit_code == 1
    assert "unexpected BrokenPipeError" in capsys.readouterr().err


@pytest.mark.parametrize("otherwise", ["", "save the sheet as CSV"])
def test_what_is_not_installed_is_named_by_a_package_that_installs(otherwise: str) -> None:
    """Never by an extra of ours, which no index may have."""
    with pytest.raises(ConfigError) as caught:
        check_installed("no_such_package", "sheets need it", extra="excel", where="a.xlsx", otherwise=otherwise)
    assert caught.value.found == "no_such_package is not installed"
    assert str(caught.value.hint).startswith("pip install 'openpyxl>=")
    assert str(caught.value.hint).endswith(f", or {otherwise}" if otherwise else "'")
    check_installed("pytest", "this is there", extra="dev", where="here")


# --- the terminal tells one story ---

ROAD = """\
seed: 5
simulate: {patients: 8, shape: 48x64, sick_fraction: 0.5, dynamic: false}
filter: {views: [Frontal]}
split: {folds: 2, repeats: 1, inner_folds: 2}
autoencoder: {variant: v2, epochs: 1, batch: 4}
fuse: {name: small, model: svm, baseline: false}
evaluate: {bootstrap: 50, audit: false, explain: false}
"""
MAKERS = ("oneDNN", "tensorflow/", "cpu_feature_guard", "absl", "cuda")


def on_terminal(arguments: list[str], folder: Path) -> str:
    """What a terminal of 80 columns is sent, on both streams."""
    leader, follower = os.openpty()
    command = [sys.executable, "-m", "thermocancer", *arguments]
    how = os.environ | {"COLUMNS": "80", "TERM": "xterm"}
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, cwd=folder, env=how) as process:
        os.close(follower)
        said = b""
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while got := os.read(leader, 65536):
                said += got
    os.close(leader)
    assert process.returncode == 0, said.decode()
    return said.decode()


def lines_seen(said: str) -> list[str]:
    """The lines that stay: what was overwritten is gone."""
    kept = [line.split("\x1b[2K")[-1].split("\r")[-1] for line in said.replace("\r\n", "\n").split("\n")]
    return [plain for line in kept if (plain := re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).strip())]


def test_one_road_is_one_story_on_a_terminal_and_in_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "road.yaml").write_text(ROAD)
    arguments = ["run", "-c", str(tmp_path / "road.yaml"), "-w", "here"]
    said = on_terminal(arguments, tmp_path)
    assert re.search(r"Frontal fold 1\.\d: loss 0", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\s*\n", "", said))
    assert not [word for word in MAKERS if word in said]
    seen = lines_seen(said)
    verdict = next(number for number, line in enumerate(seen) if line.startswith("small: On 8 patients"))
    assert len(seen) - verdict <= 20, "one screen from the verdict on"
    assert re.search(r"AUC, this model +\d\.\d{3}  \d\.\d{3} to \d\.\d{3}", "\n".join(seen[verdict:]))
    assert seen[-1] == "report: here/runs/small/report.html"
    assert (tmp_path / "here/runs/small/report.html").is_file()
    assert not [word for word in ("exams_sick", "bytes ", "made 1", "auc_low") if word in said]
    assert re.search(r"\d sick exams, \d+ matrices, \d+\.\d MB", " ".join(seen))
    again = subprocess.run(
        [sys.executable, "-m", "thermocancer", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    first, second = again.stdout.splitlines()
    assert (again.stderr, second) == ("", seen[-1])
    assert " ".join(seen[verdict:]).startswith(first[:60])
    loud = subprocess.run(
        [sys.executable, "-m", "thermocancer", "fuse", *arguments[1:], "--name", "net", "--model", "network", "--quiet",
         "--set", "fuse.epochs=1"], cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (loud.returncode, loud.stdout, loud.stderr) == (0, "", "")


def test_a_dry_run_says_what_the_road_would_take(tmp_path: Path) -> None:
    """Against the processor time of the same stages here, loosely: machines and their load differ."""
    (tmp_path / "road.yaml").write_text(ROAD)
    where = ["-c", str(tmp_path / "road.yaml"), "-w", str(tmp_path / "w")]
    planned = call("run", *where, "--dry-run", "--json", str(tmp_path / "plan.json"))
    assert planned.returncode == 0, planned.stderr
    assert not (tmp_path / "w").exists()
    assert re.search(r"run: about .+ in all, at most \d\.\d GB of memory$", planned.stdout.strip())
    plans = {each["stage"]: each["figures"] for each in json.loads((tmp_path / "plan.json").read_text())["stages"]}
    assert all(each["seconds"] > 0 and each["memory_bytes"] > 5e7 for each in plans.values())
    # its own peak, from within: what wait4 gives is also the peak of the process that started it
    code = (
        "import os, runpy\ntry: runpy.run_module('thermocancer', run_name='__main__')\n"
        "finally: print(sum(os.times()[:2]), open('/proc/self/status').read())"
    )
    command = [sys.executable, "-c", code, "simulate", *where, "--quiet"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    peak = re.search(r"VmHWM:\s+(\d+) kB", told)
    assert peak is not None
    assert 1 / 6 < 1.5 * plans["simulate"]["seconds"] / float(told.split()[0]) < 6
    assert 1 / 3 < plans["simulate"]["memory_bytes"] / (1024 * int(peak[1])) < 3
    more = json.loads(call("run", *where, "--dry-run", "--json", "-", "--set", "autoencoder.epochs=41").stdout)[
        "stages"
    ]
    seconds = {each["stage"]: each["figures"].get("seconds") for each in more}
    assert seconds["train-ae"] > 1.1 * plans["train-ae"]["seconds"]
    assert seconds["fuse"] == plans["fuse"]["seconds"]


@pytest.mark.parametrize(
    "asked", [["sweep.trials=3"], ["strategy.threads=1", "compute={engine: dask, workers: 2}"]], ids=" ".join
)
@pytest.mark.parametrize("how", [["run", "--dry-run"], ["run"], ["fuse", "--dry-run"]], ids=" ".join)
def test_what_is_not_installed_is_refused_before_any_work(
    how: list[str], asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("optuna", "distributed") else here(name)
    )
    (tmp_path / "road.yaml").write_text(ROAD)
    where = ["-c", str(tmp_path / "road.yaml"), "-w", str(tmp_path / "w"), *(f"--set={each}" for each in asked)]
    done = CliRunner().invoke(register(), [*how, *where])
    assert (done.exit_code, (tmp_path / "w").exists()) == (2, False)
    assert "is not installed" in done.output
    assert "pip install '" in done.output


@pytest.mark.parametrize(
    ("steps", "total", "said"),
    [
        (30, 60, "work: 30 of 60 steps, 30.0/min, 1 min 00 s left, loss 0.5"),
        (1, None, "work: 1 steps, 1.0/min, loss 0.5"),
        (60, 60, ""),
    ],
)
def test_a_line_in_a_log_has_rate_and_time_left(
    steps: int, total: int | None, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 0.0, 60.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with console.ConsoleProgress(console.make_console(), quiet=False).task("work", total, "steps") as task:
        task.say("loss 0.5")
        task.advance(steps)
    assert capsys.readouterr().out.strip() == said


@pytest.mark.parametrize("extra", ["cluster", "dicom", "excel", "export", "jax", "lite", "nifti", "sweep"])
def test_every_hint_names_packages(extra: str) -> None:
    words = shlex.split(install_hint(extra))
    assert words[:2] == ["pip", "install"]
    assert all(re.fullmatch(r"[\w.-]+([<>=]=?[\w.]+)?", each) for each in words[2:]), words


# --- what a scheduler reads -------------------------------------------------------------------------------------------


def test_a_road_that_fails_names_the_stage_and_keeps_what_was_reported(cohort: Path, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    road = ["run", "-w", str(cohort), *(f"--set=simulate.{each}" for each in ("patients=4", "shape=48x64"))]
    road += ["--set=simulate.dynamic=false", "--set=seed=3"]
    done = call(*road, "--set=pipeline=[simulate,fuse]", "--json", str(told))
    assert done.returncode == 3, done.stderr
    document = json.loads(told.read_text())
    assert document["stage"] == "fuse"
    assert [(each["stage"], each["made"]) for each in document["stages"]] == [("simulate", 0)]
    assert document["error"]["what"]
    assert document["exit_code"] == 3
    for options, code in ([], 0), (["--exit-code"], 7), (["--exit-code", "--dry-run"], 7):
        assert call(*road, "--set=pipeline=[simulate]", *options).returncode == code, options
    assert call("simulate", *SMALL, "-w", str(cohort), "--exit-code").returncode == 7
    fresh = call("simulate", *SMALL, "-w", str(tmp_path / "new"), "--exit-code", "--dry-run")
    assert fresh.returncode == 0, "there is something to do"


@pytest.mark.parametrize("place", ["Account", "Password"])
def test_ctrl_c_at_the_prompt_for_the_account_is_an_interruption(tmp_path: Path, place: str) -> None:
    """At a real terminal: 130 and one line, whichever question is asked."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"THERMOCANCER_USER": "me"} if place == "Password" else {}
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a suite in the background was started with it ignored
        os.execv(sys.executable, [sys.executable, "-m", "thermocancer", "fetch", "-w", str(tmp_path / "w")])
    said = b""
    while place.encode() not in said:
        said += os.read(terminal, 1024)
    time.sleep(0.2)  # getpass turns the echo off, then waits
    os.write(terminal, b"\x03")
    with contextlib.suppress(OSError):  # the terminal is gone when its last process is
        while part := os.read(terminal, 1024):
            said += part
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130, said
    assert b"interrupted" in said
    assert b"unexpected" not in said
