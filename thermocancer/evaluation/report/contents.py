"""What the report shows of one run: the facts of ``report.json``, and the pictures that only reach the page."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from thermocancer.config import Config, dump_yaml
from thermocancer.errors import ThermocancerError
from thermocancer.evaluation.report.cards import checklist
from thermocancer.evaluation.report.exams import (
    ExamFacts,
    ExamKey,
    cohort_flow,
    is_phantom,
    sources_of,
    subgroup_table,
)
from thermocancer.evaluation.report.figures import thermogram_png
from thermocancer.evaluation.report.judgement import OWN_FIGURE, Judgement
from thermocancer.evaluation.report.page import Words, render_page
from thermocancer.evaluation.report.verdict import verdict_of
from thermocancer.evaluation.statistics.intervals import decision_shares
from thermocancer.evaluation.statistics.metrics import METRICS
from thermocancer.evaluation.statistics.units import Units
from thermocancer.files import Json
from thermocancer.kinds import Reads
from thermocancer.models.summary import SUFFIX, Layer, diagram, read_table
from thermocancer.runs.run import Run
from thermocancer.workspace import VIEWS, Workspace

if TYPE_CHECKING:
    from thermocancer.evaluation.explain.telling_exams import Explanation


@dataclass
class ReportContents:
    """``facts`` are ``report.json``; the pictures of ``gallery`` and ``explained`` only reach the page."""

    facts: Json
    gallery: list[Json] = field(default_factory=list)
    explained: Explanation | None = None


def gather_contents(
    judged: Judgement,
    workspace: Workspace,
    config: Config,
    exams: Mapping[ExamKey, ExamFacts],
    *,
    audit: Json | None = None,
    explained: Explanation | None = None,
    remark: str = "",
) -> ReportContents:
    """Everything the report says, from the judgement, the workspace and (if it was run) the audit.

    ``remark`` says why this kind of run's own figures are missing.
    """
    run, document = judged.run, judged.document
    flow = cohort_flow(workspace, run.rows)
    sources = sources_of(workspace, run.rows)
    phantom = is_phantom(sources)
    groups = (
        [] if run.reads is Reads.IMAGES
        else subgroup_table(run.rows, exams, config.evaluate.confidence, by_exam=run.by_exam)
    )  # fmt: skip
    words = Words.of(run)
    wrong = misclassified(judged.units, document["threshold"], words)
    kept = run.config()
    content = {
        "title": config.report.title,
        "run": run.name,
        "model": run.manifest.model,
        "phantom": phantom,
        "sources": sources,
        "metrics": document,
        "baseline": judged.baseline,
        "verdict": verdict_of(
            document, baseline_auc=judged.baseline_auc, audit=audit, phantom=phantom, words=words
        ),
        "curves": judged.curves,
        "flow": flow,
        "subgroups": groups,
        "misclassified": wrong,
        "by_class": by_class(
            document["confusion"], words.classes, repeats=judged.units.repeats, confidence=document["confidence"]
        ),
        "networks": networks_of(run),
        "audit": audit,
        "explanation": None if explained is None else explained.facts | {"note": explained.note},
        "checklist": checklist(
            document, run, flow, words, sources=sources, audit=audit, subgroups=groups
        ),
        "environment": environment(),
        "command": exact_command(run),
        "remark": remark,
        # without this machine's folder, so that equal runs give equal pages
        "config_text": None if kept is None else dump_yaml(kept.model_copy(update={"workspace": "WORKSPACE"})),
    }  # fmt: skip
    gallery = [item | _thumbnail_of(item, exams, workspace) for item in wrong[: config.report.gallery]]
    return ReportContents(content, gallery, explained)


def report_page(contents: ReportContents, judged: Judgement) -> str:
    """The self-contained page."""
    beside = {
        "metric_titles": METRICS.items(),
        "gallery": contents.gallery,
        "explained": contents.explained,
        "drawn_networks": [_drawn(each) for each in contents.facts["networks"]],
        "glance": at_a_glance(contents.facts),
        "data_set": _data_set(judged.run),
        "words": (words := Words.of(judged.run)),
        "notice": words.notice,
        "own_pictures": [item for name, item in judged.pictures.items() if name.startswith(OWN_FIGURE)],
    }
    return render_page("report.html", contents.facts | beside, judged.pictures)


def _data_set(run: Run) -> str:
    known = run.manifest.dataset
    return f"data set {known.name} ({known.fingerprint[:12]})"


def at_a_glance(facts: Json) -> list[Json]:
    """The model beside what it must beat, each with its AUC: baselines, the untrained twin, the best fact that needs
    no look at the body, and the model where exams are alike. Only what there is."""
    rows = [{"title": "this model", "auc": facts["metrics"]["auc"]}]
    if facts["baseline"]:
        rows.append({"title": "trivial baseline", "auc": facts["baseline"]["auc"]})
    audit = facts["audit"] or {"controls": [], "matched": []}
    known = [row for row in audit["controls"] if row["auc"] is not None and row["auc"]["value"] is not None]
    rows += [{"title": row["title"], "auc": row["auc"]} for row in known if row["name"] == "untrained"]
    alone = [row for row in known if row["group"] == "nuisance"]
    if alone:
        best = max(alone, key=lambda row: float(row["auc"]["value"]))
        rows.append({"title": f"best of {len(alone)} shortcuts: {best['title']}", "auc": best["auc"]})
    pairs = [row for row in audit["matched"] if row["auc"] is not None and row["stratum"] is None]
    if pairs:
        most = max(pairs, key=lambda row: (row["by_date"] + row["by_room"], row["pairs"]))
        rows.append({"title": f"this model on {most['pairs']} {most['title']}", "auc": most["auc"]})
    return rows


# --- misclassified units ----------------------------------------------------------------------------------------------


def misclassified(units: Units, threshold: float | None, words: Words) -> list[Json]:
    """The units that were called wrong, furthest from the operating point first."""
    middle = 0.5 if threshold is None else threshold
    wrong = np.flatnonzero(units.decisions != units.labels)
    order = sorted(wrong, key=lambda row: (-abs(units.scores[row] - middle), units.patients[row], units.visits[row]))
    entries = []
    for row in order:
        patient, visit = int(units.patients[row]), int(units.visits[row])
        entries.append(
            {
                "name": f"{words.whose} {patient}" + (f", visit {visit}" if visit and words.whose == "patient" else ""),
                "patient": patient,
                "visit": visit,
                "truth": words.classes[int(units.labels[row])],
                "called": words.classes[int(units.decisions[row])],
                "score": float(units.scores[row]),
            }
        )
    return entries


def _thumbnail_of(item: Json, exams: Mapping[ExamKey, ExamFacts], workspace: Workspace) -> Json:
    """``picture`` (PNG bytes), ``view`` and ``range`` in words; None where the workspace has no thermogram of it."""
    from thermocancer.thermal.reading import read_matrix
    from thermocancer.thermal.regions import filled

    nothing = {"picture": None, "view": None, "range": None}
    visits = [key for key in sorted(exams) if key[0] == item["patient"] and item["visit"] in (0, key[1])]
    files = exams[visits[0]].files if visits else {}
    view = next((view for view in VIEWS if view in files), None)
    if view is None:
        return nothing
    try:
        celsius = filled(read_matrix(workspace.raw / files[view]).degrees)
    except (ThermocancerError, OSError, ValueError):
        return nothing  # the page is still worth having where raw/ has been moved away
    words = f"{celsius.min():.1f} to {celsius.max():.1f} degC"
    return {"picture": thermogram_png(celsius, view), "view": view, "range": words}


# --- each class by itself, and the networks ---------------------------------------------------------------------------


def by_class(
    confusion: Mapping[str, int], classes: tuple[str, str], *, repeats: int = 0, confidence: float = 0.95
) -> list[Json]:  # fmt: skip
    """Precision, recall, F1 and support of each class and their means, as scikit-learn's ``classification_report``.

    ``weighted`` weighs the classes by their support. None where a class was never called, or has no member. ``KEY_low``
    and ``KEY_high`` are those of ``decision_shares``; of F1 and means they are made of both lower or both upper ones,
    which is on the wide side.
    """
    tn, fp, fn, tp = (confusion[name] for name in ("tn", "fp", "fn", "tp"))
    ends, keys = ("", "_low", "_high"), ("precision", "recall", "f1")
    rows: list[Json] = []
    for name, right, support, others in (
        (classes[0], tn, tn + fp, (tp, tp + fn)),
        (classes[1], tp, tp + fn, (tn, tn + fp)),
    ):
        found = decision_shares(right, support, *others, repeats=repeats, confidence=confidence)
        row: Json = {"name": name, "support": support}
        for end, which in zip(ends, ("value", "low", "high"), strict=True):
            precision, recall = (getattr(found[key], which) for key in ("precision", "sensitivity"))
            called = None not in (precision, recall)
            f1 = (
                2 * precision * recall / (precision + recall)
                if called and precision + recall
                else 0.0
                if support
                else None
            )
            row |= dict(zip((key + end for key in keys), (precision, recall, f1), strict=True))
        rows.append(row)
    total = rows[0]["support"] + rows[1]["support"]
    for name, weights in (("mean", (0.5, 0.5)), ("weighted", [row["support"] / max(total, 1) for row in rows[:2]])):
        both: Json = {"name": name, "support": total}
        for key in (key + end for key in keys for end in ends):
            values = [row[key] for row in rows[:2]]
            both[key] = None if None in values else sum(w * v for w, v in zip(weights, values, strict=True))
        rows.append(both)
    return rows


def networks_of(run: Run) -> list[Json]:
    """Of each network that the run keeps: its name, parameters and the lines of its table; damaged tables are left."""
    found: list[Json] = []
    for path in sorted(run.model_folder.glob(f"*{SUFFIX}")):
        with contextlib.suppress(ValueError, KeyError, OSError):
            layers = [asdict(each) | {"after": list(each.after)} for each in read_table(path.read_text("utf-8"))]
            total = sum(each["parameters"] for each in layers)
            found.append({"name": path.name.removesuffix(SUFFIX), "parameters": total, "layers": layers})
    return found


def _drawn(network: Json) -> Json:
    layers = [Layer(**{**each, "after": tuple(each["after"])}) for each in network["layers"]]
    return network | {"picture": diagram(network["name"], layers).encode()}


# --- how it was made --------------------------------------------------------------------------------------------------

PACKAGES = ("thermocancer", "numpy", "scipy", "scikit-learn", "keras", "tensorflow", "jax", "opencv-python", "h5py")


def environment() -> dict[str, str]:
    """Python and the versions of the packages that figures depend on."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def exact_command(run: Run) -> str:
    """The two commands that make this run and its report again from the same workspace."""
    settings = f"-w WORKSPACE -c WORKSPACE/runs/{run.name}/config.yaml"
    return (
        f"thermocancer {run.manifest.stage} {settings} --name {run.name}\n"
        f"thermocancer evaluate {settings} --run {run.name}"
    )
