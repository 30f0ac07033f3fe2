"""A judged run for TensorBoard or MLflow: settings, curves by fold, figures with intervals, the report.

Written when ``evaluate`` has judged a run, into the workspace unless ``tracking.uri`` says where else. TensorBoard's
event files (TFRecords of ``Event`` messages) are written with TensorFlow alone.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from thermocancer.classifiers.protocol import CLASSIFIER_FILE
from thermocancer.config import Config, differences
from thermocancer.errors import RunError
from thermocancer.evaluation.statistics.metrics import METRICS
from thermocancer.files import Json, folder_written_aside, read_json
from thermocancer.runs.history import Row, read_history
from thermocancer.runs.run import Run
from thermocancer.workspace import Workspace

ARTEFACTS = ("report.html", "metrics.json", "model-card.md")


def track(run: Run, workspace: Workspace, config: Config) -> str | None:
    """Log a judged run; returns where, or None where nothing is asked for. Raises RunError where it cannot be."""
    section = config.tracking
    if section.kind == "none":
        return None
    settings = {key: str(here) for key, (here, _) in differences(run.required_config(), Config()).items()}
    metrics, figures = read_json(run.folder / "metrics.json"), dict[str, float]()
    for name in METRICS:
        for part in ("value", "low", "high"):
            if isinstance(value := metrics.get(name, {}).get(part), (int, float)):
                figures[name if part == "value" else f"{name}_{part}"] = float(value)
    known = run.manifest
    about = {"made_from": known.made_from, "kind": known.kind, "dataset": known.dataset.fingerprint}
    place = workspace.root / "tracking" / section.kind
    log = _to_tensorboard if section.kind == "tensorboard" else _to_mlflow
    try:
        return log(section.uri or str(place.absolute()), run, settings | about, curves_of(run, workspace), figures)
    except Exception as error:  # a tracker's own errors are of many kinds, and no reason to lose the run
        raise RunError("the run could not be tracked", where="tracking.uri", found=error) from error


Curves = Mapping[str, list[Row]]
"""The epochs of each training, by what was trained and its fold: ``fold-1.2``, ``Frontal/fold-1.2``."""


def curves_of(run: Run, workspace: Workspace) -> Curves:
    """Of the run's own network, and of the autoencoders whose codes it reads."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in run.history:
        found[f"fold-{row.get('fold', 'all')}"].append(row)
    about = run.model_folder / CLASSIFIER_FILE
    variant = read_json(about).get("autoencoder") if about.exists() else None
    for view in run.manifest.views if variant else ():
        folder = workspace.autoencoder(str(variant), view)
        for path in (folder / "history.jsonl", *sorted(folder.glob("folds/*/history.jsonl"))):
            fold = "split" if path.parent == folder else path.parent.name
            found[f"{view}/fold-{fold}"] += read_history(path)
    return {name: rows for name, rows in found.items() if rows}


def _points(rows: list[Row]) -> Iterator[tuple[int, str, float]]:
    for row in rows:
        for name, value in row.items():
            if name not in ("epoch", "fold", "seed") and isinstance(value, (int, float)):
                yield int(row["epoch"]), name, float(value)


def _to_tensorboard(
    uri: str, run: Run, settings: Mapping[str, str], curves: Curves, figures: Mapping[str, float]
) -> str:  # fmt: skip
    """One folder a run and, in it, one a training, as TensorBoard tells runs apart; the report lies beside."""
    import tensorflow as tf
    from tensorflow.core.framework.summary_pb2 import Summary, SummaryMetadata
    from tensorflow.core.util.event_pb2 import Event

    def write(folder: Path, events: list[Event]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(folder / "events.out.tfevents.0.thermocancer")) as file:
            for each in (Event(file_version="brain.Event:2"), *events):
                each.wall_time = made
                file.write(each.SerializeToString())

    def scalar(step: int, tag: str, value: float) -> Event:
        return Event(step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]))

    made = (run.folder / "metrics.json").stat().st_mtime
    text = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    table = "\n".join(
        ["| setting | value |", "|---|---|", *(f"| {key} | {value} |" for key, value in settings.items())]
    )
    shown = Summary.Value(tag="parameters", metadata=text, tensor=tf.make_tensor_proto([table], dtype=tf.string))
    with folder_written_aside(Path(uri) / run.name) as side:
        final = [scalar(0, f"final/{name}", value) for name, value in figures.items()]
        write(side, [Event(summary=Summary(value=[shown])), *final])
        for name, rows in curves.items():
            write(side / name, [scalar(*point) for point in _points(rows)])
        for name in ARTEFACTS:
            if (run.folder / name).is_file():
                (side / name).write_bytes((run.folder / name).read_bytes())
    return str(Path(uri) / run.name)


def _to_mlflow(uri: str, run: Run, settings: Mapping[str, str], curves: Curves, figures: Mapping[str, float]) -> str:
    """One run of the experiment that is called as the workspace; metrics are ``loss.fold-1_2`` and so on."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    local = "://" not in uri
    if local:  # MLflow 3 takes a plain folder only when it is told so
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        uri = Path(uri).absolute().as_uri()
    client, title = MlflowClient(tracking_uri=uri), run.workspace.root.resolve().name
    known = client.get_experiment_by_name(title)
    experiment = known.experiment_id if known else client.create_experiment(title)
    logged: Json = {"key": client.create_run(experiment, run_name=run.name).info.run_id}
    when = int(1000 * (run.folder / "metrics.json").stat().st_mtime)
    client.log_batch(logged["key"], params=[Param(key, value[:500]) for key, value in settings.items()])
    points = [(f"final.{name}", value, 0) for name, value in figures.items()]
    for name, rows in curves.items():
        points += [(f"{tag}.{name}", value, step) for step, tag, value in _points(rows)]
    for start in range(0, len(points), 1000):  # the most that one call may carry
        batch = [Metric(name, value, when, step) for name, value, step in points[start : start + 1000]]
        client.log_batch(logged["key"], metrics=batch)
    for name in ARTEFACTS:
        if (run.folder / name).is_file():
            client.log_artifact(logged["key"], str(run.folder / name))
    client.set_terminated(logged["key"])
    return f"{uri}, run {logged['key']}"
