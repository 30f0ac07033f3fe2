"""How a stage tells the world how far it has come, without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One counted piece of work."""

    def advance(self, steps: float = 1) -> None: ...

    def say(self, text: str) -> None:
        """Replace the short text shown beside the count (a loss, a file name)."""


class Progress(Protocol):
    """Where stages report. ``cli/`` draws it; a notebook or a test passes ``Silent()``."""

    def task(self, name: str, total: float | None, unit: str = "") -> AbstractContextManager[Task]: ...

    def note(self, text: str) -> None:
        """One line worth keeping, whatever the output looks like."""


class SilentTask:
    def advance(self, steps: float = 1) -> None:
        return None

    def say(self, text: str) -> None:
        return None


class Silent:
    """Shows nothing; keeps the notes for whoever asks."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[Task]:
        yield SilentTask()

    def note(self, text: str) -> None:
        self.notes.append(text)
