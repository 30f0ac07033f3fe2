"""The one writer of ``runs/NAME``: settings, history, scores, model and, last, the manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from thermocancer.config import Config, dump_yaml
from thermocancer.config.judging import TrackingSection
from thermocancer.config.learning import ComputeSection
from thermocancer.files import folder_written_aside, sweep, write_text
from thermocancer.kinds import Kind
from thermocancer.runs.history import write_history
from thermocancer.runs.manifest import FILE as MANIFEST
from thermocancer.runs.manifest import VERSION, Manifest
from thermocancer.runs.predictions import Prediction, write_predictions
from thermocancer.runs.run import BASELINE, CONFIG, HISTORY, INNER, MODEL, PREDICTIONS
from thermocancer.workspace import output_hashes


def write_run(
    folder: Path,
    config: Config,
    kind: Kind,
    made_from: str,
    facts: Mapping[str, object],
    *,
    rows: Sequence[Prediction],
    history: Iterable[Mapping[str, object]],
    save_model: Callable[[Path], object],
    inner: Sequence[Prediction] | None = None,
    baseline: Sequence[Prediction] = (),
    files: Sequence[str] | None = None,
    tables: Mapping[str, str] | None = None,
) -> Manifest:
    """Write a run's folder; a kill leaves it without the manifest of this run, and so not finished.

    ``rows`` are the out-of-sample scores, ``inner`` those of training exams by inner models (None: the kind has
    none, not even a file), ``baseline`` those of the trivial model on the same folds. ``files`` names the image
    of each row; ``tables`` are further files, text by name. ``save_model`` writes the model into the folder it is
    given. ``facts`` are the manifest's fields besides version, kind, stage, ``made_from`` and outputs.
    """
    sweep(folder)
    outputs = [folder / name for name in (CONFIG, HISTORY, PREDICTIONS)]
    # who computed it decides nothing of it
    write_text(
        outputs[0], dump_yaml(config.model_copy(update={"compute": ComputeSection(), "tracking": TrackingSection()}))
    )
    # sorted: a fold that was kept and read again has its keys in another order
    write_history(outputs[1], (dict(sorted(row.items())) for row in history))
    write_predictions(outputs[2], rows, files)
    if inner is not None:
        outputs.append(folder / INNER)
        write_predictions(outputs[-1], inner)
    if baseline:
        outputs.append(folder / BASELINE)
        write_predictions(outputs[-1], baseline)
    else:
        (folder / BASELINE).unlink(missing_ok=True)  # that of an earlier run of this name
    for name, text in (tables or {}).items():
        outputs.append(folder / name)
        write_text(outputs[-1], text)
    with folder_written_aside(folder / MODEL) as side:
        save_model(side)
    outputs += (path for path in (folder / MODEL).rglob("*") if path.is_file())
    known = {"version": VERSION, "kind": kind.name, "stage": kind.stage, "made_from": made_from}
    manifest = Manifest.model_validate({**facts, **known, "outputs": output_hashes(folder, outputs)})
    manifest.write(folder / MANIFEST)
    return manifest
