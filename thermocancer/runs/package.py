"""A run as one file that ``predict`` takes anywhere: model, preprocessing, scores of its own, and its card."""

from __future__ import annotations

import contextlib
import stat
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from thermocancer.errors import DataError
from thermocancer.files import inside
from thermocancer.runs.run import Run, read_run
from thermocancer.workspace import FORMAT_VERSION, Workspace

KEPT = (
    "manifest.json", "config.yaml", "predictions.csv", "predictions-baseline.csv", "metrics.json", "report.json",
    "model-card.md", "data-set-card.md",
)  # fmt: skip
MOST_BYTES = 16 << 30
WHEN = (1980, 1, 1, 0, 0, 0)
"""The date of every entry: equal runs, equal bytes."""


def pack(run: Run, path: Path, beside: Mapping[str, str]) -> None:
    """Write the run, and the runs that it combines, to ``path``: a workspace that holds them alone.

    ``beside`` are texts by their paths in it: what stands in no run's folder.
    """
    names = [run.name, *run.manifest.combine]
    folders = [run.workspace.run(name) for name in names]
    files = [folder / name for folder in folders for name in KEPT if (folder / name).is_file()]
    files += sorted(path for folder in folders for path in (folder / "model").rglob("*") if path.is_file())
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        texts = {"workspace.json": f'{{"format_version": {FORMAT_VERSION}}}\n', "run.txt": f"{run.name}\n"}
        for name, text in (texts | dict(beside)).items():
            archive.writestr(zipfile.ZipInfo(name, WHEN), text, zipfile.ZIP_DEFLATED)
        for each in files:
            entry = zipfile.ZipInfo(each.relative_to(run.workspace.root).as_posix(), WHEN)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, (stat.S_IFREG | 0o644) << 16
            with each.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                while chunk := source.read(1 << 20):
                    target.write(chunk)


@contextlib.contextmanager
def unpacked(path: Path) -> Iterator[Run]:
    """The run that a file holds, for as long as the block lasts. Raises DataError where it holds none."""
    hint = "make one with: thermocancer export RUN --formats zip"
    with tempfile.TemporaryDirectory(prefix="thermocancer-") as folder:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
                if sum(each.file_size for each in entries) > MOST_BYTES:
                    raise DataError(
                        "an exported run is too large", where=path, expected=f"{MOST_BYTES} bytes", hint=hint
                    )
                for each in entries:
                    if not each.is_dir():
                        target = inside(Path(folder), each.filename)
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.write_bytes(archive.read(each))
                name = archive.read("run.txt").decode("utf-8").strip()
        except (OSError, zipfile.BadZipFile, KeyError, UnicodeDecodeError, NotImplementedError, RuntimeError) as error:
            raise DataError("this is no exported run", where=path, found=error, hint=hint) from error
        workspace = Workspace(Path(folder))
        workspace.check_version()
        yield read_run(workspace, name, hint=hint)
