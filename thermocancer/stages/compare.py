"""``compare``: paired tests between runs on the patients they share."""

from __future__ import annotations

from pathlib import Path

from thermocancer import __version__
from thermocancer.config import Config
from thermocancer.errors import ConfigError
from thermocancer.files import fingerprint, write_bytes, write_json, write_text
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.workspace import Stamp, Workspace

FILES = ("compare.json", "report.html", "forest.png")


def plan(config: Config, workspace: Workspace) -> Plan:
    """Which comparison would be made."""
    names = _names(config)
    current = _stamp(workspace, names).is_current(_made_from(config, workspace, names))
    return Plan("compare", todo=() if current else (f"compare {', '.join(names)}",), current=int(current))


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Compare the runs of ``evaluate.compare`` and write ``compare/A-vs-B/``.

    Raises DataError when a run is missing or they share no patient.
    """
    from thermocancer.evaluation.between_runs import compare_runs
    from thermocancer.evaluation.report.page import render_page
    from thermocancer.runs.run import read_run

    names = _names(config)
    stamp, made_from = _stamp(workspace, names), _made_from(config, workspace, names)
    folder = stamp.path.parent
    report = StageReport("compare", outputs=[str(folder / "report.html")])
    if stamp.is_current(made_from):
        report.current = 1
        return report
    compared = compare_runs([read_run(workspace, name) for name in names], workspace, config)
    title = {"title": f"Comparison of {', '.join(names)}"}
    write_json(folder / "compare.json", compared.document)
    write_bytes(folder / "forest.png", compared.picture.png)
    page = render_page("compare.html", compared.document | title, {"forest": compared.picture})
    write_text(folder / "report.html", page)
    stamp.write(made_from, [folder / name for name in FILES])
    report.made = 1
    report.notes.append(compared.document["verdict"]["headline"])
    for pair in compared.document["pairs"]:
        auc = pair["auc"]
        report.figures[f"{pair['first']} - {pair['second']}, AUC"] = f"{auc['value']:+.3f} ({_bounds(auc)})"
    return report


def _bounds(difference: dict[str, float | None]) -> str:
    low, high = difference["low"], difference["high"]
    return "interval undefined" if low is None or high is None else f"{low:+.3f} to {high:+.3f}"


def _names(config: Config) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(config.evaluate.compare))
    if len(names) < 2:
        raise ConfigError(
            "a comparison needs two or more runs", where="evaluate.compare", found=", ".join(names) or "none",
            hint="thermocancer compare RUN RUN",
        )  # fmt: skip
    return names


def _stamp(workspace: Workspace, names: tuple[str, ...]) -> Stamp:
    folder: Path = workspace.root / "compare" / "-vs-".join(names)
    return Stamp(folder / "manifest.json")


def _made_from(config: Config, workspace: Workspace, names: tuple[str, ...]) -> str:
    from thermocancer.runs.run import content_of

    settings = config.evaluate
    return fingerprint(
        __version__, [[name, content_of(workspace.run(name))] for name in names], settings.confidence,
        settings.bootstrap, config.seed,
    )  # fmt: skip
