"""What the catalog knows of each exam: date, layout, views, files to show."""

from __future__ import annotations

from dataclasses import dataclass, field

from thermocancer.data.catalog import read_catalog
from thermocancer.evaluation.report.ages import ExamKey, ages
from thermocancer.workspace import VIEWS, Workspace

__all__ = ["ExamFacts", "ExamKey", "exam_facts"]


@dataclass
class ExamFacts:
    """One exam's static files by view (or its first dynamic frame), its date, layout and the first file's size."""

    date: str | None = None
    layout: str = ""
    files: dict[str, str] = field(default_factory=dict)
    bytes: int = 0
    age: int | None = None

    @property
    def view_set(self) -> str:
        """The views there are, in the order of their codes."""
        return " + ".join(view for view in VIEWS if view in self.files) or "none"


def exam_facts(workspace: Workspace) -> dict[ExamKey, ExamFacts]:
    """Facts of every exam in the catalog, by (patient, visit); empty where there is no catalog."""
    if not workspace.catalog.exists():
        return {}
    facts: dict[ExamKey, ExamFacts] = {}
    records = [record for record in read_catalog(workspace) if record.status == "ok" and record.path]
    # static files first: a dynamic frame stands in for the frontal view only where there is no static one
    for record in sorted(records, key=lambda each: (each.protocol != "S", each.index, each.path)):
        exam = facts.setdefault((record.patient, record.visit), ExamFacts())
        exam.date = exam.date or record.date
        exam.layout = exam.layout or record.layout
        exam.bytes = exam.bytes or record.bytes
        exam.files.setdefault(record.view, record.path)
    known = ages(workspace, {key: exam.date for key, exam in facts.items()})
    for key, exam in facts.items():
        exam.age = known.get(key)
    return facts
