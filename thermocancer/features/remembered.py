"""Results kept for the sources they were computed from, so that many folds share one computation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from thermocancer.data.cohort import Cohort

T = TypeVar("T")


class Remembered(Generic[T]):
    """The results for the last few sources, told apart by identity (a source's content never changes).

    Sources are kept alive with their results, so an identity cannot be taken over by another one.
    """

    def __init__(self, keep: int = 4) -> None:
        self._keep = keep
        self._known: dict[int, tuple[Cohort, T]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What is known stays in this process: another one has other sources."""
        return {"_keep": self._keep, "_known": {}}

    def of(self, source: Cohort, make: Callable[[Cohort], T]) -> T:
        """The result for ``source``: the known one, or ``make(source)``."""
        entry = self._known.get(id(source))
        if entry is None:
            entry = (source, make(source))
            self._known[id(source)] = entry
            while len(self._known) > self._keep:
                del self._known[next(iter(self._known))]
        return entry[1]
