"""What the user sees: progress, tables and errors; nothing but plain lines without a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from thermocancer.errors import ThermocancerError, visible
from thermocancer.files import Json
from thermocancer.outcome import Plan, StageReport
from thermocancer.progress import SilentTask, Task

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
        self._bars, self.key = bars, key

    def advance(self, steps: float = 1) -> None:
        self._bars.advance(self.key, steps)

    def say(self, text: str) -> None:
        self._bars.update(self.key, said=visible(text))


class _PlainTask:
    """A line every half minute: what is shorter is told by the line that its stage ends with."""

    def __init__(self, console: Console, name: str, total: float | None, unit: str) -> None:
        self._console, self._name, self._total, self._unit = console, name, total, unit
        self._done, self._said = 0.0, ""
        self._started = self._spoken = time.monotonic()

    def advance(self, steps: float = 1) -> None:
        self._done += steps
        self._show()

    def say(self, text: str) -> None:
        self._said = text
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        if now - self._spoken < PLAIN_EVERY_S or self._done == self._total:
            return
        self._spoken = now
        seconds = now - self._started
        count = f"{self._done:g}" + (f" of {self._total:g}" if self._total is not None else "")
        parts = [f"{self._name}: {count} {self._unit}".rstrip(), _pace(self._done / seconds)]
        if self._total is not None and self._done:
            parts.append(f"{in_time((self._total - self._done) * seconds / self._done)} left")
        self._console.print(", ".join(filter(None, [*parts, self._said])), markup=False)


def _pace(per_second: float) -> str:
    """How fast, in a number that a person reads: ``3.2/s``, ``14/min``; nothing before the first step."""
    if per_second <= 0:
        return ""
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{60 * per_second:.1f}/min"


def in_time(seconds: float) -> str:
    """A duration: ``12 s``, ``3 min 05 s``, ``2 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


