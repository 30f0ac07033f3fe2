"""How a run is judged and reported, and how settings are searched for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from thermocancer.config.base import Fraction, PositiveInt, Section

AuditRefit = Literal[
    "permuted labels", "leaky twin", "untrained twin", "trivial baselines", "torso only", "background only",
    "early to late",
]  # fmt: skip


class EvaluateSection(Section):
    """``evaluate`` and ``compare``: intervals and the audit."""

    run: str | None = Field(None, description="name of the run; null: every run of the workspace")
    compare: tuple[str, ...] = Field((), description="names of the runs that ``compare`` compares")
    exam: str | None = Field(None, description="file or folder that ``predict`` scores")
    page: str | None = Field(None, description="HTML page of ``predict``; null: predict/RUN/NAME.html, empty: none")
    rows: tuple[str, ...] = Field((), description="published rows that ``reproduce`` makes again; none: all")
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    bootstrap: PositiveInt = 2000
    audit: bool = True
    audit_repeats: PositiveInt = Field(1, description="repeats of cross-validation in each control")
    audit_skip: tuple[AuditRefit, ...] = Field((), description="controls that train again and are left out")
    matched_days: PositiveInt = 270
    matched_room_celsius: Annotated[float, Field(gt=0)] = 0.75
    prevalences: tuple[Fraction, ...] = (0.006, 0.05)
    explain: bool = True


class ReportSection(Section):
    """What the HTML report shows."""

    title: str = "thermocancer report"
    gallery: PositiveInt = Field(24, description="at most so many misclassified exams")


class SweepSection(Section):
    """Hyper-parameter search inside inner folds."""

    trials: Annotated[int, Field(ge=0)] = 0
    space: dict[str, Any] = Field(default_factory=dict)
    storage: str | None = None
