"""The command line: parse, load the config, call a stage, print."""


def main() -> None:
    """The entry point: registers every command, then runs the one that was asked for."""
    # importing a module registers its commands on the one Typer app; the order is the order of --help
    from thermocancer.cli import sources, preparation, learning, judging, pipeline, inspecting  # noqa: F401, I001
    from thermocancer.cli.common import app

    app()
