"""``config`` and ``doctor``: what would run, and what is here to run it."""

from __future__ import annotations

import json
import sys

import typer

from thermocancer.cli.common import Call, app, with_common_options

config_app = typer.Typer(help="The resolved config; its JSON schema; validation without running.", no_args_is_help=True)
app.add_typer(config_app, name="config")


@config_app.command("show")
@with_common_options
def show(call: Call) -> None:
    """Print the resolved config, every default spelt out.

    Example: thermocancer config show -c configs/quickstart.yaml
    """
    from thermocancer.config import dump_yaml

    sys.stdout.write(dump_yaml(call.load()))


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
    call.load()
    if not call.quiet:
        sys.stdout.write("the config is valid\n")
