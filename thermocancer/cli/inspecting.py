"""``config`` and ``doctor``: what would run, and what is here to run it."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from thermocancer import stages
from thermocancer.cli.common import (
    NOTHING_NEW,
    Call,
    ExitCode,
    app,
    nothing_new,
    run_stage,
    with_common_options,
    with_estimate,
    write_json_report,
)
from thermocancer.cli.console import in_time, make_console, show_verdict
from thermocancer.config import Config
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import Json
from thermocancer.outcome import Plan
from thermocancer.workspace import Workspace


@app.command("run")
@with_common_options
def run(call: Call, exit_code: ExitCode = False) -> int:
    """Run the whole road, or the part of it that is out of date.

    Where a stage fails, --json names it and holds the reports of those before it.

    Example: thermocancer run -c configs/quickstart.yaml -w demo
    """
    config = call.load()
    for name in config.pipeline:
        stages.check_needs(name, config)  # before hours of work, not after them
    worst, reports = 0, list[Json]()
    for name in config.pipeline:
        call.told.update(stage=name, stages=reports)
        code, report = _plan_or_run(name, config, call)
        worst = max(worst, code)
        reports.append(report)
    if call.dry_run and not call.quiet:
        _show_total(reports, call)
    elif not call.quiet:
        _show_verdicts(reports, config, call)
    write_json_report({"stages": reports, "exit_code": worst}, call)
    return NOTHING_NEW if exit_code and worst == 0 and all(map(nothing_new, reports)) else worst


def _show_total(plans: list[Json], call: Call) -> None:
    """What the whole road would take, and which stages are not reckoned with."""
    todo = [each for each in plans if each["todo"]]
    known = [each["figures"] for each in todo if "seconds" in each["figures"]]
    if known:
        unknown = [each["stage"] for each in todo if "seconds" not in each["figures"]]
        said = f"run: about {in_time(sum(each['seconds'] for each in known))} in all, at most "
        said += f"{max(each['memory_bytes'] for each in known) / 1e9:.1f} GB of memory"
        said += f", without {', '.join(unknown)}" if unknown else ""
        make_console(stderr=call.json_file == "-").print(said, markup=False)


def _show_verdicts(reports: list[Json], config: Config, call: Call) -> None:
    """One screen of what this road's runs are worth; two lines each where nothing was to be done."""
    console = make_console(stderr=call.json_file == "-")
    made = sum(each["made"] for each in reports)
    judged = [run for each in reports if each["stage"] == "evaluate" for run in each["figures"]["runs"]]
    names = {"fuse": config.fuse.name, "train-dit": config.dit.name, "train-cnn": config.cnn.name}
    own = [run for run in judged if run["name"] in {names.get(stage) for stage in config.pipeline}] or judged
    for each in own:
        show_verdict(each, console, whole=made > 0)
    if not made and not own:
        console.print(f"run: nothing to do, {len(reports)} stages up to date", markup=False)


def _plan_or_run(name: str, config: Config, call: Call) -> tuple[int, Json]:
    """One stage; in a dry run a stage whose input does not stand yet is told apart from a broken one."""
    try:
        return run_stage(name, config, call, alone=False)
    except DataError as error:
        if not call.dry_run or name == config.pipeline[0]:
            raise
        waits, workspace = "waits for the stages before it", Workspace(Path(config.workspace))
        plan = with_estimate(Plan(name, (waits,), notes=(error.what,)), config, workspace)
        if not call.quiet:
            make_console(stderr=call.json_file == "-").print(
                f"{name}: {'; '.join((waits, *plan.notes[:-1]))}", markup=False
            )
        return 0, dataclasses.asdict(plan)


# --- what would run, and what is here to run it ---------------------------------

config_app = typer.Typer(help="The resolved config; its JSON schema; validation without running.", no_args_is_help=True)
app.add_typer(config_app, name="config")


@config_app.command("show")
@with_common_options
def show(call: Call) -> None:
    """Print the resolved config, every default spelt out; with --json as JSON.

    Example: thermocancer config show -c configs/quickstart.yaml
    """
    from thermocancer.config import dump_yaml

    config = call.load()
    write_json_report(config.model_dump(mode="json", by_alias=True), call)
    if call.json_file != "-":
        sys.stdout.write(dump_yaml(config))


