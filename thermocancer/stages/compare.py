"""``compare``: paired tests between runs on the patients they share."""

from __future__ import annotations

from thermocancer import __version__
from thermocancer.config import Config
from thermocancer.errors import ConfigError
from thermocancer.files import fingerprint, read_json, write_bytes, write_json, write_text
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
    from thermocancer.evaluation.report.page import chance, render_page
    from thermocancer.runs.run import read_run

    names, stamp, made_from = _asked(config, workspace)
    folder = stamp.path.parent
    report = StageReport("compare", outputs=[str(folder / "report.html")])
    if stamp.is_current(made_from):
        report.current, document = 1, read_json(folder / "compare.json")
    else:
        compared = compare_runs([read_run(workspace, name) for name in names], workspace, config)
        report.made, document = 1, compared.document
        write_json(folder / "compare.json", document)
        write_bytes(folder / "forest.png", compared.picture.png)
        title = {"title": f"Comparison of {', '.join(names)}"}
        write_text(folder / "report.html", render_page("compare.html", document | title, {"forest": compared.picture}))
        stamp.write(made_from, [folder / name for name in FILES])
    report.notes += [document["verdict"]["headline"], *document["verdict"]["sentences"]]
    report.figures |= {name: document[name] for name in ("verdict", "runs", "pairs")}
    for pair in document["pairs"]:
        auc = pair["auc"]
        bounds = "interval undefined" if auc["low"] is None else f"{auc['low']:+.3f} to {auc['high']:+.3f}"
        p = "" if auc["p"] is None else f", p {chance(auc['p'])}"
        report.notes.append(f"AUC of {pair['first']} less that of {pair['second']}: {auc['value']:+.3f} ({bounds}{p})")
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
