"""The command line: parse, load the config, call a stage, print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def register() -> typer.Typer:
    """Register every command and return the one Typer app; the order is the order of ``--help``."""
    from thermocancer.cli import sources, learning, judging, inspecting  # noqa: F401, I001
    from thermocancer.cli.common import app

    return app


def main() -> None:
    """The entry point of ``thermocancer``."""
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # as ``strategy`` does; children inherit it before they import
    register()()
