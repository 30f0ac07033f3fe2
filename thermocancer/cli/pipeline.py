"""``run``: everything the config's ``pipeline:`` names, in order."""

from __future__ import annotations

from thermocancer.cli.common import Call, app, run_stage, with_common_options


@app.command("run")
@with_common_options
def run(call: Call) -> int:
    """Run the whole road, or the part of it that is out of date.

    Example: thermocancer run -c configs/quickstart.yaml -w demo
    """
    config = call.load()
    worst = 0
    for name in config.pipeline:
        worst = max(worst, run_stage(name, config, call))
    return worst