@config_app.command("schema")
def schema() -> None:
    """Print the JSON schema of the config file.

    Example: thermocancer config schema
    """
    from thermocancer.config import Config

    sys.stdout.write(json.dumps(Config.model_json_schema(by_alias=True), indent=2) + "\n")


@config_app.command("check")
@with_common_options
def check(call: Call) -> None:
    """Validate a config without running anything.

    Example: thermocancer config check -c configs/honest.yaml --set autoencoder.epochs=5
    """
    from thermocancer.config import differences

    config = call.load()
    changed = differences(config, Config())
    write_json_report({"valid": True, "changed": {key: here for key, (here, _) in changed.items()}}, call)
    if call.speaks:
        sys.stdout.write(f"the config is valid; {len(changed)} settings differ from the defaults\n")


@config_app.command("diff")
@with_common_options
def diff(
    call: Call,
    other: Annotated[Path | None, typer.Argument(help="A second file; none: the defaults.", show_default=False)] = None,
) -> None:
    """Print the settings in which a config differs from the defaults, or from another file.

    Example: thermocancer config diff -c configs/quickstart.yaml configs/honest.yaml
    """
    from thermocancer.config import differences, load_config

    found = differences(call.load(), load_config([other]) if other else Config())
    there = str(other) if other else "default"
    write_json_report({key: {"here": here, "there": value} for key, (here, value) in found.items()}, call)
    if call.json_file != "-":
        for key, (here, value) in found.items():
            sys.stdout.write(f"{key}: {json.dumps(here)}  ({there}: {json.dumps(value)})\n")


@config_app.command("init")
@with_common_options
def init(
    call: Call,
    file: Annotated[Path | None, typer.Argument(help="File to begin; none: print it.", show_default=False)] = None,
    road: Annotated[str, typer.Option("--road", help="phantom, folder, site or classes.")] = "phantom",
) -> None:
    """Begin a config file: the road's stages, and every setting of them with its meaning, commented out.

    Example: thermocancer config init mine.yaml --road folder
    """
    from thermocancer.config import starting_file

    text = starting_file(road)
    if file is None:
        sys.stdout.write(text)
        return
    if file.exists():
        raise ConfigError("this file is there already", where=file, hint="name another, or move it away first")
    if not call.dry_run:
        from thermocancer.files import write_for_user

        write_for_user(file.expanduser(), text)
    if not call.quiet:
        sys.stdout.write(f"{'would write' if call.dry_run else 'wrote'} {file}\n")


@app.command("doctor")
@with_common_options
def doctor(
    call: Call,
    fix: Annotated[bool, typer.Option("--fix", help="Make the catalog true again where it is not.")] = False,
    clean: Annotated[
        bool, typer.Option("--clean-cache", help="Empty the workspace's cache; whatever is needed is made again.")
    ] = False,
) -> int:
    """Say what is installed, which devices are seen, what a config would get, and whether a workspace is sound.

    Example: thermocancer doctor -w demo
    """
    from thermocancer.stages.doctor import check_up, clean_cache

    config = call.load()
    workspace = Workspace(Path(config.workspace))
    console = make_console(stderr=call.json_file == "-")
    if fix and workspace.catalog.parent.exists() and not call.dry_run:
        from thermocancer.dmr.mirror import repair_raw

        with workspace.lock("raw"):
            fixed = repair_raw(workspace)
            swept = workspace.sweep()
        for line in [*fixed, *([f"removed {swept} interrupted writes"] if swept else [])]:
            console.print(f"fixed  {line}", markup=False)
    freed = clean_cache(workspace, dry_run=call.dry_run) if clean else []
    for held in freed if not call.quiet else ():
        console.print(f"{'would free' if call.dry_run else 'freed'}  {held}", markup=False)
    if clean and not call.quiet:
        total = sum(held.size for held in freed) / 1e6
        console.print(f"{'would free' if call.dry_run else 'freed'}  {total:.1f} MB in all", markup=False)
    checks = check_up(config, workspace)
    bad = [each for each in checks if each.state == "bad"]
    for each in bad if call.quiet else checks:
        console.print(f"{each.state:4}  {each.name}: {each.text}", markup=False, style="red" if each in bad else None)
    report: dict[str, object] = {"checks": [vars(each) for each in checks], "exit_code": 1 if bad else 0}
    write_json_report(report | ({"freed": [vars(held) for held in freed]} if clean else {}), call)
    return 1 if bad else 0
