"""What every stage command shares: its options, the life of a call, exit codes."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import inspect
import json
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from thermocancer import __version__, stages
from thermocancer.cli.console import (
    ConsoleProgress,
    in_time,
    make_console,
    show_error,
    show_failures,
    show_plan,
    show_report,
)
from thermocancer.config import Config, load_config
from thermocancer.errors import Interrupted, RunError, ThermocancerError
from thermocancer.outcome import Plan
from thermocancer.workspace import Workspace

app = typer.Typer(
    name="thermocancer",
    no_args_is_help=True,
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    root, commit = Path(__file__).parents[2], ""
    if (root / ".git").exists():  # a checkout, not an installed wheel
        asked = subprocess.run(
            ["git", "-C", root, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        )
        commit = f" (commit {asked.stdout.strip()})" if asked.returncode == 0 else ""
    found = []
    for package in ("tensorflow", "tensorflow-cpu", "jax", "keras"):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    sys.stdout.write(f"thermocancer {__version__}{commit}; {', '.join(found) or 'no backend installed'}\n")
    raise typer.Exit


@app.callback()
def whole(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Package, commit and backends.")
    ] = False,
) -> None:
    """Breast thermograms from download to a report a sceptical reviewer can trust."""


ConfigFiles = Annotated[
    list[Path],
    typer.Option("--config", "-c", help="YAML file, or a shipped one (quickstart); later ones override."),
]
Assignments = Annotated[
    list[str], typer.Option("--set", help="Override one setting, for example autoencoder.epochs=5.")
]
WorkspaceFolder = Annotated[Path | None, typer.Option("--workspace", "-w", help="Folder that holds the data road.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and touch nothing.")]
JsonFile = Annotated[
    str | None, typer.Option("--json", help="Write a machine-readable report; '-' for standard output.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing unless something goes wrong.")]
ExitCode = Annotated[
    bool, typer.Option("--exit-code", help="End with 7 instead of 0 where nothing was new, for scripts.")
]
NOTHING_NEW = 7
Verbose = Annotated[bool, typer.Option("--verbose", help="Show tracebacks and details.")]

COMMON_OPTIONS: dict[str, tuple[object, object]] = {
    "config": (ConfigFiles, []),
    "assignments": (Assignments, []),
    "workspace": (WorkspaceFolder, None),
    "dry_run": (DryRun, False),
    "json_file": (JsonFile, None),
    "quiet": (Quiet, False),
    "verbose": (Verbose, False),
}


@dataclass(frozen=True)
class Call:
    """The common options of one call of a command."""

    config: list[Path]
    assignments: list[str]
    workspace: Path | None
    dry_run: bool
    json_file: str | None
    quiet: bool
    verbose: bool
    context: typer.Context | None = None
    typed: dict[str, str] = dataclasses.field(default_factory=dict)
    """Of each setting that an option gave: the option."""
    told: dict[str, object] = dataclasses.field(default_factory=dict)
    """What ``--json`` says beside the error where the command fails."""

    @property
    def speaks(self) -> bool:
        """Whether people are told what came of it: neither ``--quiet``, nor JSON on standard output."""
        return not self.quiet and self.json_file != "-"

    def load(self, options: Mapping[str, object] | None = None) -> Config:
        self.typed.update(_as_options(options or {}, self.context))
        return load_config(
            self.config, self.assignments, workspace=self.workspace, options=options, typed=self.typed
        )  # fmt: skip


def _as_options(settings: Mapping[str, object], context: typer.Context | None) -> dict[str, str]:
    """Which option or argument each setting came from: that with the same value, and of those the likest name."""
    if context is None:
        return {}
    given = [
        each for each in context.command.params
        if each.name and getattr(context.get_parameter_source(each.name), "name", "") == "COMMANDLINE"
    ]  # fmt: skip

    def likeness(name: str, key: str, value: object) -> tuple[bool, float]:
        same = str(context.params[name]) in (str(value), str([value]))
        return same, difflib.SequenceMatcher(None, name, key.rpartition(".")[2]).ratio()

    found = {}
    for key, value in settings.items():
        if value is not None and given:
            best = max(given, key=lambda each: likeness(str(each.name), key, value))
            found[key] = (
                best.opts[0]
                if best.opts[0].startswith("-")
                else getattr(best, "metavar", None) or str(best.name).upper()
            )
    return found


def with_common_options(function: Callable[..., int | None]) -> Callable[..., None]:
    """Give ``function(call, ...)`` the common options on the command line, gathered in ``call``."""
    own = [each for each in inspect.signature(function, eval_str=True).parameters.values() if each.name != "call"]
    keyword = inspect.Parameter.KEYWORD_ONLY
    common = [
        inspect.Parameter(name, keyword, annotation=kind, default=default)
        for name, (kind, default) in COMMON_OPTIONS.items()
    ]

    @functools.wraps(function)
    def command(context: typer.Context, **arguments: Any) -> None:
        call = Call(**{name: arguments.pop(name) for name in COMMON_OPTIONS}, context=context)
        with_exit_code(lambda: function(call, **arguments), call)

    here = inspect.Parameter("context", keyword, annotation=typer.Context)
    signature = inspect.Signature([here, *(each.replace(kind=keyword) for each in own), *common])
    setattr(command, "__signature__", signature)  # noqa: B010 - mypy knows no such attribute
    del command.__wrapped__
    command.__annotations__ = {each.name: each.annotation for each in [here, *own, *common]}
    return command


def stage_command(name: str, *, example: str) -> Callable[[Callable[..., dict[str, object]]], Callable[..., None]]:
    """Register a stage as a command.

    The decorated function takes the command's own options and returns them as config settings
    (dotted keys; None means not given). The stage module is found by the command's name:
    ``thermocancer.stages.build_dataset`` for ``build-dataset``.
    """

    def register(function: Callable[..., dict[str, object]]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(call: Call, *, exit_code: bool, **arguments: object) -> int:
            return report_stage(name, call.load(function(**arguments)), call, exit_code=exit_code)

        own = list(inspect.signature(function, eval_str=True).parameters.values())
        own.append(inspect.Parameter("exit_code", inspect.Parameter.KEYWORD_ONLY, annotation=ExitCode, default=False))
        setattr(command, "__signature__", inspect.Signature(own))  # noqa: B010 - mypy knows no such attribute
        wrapped = with_common_options(command)
        wrapped.__doc__ = f"{inspect.getdoc(function)}\n\nExample: {example}"
        return app.command(name)(wrapped)

    return register


def run_stage(
    name: str,
    config: Config,
    call: Call,
    progress: ConsoleProgress | None = None,
    *,
    alone: bool = True,
    brought: Mapping[str, object] | None = None,
) -> tuple[int, dict[str, object]]:
    """Plan or run one stage and show what came of it. Returns the exit code and the ``--json`` report.

    ``brought`` is handed to the stage's ``run``: ``reproduce`` is brought a way to run other stages. One that is not
    ``alone`` is part of ``run``, which speaks of what has changed and, at the end, of the verdict.
    """
    workspace = Workspace(Path(config.workspace))
    console = make_console(stderr=call.json_file == "-")
    if call.dry_run:
        plan = with_estimate(stages.plan_stage(name, config, workspace), config, workspace)
        show_plan(plan, console)
        return plan.exit_code, dataclasses.asdict(plan)
    started = time.monotonic()
    progress = progress or ConsoleProgress(console, quiet=call.quiet)
    report = stages.run_stage(name, config, workspace, progress, **(brought or {}))
    seconds = time.monotonic() - started
    if not call.quiet:
        show_report(report, console, seconds, alone=alone)
    show_failures(report, make_console(stderr=True) if call.quiet else console)
    return report.exit_code, report.as_dict() | {"seconds": round(seconds, 3)}


def with_estimate(plan: Plan, config: Config, workspace: Workspace) -> Plan:
    """The plan with what it would take, as a note and as figures; as it is where nothing is to be done or known."""
    from thermocancer.cli.estimates import estimate

    found = estimate(plan.stage, config, workspace) if plan.todo else None
    if found is None:
        return plan
    said = f"about {in_time(found.seconds)} and {found.memory_bytes / 1e9:.1f} GB, as measured on two cores of an EPYC"
    figures = {"seconds": round(found.seconds, 1), "memory_bytes": round(found.memory_bytes)}
    return dataclasses.replace(plan, notes=(said, *plan.notes), figures=plan.figures | figures)


def report_stage(
    name: str, config: Config, call: Call, *, progress: ConsoleProgress | None = None,
    brought: Mapping[str, object] | None = None, exit_code: bool = False,
) -> int:  # fmt: skip
    """``run_stage`` as a whole command: its report is written where ``--json`` says. Returns the exit code."""
    call.told["stage"] = name
    code, content = run_stage(name, config, call, progress=progress, brought=brought)
    write_json_report(content, call)
    return NOTHING_NEW if exit_code and code == 0 and nothing_new(content) else code


def nothing_new(content: Mapping[str, object]) -> bool:
    """Had a stage nothing to do, by its report, or would it have nothing, by its plan?"""
    return content["made"] == 0 if "made" in content else not content["todo"]


def write_json_report(content: Mapping[str, object], call: Call) -> None:
    """Write ``--json`` if it was asked for."""
    if call.json_file is None:
        return
    text = json.dumps(content, indent=2, default=str) + "\n"
    if call.json_file == "-":
        sys.stdout.write(text)
        return
    from thermocancer.files import write_for_user

    write_for_user(Path(call.json_file).expanduser(), text)


def with_exit_code(work: Callable[[], int | None], call: Call) -> NoReturn:
    """Run ``work`` and leave with its exit code; errors become one short block on standard error."""
    previous = signal.signal(signal.SIGTERM, _on_terminate)
    try:
        code = work() or 0
    except ThermocancerError as error:
        if call.verbose:
            import traceback

            traceback.print_exc()
        error.where = call.typed.get(error.where or "", error.where)  # a setting is called what it was typed as
        show_error(error, make_console(stderr=True))
        code = _write_failure(error, call)
    except (KeyboardInterrupt, typer.Abort):  # a prompt makes an Abort of Ctrl-C
        interrupted = Interrupted("interrupted", hint="the same command goes on where this one stopped")
        show_error(interrupted, make_console(stderr=True))
        code = _write_failure(interrupted, call)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():  # ``| head`` has what it wanted
            raise  # click leaves without a word
        # a bug: say so in the same short form; the traceback is one flag away
        if call.verbose:
            raise
        hint = "type the command again with --verbose for the traceback"
        unexpected = ThermocancerError(f"unexpected {type(error).__name__}", found=error, hint=hint)
        show_error(unexpected, make_console(stderr=True))
        code = _write_failure(unexpected, call)
    finally:
        signal.signal(signal.SIGTERM, previous)
    raise typer.Exit(code)


def _write_failure(error: ThermocancerError, call: Call) -> int:
    """``--json`` of a command that failed: the error beside what was ``told`` before. Returns the exit code."""
    try:
        write_json_report(call.told | {"error": error.fields(), "exit_code": error.exit_code}, call)
    except RunError as unwritten:  # a full disk may be what it was to tell of
        show_error(unwritten, make_console(stderr=True))
    return error.exit_code


def _nobody_reads() -> bool:
    """Is standard output a pipe whose other end is closed?"""
    watched = select.poll()
    watched.register(1, 0)
    return any(event & select.POLLERR for _, event in watched.poll(0))


def _on_terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
