"""One door for every check: ``nox -s tests``, ``nox -l`` for the list."""

import nox

nox.options.sessions = ["lint", "types", "tests"]


@nox.session(python=["3.11", "3.12", "3.13"])
def tests(session: nox.Session) -> None:
    """The test suite, warnings as errors."""
    session.install("-e", ".[dev]")
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and import order."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Static types."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """The pages say what the program says; the site is built into ``site/``, strictly."""
    session.install("-e", ".[dev,docs]")
    session.run("pytest", "tests/test_docs.py")
    session.run("mkdocs", "build", "--strict")


@nox.session
def quickstart(session: nox.Session) -> None:
    """The main job of the README, from nothing to a report."""
    session.install(".")
    session.run("thermocancer", "run", "-c", "configs/quickstart.yaml", "-w", session.create_tmp())


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Our time and memory beside the original recipe's; takes long."""
    session.install("-e", ".[dev]")
    for script in session.posargs or sorted(
        p.as_posix() for p in __import__("pathlib").Path("benchmarks").glob("*.py")
    ):
        session.run("python", script)


@nox.session(python="3.11")
def lowest(session: nox.Session) -> None:
    """The oldest versions that pyproject.toml allows."""
    session.install("uv")
    session.run("uv", "pip", "install", "--resolution", "lowest-direct", "-e", ".[dev]", "--python", session.bin)
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Small mutations of the core modules, and how many their own tests notice."""
    session.install("-e", ".[dev]", "cosmic-ray")
    session.run("python", "benchmarks/mutants.py", *session.posargs)
