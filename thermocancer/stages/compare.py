"""``compare``: paired tests between runs on the patients they share."""

from __future__ import annotations

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
    names, stamp, made_from = _asked(config, workspace)
    current = stamp.is_current(made_from)
    return Plan("compare", todo=() if current else (f"compare {', '.join(names)}",), current=int(current))


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Compare the runs of ``evaluate.compare`` and write ``compare/A-vs-B/``.

    Raises DataError when a run is missing or they share no patient.
    """
    from thermocancer.evaluation.between_runs import compare_runs
    from thermocancer.evaluation.report.page import render_page
    from thermocancer.runs.run import read_run

    names, stamp, made_from = _asked(config, workspace)
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
    verdict = compared.document["verdict"]
    report.notes += [verdict["headline"], *verdict["sentences"]]
    # numbers for programs; the strings below are what people read
    report.figures |= {"verdict": verdict, "runs": compared.document["runs"], "pairs": compared.document["pairs"]}
    for pair in compared.document["pairs"]:
        low, high = pair["auc"]["low"], pair["auc"]["high"]
        bounds = "interval undefined" if low is None or high is None else f"{low:+.3f} to {high:+.3f}"
        report.figures[f"{pair['first']} - {pair['second']}, AUC"] = f"{pair['auc']['value']:+.3f} ({bounds})"
    return report


def _asked(config: Config, workspace: Workspace) -> tuple[tuple[str, ...], Stamp, str]:
    """The runs to compare, where that is kept, and what it depends on. Raises ConfigError for fewer than two runs."""
    from thermocancer.runs.run import content_of

    settings, names = config.evaluate, tuple(dict.fromkeys(config.evaluate.compare))
    if len(names) < 2:
        raise ConfigError(
            "a comparison needs two or more runs", where="evaluate.compare", found=", ".join(names) or "none",
            hint="thermocancer compare RUN RUN",
        )  # fmt: skip
    contents = [[name, content_of(workspace.run(name))] for name in names]
    made_from = fingerprint(__version__, contents, settings.confidence, settings.bootstrap, config.seed)
    return names, Stamp(workspace.root / "compare" / "-vs-".join(names) / "manifest.json"), made_from