class ConsoleProgress:
    """One line with rate and time left on a terminal, a line each half minute elsewhere, silence with quiet."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console, self._quiet = console, quiet
        self._bars: Progress | None = None
        self._open: list[_BarTask] = []

    @contextmanager
    def task(self, name: str, total: float | None, unit: str = "") -> Iterator[Task]:
        if self._quiet or total == 0:
            yield SilentTask()
        elif not self._console.is_terminal:
            yield _PlainTask(self._console, name, total, unit)
        else:
            bars = self._bars = self._bars or self._new_bars()
            for around in self._open[-1:]:  # only the innermost work is shown
                bars.update(around.key, visible=False)
            self._open.append(_BarTask(bars, bars.add_task(name, total=total, unit=unit, said="")))
            bars.start()
            try:
                yield self._open[-1]
            finally:
                bars.remove_task(self._open.pop().key)
                for around in self._open[-1:]:
                    bars.update(around.key, visible=True)
                if not self._open:
                    bars.stop()
                    self._bars = None

    def _new_bars(self) -> Progress:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Task as Shown
        from rich.table import Column
        from rich.text import Text

        class Pace(ProgressColumn):
            def render(self, task: Shown) -> Text:
                return Text(_pace(task.speed or 0.0))

        def text(field: str, ratio: int | None = None) -> TextColumn:
            column = Column(no_wrap=True, overflow="ellipsis", ratio=ratio)
            return TextColumn(f"{{task.{field}}}", markup=False, table_column=column)

        return Progress(
            text("description"), BarColumn(8), MofNCompleteColumn(), text("fields[unit]"), Pace(),
            TimeRemainingColumn(),
            text("fields[said]", ratio=1), console=self._console, transient=True, expand=True,
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


def show_report(report: StageReport, console: Console, seconds: float, *, alone: bool = True) -> None:
    """One line for what was done, in words; then what is to be known, and where it lies.

    ``evaluate`` has verdicts for its notes. A part of ``run`` (not ``alone``) says neither what stands nor where.
    """
    judged = report.figures.get("runs", []) if report.stage == "evaluate" else []
    if report.nothing_to_do and alone and not judged:
        console.print(f"{report.stage}: nothing to do, {report.current} up to date", markup=False)
    elif not report.nothing_to_do:
        what = MADE.get(report.stage, "items")
        counts = [f"{report.made:,} {what[:-1] if report.made == 1 else what} made in {in_time(seconds)}"]
        counts += [f"{report.current:,} up to date"] if report.current else []
        counts += [f"{len(report.failed):,} failed"] if report.failed else []
        said = "; ".join(filter(None, [", ".join(counts), ", ".join(figures_in_words(report.figures))]))
        console.print(f"{report.stage}: {said}", markup=False)
    if alone or not report.nothing_to_do:
        written = report.outputs if alone and not report.nothing_to_do else []
        for line in [] if judged else [*report.notes, *(f"wrote {as_typed(path)}" for path in written)]:
            console.print(f"  {line}", markup=False)
    for each in judged if alone else []:
        show_verdict(each, console, whole=report.made == len(judged) == 1)


MADE = {
    "simulate": "visits", "convert": "files", "filter": "files", "import": "files", "fetch": "files",
    "build-dataset": "files", "train-ae": "autoencoders", "export": "formats", "predict": "exams", "locate": "exams",
    "reproduce": "rows", "compare": "comparisons", "validate": "collections",
    **dict.fromkeys(("fuse", "train-dit", "train-cnn", "evaluate"), "runs"),
}  # fmt: skip
"""What a stage makes."""

WORDS = {
    "auc": "AUC {}", "baseline_auc": "AUC of the trivial baseline {}", "dated": "{} with a date",
    "accuracy": "accuracy {}", "patients_without_exam": "{} patients without an exam",
    "contrast_celsius_median": "median contrast {} °C",
    "waiting_seconds": "waited {} s", "pausing_seconds": "paused {} s", "seconds": "", "notice": "",
    "features_computed": "features of {} exams computed", "features_from_cache": "features of {} exams from the cache",
}  # fmt: skip
PREFIXES = {
    "exams_": "{} {word} exams", "kept_": "{} {word} kept", "dropped_": "{} left out ({word})",
    "layout_": "{} as {word}", "static_": "{} static {word}", "dynamic_": "{} dynamic {word}",
}  # fmt: skip


def figures_in_words(figures: Mapping[str, object]) -> list[str]:
    """The figures of a report with their units and intervals; zeros, and what is for programs, are left out.

    >>> figures_in_words({"exams_sick": 7, "bytes": 28281600, "auc": 0.61, "auc_low": 0.23, "auc_high": 0.88})
    ['7 sick exams', '28.3 MB', 'AUC 0.610 (0.230 to 0.880)']
    """
    said = []
    for key, value in figures.items():
        if isinstance(value, (dict, list, str)) or key.endswith(("_low", "_high")) or value in (0, None):
            continue
        low, high = figures.get(f"{key}_low"), figures.get(f"{key}_high")
        if key == "bytes" and isinstance(value, int):
            shown, form = f"{value / 1e6:,.1f} MB", "{}"
        else:
            shown = (
                f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else str(value)
            )
            prefix = next((each for each in PREFIXES if key.startswith(each)), "")
            word = key.removeprefix(prefix).replace("_", " ")
            form = WORDS.get(key, PREFIXES.get(prefix, "{} {word}")).replace("{word}", word)
        interval = f" ({low:.3f} to {high:.3f})" if isinstance(low, float) and isinstance(high, float) else ""
        said.append(form.format(shown + interval))
    return [each for each in said if each]


def as_typed(path: str) -> str:
    """A path below the folder the command was typed in is shown from there, any other in full."""
    whole, here = Path(path).absolute(), Path.cwd()
    return str(whole.relative_to(here)) if whole.is_relative_to(here) else str(whole)


def show_verdict(run: Json, console: Console, *, whole: bool) -> None:
    """What a run is worth: verdict, figures with intervals, where the report is; or the first and last."""
    console.print(f"{run['name']}: {run['headline']}", markup=False, style=f"bold {TONE_COLOURS[run['tone']]}")
    if whole:
        rows = [(each["title"], each["auc"]) for each in run["glance"]]
        rows = [(f"AUC, {title}", each) for title, each in rows] + [
            (f"{name}, this model", run[name]) for name in SHARES
        ]
        width = max(len(title) for title, _ in rows)
        for title, each in rows:
            bounds = "" if each["low"] is None else f"  {each['low']:.3f} to {each['high']:.3f}"
            value = "–" if each["value"] is None else f"{each['value']:.3f}"
            console.print(f"  {title:{width}}  {value}{bounds}", markup=False)
        share = f"{100 * run['confidence']:g}"
        console.print(
            f"  ({share} % intervals; {run['patients']} patients, {run['positives']} {run['positive']})", markup=False
        )
        if run["caveat"]:
            console.print(run["caveat"], markup=False)
    console.print(f"report: {as_typed(run['report'])}", markup=False)


SHARES = ("sensitivity", "specificity")


def show_failures(report: StageReport, console: Console) -> None:
    """Each item that failed, with its reason; the long tail is counted."""
    for failure in report.failed[:MOST_FAILURES_SHOWN]:
        console.print(f"  failed: {failure.item}: {failure.reason}", markup=False)
    rest = len(report.failed) - MOST_FAILURES_SHOWN
    if rest > 0:
        console.print(f"  and {rest} more; --json lists them all", markup=False)


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
