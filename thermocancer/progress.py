"""How a stage tells the world how far it has come, without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
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


# --- what is trained by the way, as the network of a fold -----------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Speaks on another task after a name; its steps are that task's only where it ``counts``."""

    whole: Task
    name: str = ""
    counts: bool = False

    def advance(self, steps: float = 1) -> None:
        if self.counts:
            self.whole.advance(steps)

    def say(self, text: str) -> None:
        self.whole.say(f"{self.name}: {text}" if self.name else text)


_AROUND: ContextVar[Task | None] = ContextVar("the task around", default=None)


@contextmanager
def part_of(task: Task | None = None, name: str = "") -> Iterator[None]:
    """Within the block, what is given no task of its own speaks on ``task`` (or the one around) after ``name``."""
    token = _AROUND.set(Part(task or task_around(), name))
    try:
        yield
    finally:
        _AROUND.reset(token)


def task_around() -> Task:
    """The task of the innermost ``part_of``; outside all of them a silent one."""
    return _AROUND.get() or SilentTask()
