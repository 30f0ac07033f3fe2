"""``run``: everything the config's ``pipeline:`` names, in order."""

from __future__ import annotations

from typing import Any

from thermocancer.cli.common import Call, app, run_stage, with_common_options, write_json_report
from thermocancer.config import Config
from thermocancer.errors import DataError


@app.command("run")
@with_common_options
def run(call: Call) -> int:
    """Run the whole road, or the part of it that is out of date.

    Example: thermocancer run -c configs/quickstart.yaml -w demo
    """
    config = call.load()
    worst, reports = 0, []
    for name in config.pipeline:
        code, report = _plan_or_run(name, config, call)
        worst = max(worst, code)
        reports.append(report)
    write_json_report({"stages": reports, "exit_code": worst}, call)
    return worst


def _plan_or_run(name: str, config: Config, call: Call) -> tuple[int, dict[str, Any]]:
    """One stage; in a dry run a stage whose input does not stand yet is told apart from a broken one."""
    try:
        return run_stage(name, config, call)
    except DataError as error:
        if not call.dry_run or name == config.pipeline[0]:
            raise
        if not call.quiet:
            from thermocancer.cli.console import make_console

            make_console(stderr=call.json_file == "-").print(f"{name}: waits for the stages before it", markup=False)
        return 0, {"stage": name, "todo": ["waits for the stages before it"], "current": 0, "notes": [error.what]}
