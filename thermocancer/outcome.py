"""What a stage says before it works (a plan) and after it has worked (a report)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thermocancer.config import Config
    from thermocancer.workspace import Workspace


@dataclass(frozen=True)
class Failure:
    """One item that could not be processed, and why."""

    item: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What a stage would do: ``todo`` items to make, ``current`` items that are up to date.

    ``todo`` holds one readable line an item; ``notes`` whatever else ``--dry-run`` should show; ``figures`` what
    ``--dry-run --json`` adds for programs; ``exit_code`` what the run itself would end with, as far as is known.
    """

    stage: str
    todo: tuple[str, ...] = ()
    current: int = 0
    notes: tuple[str, ...] = ()
    figures: dict[str, object] = field(default_factory=dict)
    exit_code: int = 0


@dataclass
class StageReport:
    """What a stage did. ``figures`` holds the numbers a summary table or ``--json`` shows.

    Many figures are welcome; each key names its unit where it has one (``seconds``, ``bytes``).
    """

    stage: str
    made: int = 0
    current: int = 0
    failed: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)

    @property
    def nothing_to_do(self) -> bool:
        return self.made == 0 and not self.failed

    @property
    def exit_code(self) -> int:
        """0 done or nothing to do; 5 finished, but some items failed."""
        return 5 if self.failed else 0

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "exit_code": self.exit_code}


Runner = Callable[[str, "Config", "Workspace"], StageReport]
"""Runs one stage by name. Stages never import one another, so the caller brings it to those that need others."""
