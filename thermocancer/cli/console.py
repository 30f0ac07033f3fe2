"""What the user sees: progress, tables and errors; nothing but plain lines without a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from thermocancer.errors import ThermocancerError, visible
from thermocancer.files import Json
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import Task

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

MOST_FAILURES_SHOWN = 20
PLAIN_EVERY_S = 30.0


def make_console(*, stderr: bool = False) -> Console:
    """A rich console that writes plain text when its stream is no terminal."""
    from rich.console import Console

    class Safe(Console):
        """A console on which a text is one line, whatever letters it holds."""

        def print(self, *objects: object, **how: object) -> None:
            said = (visible(each) if isinstance(each, str) else each for each in objects)
            super().print(*said, **how)  # type: ignore[arg-type]  # handed on as it was given

    stream = sys.stderr if stderr else sys.stdout
    is_terminal = stream.isatty()
    # soft_wrap keeps one item on one line for grep; colour and markup only where a person reads
    return Safe(
        file=stream, force_terminal=is_terminal, no_color=not is_terminal, soft_wrap=not is_terminal, highlight=False
    )


class _BarTask:
    def __init__(self, bars: Progress, key: TaskID) -> None:
        self._bars, self._key = bars, key

    def advance(self, steps: float = 1) -> None:
        self._bars.advance(self._key, steps)

    def say(self, text: str) -> None:
        self._bars.update(self._key, said=visible(text))


class _PlainTask:
    """A line at the end and, for long work, one every half minute."""

    def __init__(self, console: Console, name: str, total: float | None, unit: str) -> None:
        self._console, self._name, self._total, self._unit = console, name, total, unit
        self._done, self._said = 0.0, ""
        self._started = self._spoken = time.monotonic()

    def advance(self, steps: float = 1) -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._spoken >= PLAIN_EVERY_S:
            self._spoken = now
            self.show()

    def say(self, text: str) -> None:
        self._said = text

    def show(self) -> None:
        seconds = time.monotonic() - self._started
        count = f"{self._done:g}" + (f"/{self._total:g}" if self._total is not None else "")
        rate = f", {self._done / seconds:.1f} a second" if seconds > 1 else ""
        said = f", {self._said}" if self._said else ""
        self._console.print(f"{self._name}: {count} {self._unit}{rate}{said}".rstrip(), markup=False)


class ConsoleProgress:
    """Progress bars with rate and time left on a terminal, plain lines elsewhere, silence with quiet."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console, self._quiet = console, quiet

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[Task]:
        if self._quiet:
            from thermocancer.progress import Silent

            with Silent().task(name, total, unit) as task:
                yield task
        elif self._console.is_terminal:
            with self._bars() as bars:
                yield _BarTask(bars, bars.add_task(name, total=total, unit=unit, said=""))
        else:
            plain = _PlainTask(self._console, name, total, unit)
            yield plain
            plain.show()

    def _bars(self) -> Progress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        return Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(), TextColumn("{task.fields[said]}", markup=False),
            console=self._console, transient=True,
        )  # fmt: skip

    def note(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, markup=False)


def show_error(error: ThermocancerError, console: Console) -> None:
    """One short block: what, where, expected, found, what to type next."""
    titles = {"what": "error", "where": "where", "expected": "expected", "found": "found", "hint": "next"}
    for name, text in error.fields().items():
        console.print(f"{titles[name]}: {text}", markup=False, style="bold red" if name == "what" else None)


def show_plan(plan: Plan, console: Console) -> None:
    """What ``--dry-run`` prints."""
    console.print(
        f"{plan.stage}: {len(plan.todo)} to do, {plan.current} up to date (dry run, nothing touched)", markup=False
    )
    for line in (*plan.notes, *plan.todo):
        console.print(f"  {line}", markup=False)


def show_report(report: StageReport, console: Console, seconds: float) -> None:
    """One line for nothing to do; otherwise a summary table and what failed."""
    if report.nothing_to_do:
        console.print(f"{report.stage}: nothing to do, {report.current} up to date", markup=False)
        for note in report.notes:
            console.print(f"  {note}", markup=False)
        return
    rows: dict[str, object] = {"made": report.made, "up to date": report.current, "failed": len(report.failed)}
    rows |= {name: _figure(value) for name, value in report.figures.items() if not isinstance(value, (dict, list))}
    rows["seconds"] = f"{seconds:.1f}"
    if console.is_terminal:
        _show_table(report.stage, rows, console)
    else:
        console.print(f"{report.stage}: " + ", ".join(f"{name} {value}" for name, value in rows.items()), markup=False)
    for line in (*report.notes, *(f"wrote {path}" for path in report.outputs)):
        console.print(f"  {line}", markup=False)


def show_failures(report: StageReport, console: Console) -> None:
    """Each item that failed, with its reason; the long tail is counted."""
    for failure in report.failed[:MOST_FAILURES_SHOWN]:
        console.print(f"  failed: {failure.item}: {failure.reason}", markup=False)
    rest = len(report.failed) - MOST_FAILURES_SHOWN
    if rest > 0:
        console.print(f"  and {rest} more; --json lists them all", markup=False)


def _figure(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _show_table(title: str, rows: dict[str, object], console: Console) -> None:
    from rich.table import Table

    table = Table(title=title, show_header=False)
    for name, value in rows.items():
        table.add_row(visible(name), visible(str(value)))
    console.print(table)


TONE_COLOURS = {"good": "green", "open": "blue", "caution": "yellow", "bad": "red"}


def show_runs(runs: Sequence[Json], console: Console) -> None:
    """One line a run: AUC with its interval, the trivial baseline's AUC, tone, model, data set, when it was made."""
    from rich.markup import escape
    from rich.table import Table

    if not runs:
        console.print("there is no run here yet; make one with: thermocancer fuse")
        return
    lines = [("run", "AUC", "baseline", "verdict", "model", "made (UTC)")]
    for each in runs:
        if "problem" in each:
            lines.append((each["name"], each["problem"], "", "", "", ""))
            continue
        auc, baseline = each["auc"], each["baseline"]
        figure = "not evaluated" if auc is None else f"{auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})"
        changed = "" if each["evaluated"] or auc is None else ", before it changed"
        lines.append(
            (
                each["name"], figure + changed, "" if baseline is None else f"{baseline['value']:.3f}",
                each["tone"] or "", each["model"] + (", leaky protocol" if each["leaks"] else ""), each["made"][:16],
            )
        )  # fmt: skip
    if not console.is_terminal:
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            console.print("  ".join(cells).rstrip(), markup=False)
        return
    table = Table(box=None, pad_edge=False)
    for title in lines[0]:
        table.add_column(title, overflow="fold")
    for name, figure, baseline, tone, *rest in lines[1:]:
        table.add_row(
            escape(name),
            escape(figure),
            baseline,
            f"[{TONE_COLOURS.get(tone, 'default')}]{tone}[/]",
            *map(escape, rest),
        )
    console.print(table)
