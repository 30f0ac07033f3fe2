"""``export``: a run as ONNX, SavedModel and LiteRT, compared with itself, and as a zip for ``predict``."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from thermocancer import strategy
from thermocancer.config import Config
from thermocancer.config.learning import StrategySection
from thermocancer.errors import ConfigError, DataError, RunError, install_hint
from thermocancer.files import Json, fingerprint, folder_written_aside, hash_file, write_json, written_aside
from thermocancer.kinds import Reads
from thermocancer.outcome import Failure, Plan, StageReport
from thermocancer.progress import Progress
from thermocancer.runs.run import Run, read_run
from thermocancer.strategy.running import quietly
from thermocancer.workspace import Stamp, Workspace

if TYPE_CHECKING:
    from thermocancer.classifiers.protocol import Exportable

STAGE = "export"
TOLERANCE = 1e-4
"""Largest difference of a probability from Keras' own that is let through."""

TIMED_CALLS = 10
NAMES = {"saved_model": "saved_model", "onnx": "model.onnx", "litert": "model.tflite", "zip": "run.zip"}
NEEDS = {"tf2onnx": ("tf2onnx", "onnx", "onnxruntime"), "onnx": ("onnx", "onnxruntime")}

Output = npt.NDArray[np.float32]
Inputs = dict[str, npt.NDArray[np.float32]]
Runner = Callable[[Inputs], Output]


@dataclass(frozen=True)
class Job:
    """One run to export: its own config, the formats to write, and which are left out for want of a library."""

    run: Run
    own: Config
    formats: tuple[str, ...]
    left_out: tuple[str, ...]
    made_from: str

    @property
    def target(self) -> Path:
        return self.run.folder / "export"

    @property
    def stamp(self) -> Stamp:
        return Stamp(self.target / "export.json")


def plan(config: Config, workspace: Workspace) -> Plan:
    """What ``run`` would write. Touches nothing."""
    job = _job(config, workspace)
    if job.stamp.is_current(job.made_from):
        return Plan(STAGE, current=len(job.formats))
    return Plan(STAGE, tuple(f"{job.target / NAMES[each]}" for each in job.formats), notes=job.left_out)


def run(config: Config, workspace: Workspace, progress: Progress) -> StageReport:
    """Write and compare every format. Formats that fail are listed; the rest is done.

    Raises ConfigError for a format that the kind does not have or whose converter is not installed, RunError when no
    format could be written.
    """
    job = _job(config, workspace)
    report = StageReport(STAGE, notes=list(job.left_out), outputs=[str(job.target)])
    if job.stamp.is_current(job.made_from):
        report.current = len(job.formats)
        return report
    written: dict[str, Json] = {}
    graphs = [each for each in job.formats if each != "zip"]
    with progress.task(f"export {job.run.name}", len(job.formats), "formats") as task:
        subject, reference, wanted = None, None, job.formats
        try:
            subject, reference = _subject(job, config, workspace, report) if graphs else (None, None)
        except (ConfigError, DataError) as error:  # what was not asked for by name may be left out
            if config.evaluate.formats:
                raise
            wanted = ("zip",)
            report.notes.append(f"{', '.join(graphs)} left out: {error}")
        for each in wanted:
            task.say(each)
            try:
                if each == "zip":
                    written[each] = _packed(job)
                elif subject is not None and reference is not None:
                    written[each] = _write(job, each, subject, reference)
                report.made += 1
            except RunError as error:
                report.failed.append(Failure(each, str(error)))
            task.advance()
    report.figures |= written
    report.notes += [
        f"{name}: differs by {found['parity']:.1e} at most on {found['exams']} exams, "
        f"{found['latency_ms']:.2f} ms an exam, {found['bytes'] / 1e6:.2f} MB"
        for name, found in written.items() if name != "zip"
    ]  # fmt: skip
    if not written:
        raise RunError("no format could be written", found="; ".join(each.reason for each in report.failed))
    facts = _manifest(job, subject, written)
    if report.failed:
        write_json(job.stamp.path, {"made_from": "", "outputs": {}, **facts})
    else:
        job.stamp.write(job.made_from, [path for each in written for path in _files(job.target / NAMES[each])], **facts)
    return report


def _manifest(job: Job, subject: Exportable | None, written: Mapping[str, Json]) -> Json:
    """What goes in, what comes out, how close each format is; latencies are not kept in it."""
    facts: Json = {"run": job.run.name}
    if subject is not None:
        probability = "probability of the second class; score = logistic(slope * logit(probability) + intercept)"
        facts |= {
            "inputs": {name: list(each.shape[1:]) for name, each in subject.samples.items()},
            "output": "score of the second class, calibrated" if subject.model is None else probability,
            **subject.facts,
        }  # fmt: skip
    return facts | {
        "formats": {
            each: {"file": NAMES[each]} | {key: found[key] for key in ("parity", "content") if key in found}
            for each, found in written.items()
        },
        "other_bytes_each_time": ["saved_model"] if "saved_model" in written else [],
    }


def _subject(job: Job, config: Config, workspace: Workspace, report: StageReport) -> tuple[Exportable, Output]:
    """What is written, and what the run itself says of the samples, (n, 1)."""
    from thermocancer.classifiers.making import asked_for, family_of

    # the converters take TensorFlow's graphs; a model trained under JAX loads here all the same
    running = strategy.set_up(StrategySection(backend="tensorflow", kind="cpu"), config.seed)
    folder = job.run.model_folder
    _, family, settings = family_of(folder)
    subject = family.exportable(folder, settings, asked_for(job.own, workspace, job.run.manifest.views or None))
    if any(len(sample) == 0 for sample in subject.samples.values()):
        raise DataError("no exam to compare the exported model on", where=workspace.dataset(job.own.dataset.name))
    if subject.model is None:
        assert subject.expected is not None
        return subject, subject.expected.astype(np.float32)[:, None]
    engine, model = running.engine, subject.model
    reference, keras_ms = _timed(lambda inputs: engine.predict(model, _bare(inputs)), subject.samples)
    report.figures["keras"] = {"latency_ms": keras_ms}
    return subject, reference


def _packed(job: Job) -> Json:
    """The zip: the run, and of each run in it what is known of the exams it was trained on."""
    from thermocancer.evaluation.prediction.novelty import TRAINING, training_of
    from thermocancer.runs.package import pack

    beside = {}
    for name in (job.run.name, *job.run.manifest.combine):
        each = read_run(job.run.workspace, name)
        if each.reads not in (Reads.RUNS, Reads.IMAGES) and (known := training_of(each, each.required_config())):
            beside[f"runs/{name}/{TRAINING}"] = json.dumps(known.as_json(), sort_keys=True)
    with written_aside(job.target / NAMES["zip"]) as side:
        pack(job.run, side, beside)
    return {"bytes": (job.target / NAMES["zip"]).stat().st_size, "content": hash_file(job.target / NAMES["zip"])}


def _job(config: Config, workspace: Workspace) -> Job:
    from thermocancer.classifiers.making import family_of
    from thermocancer.classifiers.protocol import MEMBERS

    name = config.evaluate.run
    if name is None:
        raise ConfigError("which run is to be exported?", where="evaluate.run", hint="thermocancer export NAME")
    found = read_run(workspace, name)
    kind, family, settings = family_of(found.model_folder)
    several = MEMBERS in settings and found.reads is not Reads.IMAGES
    needs = {} if several else {each.removeprefix("tf2"): NEEDS.get(each, ()) for each in family.exports}
    needs["zip"] = ()
    missing = {
        each: [lib for lib in libraries if importlib.util.find_spec(lib) is None] for each, libraries in needs.items()
    }
    for each in config.evaluate.formats:
        if each not in needs:
            raise ConfigError(
                f"a run of this kind cannot be written as {each}", where="evaluate.formats", found=kind.words,
                expected=", ".join(needs), hint=f"thermocancer export {name} --formats zip",
            )  # fmt: skip
        if missing[each]:
            raise ConfigError(
                f"the format {each} needs libraries that are not installed",
                where="evaluate.formats", expected=", ".join(missing[each]), hint=install_hint("export"),
            )  # fmt: skip
    formats: tuple[str, ...] = config.evaluate.formats or tuple(each for each in needs if not missing[each])
    model = sorted(path for path in found.model_folder.rglob("*") if path.is_file())
    known = ("tensorflow", "keras", "tf2onnx", "onnx")
    versions = {lib: importlib.metadata.version(lib) for lib in known if importlib.util.find_spec(lib) is not None}
    made_from = fingerprint(STAGE, 2, formats, [[path.name, hash_file(path)] for path in model], versions)
    own = found.required_config()
    if config.cnn.data is not None:
        own = own.model_copy(update={"cnn": own.cnn.model_copy(update={"data": config.cnn.data})})
    left_out = tuple(
        f"{each} is left out: {', '.join(libraries)} not installed; next: {install_hint('export')}"
        for each, libraries in missing.items()
        if libraries and each not in formats
    )
    return Job(found, own, formats, left_out, made_from)


def _write(job: Job, form: str, subject: Exportable, reference: Output) -> Json:
    """Write one format aside, compare it, time it, rename it into place."""
    final = job.target / NAMES[form]
    with folder_written_aside(final) as side:
        with _explained(form, "converted"), quietly(1, 2), warnings.catch_warnings():
            # tf2onnx probes NumPy's retired names, LiteRT's converter announces its successor
            warnings.filterwarnings("ignore", category=FutureWarning, module="keras")
            warnings.filterwarnings("ignore", category=UserWarning, module="tensorflow")
            warnings.filterwarnings("ignore", category=DeprecationWarning, module="keras")
            name = "tf_saved_model" if form == "saved_model" else form
            if form == "onnx" and subject.graph is not None:
                side.write_bytes(subject.graph().SerializeToString())
            elif subject.model is not None:
                subject.model.export(str(side), format=name, verbose=False)
        with _explained(form, "run"):
            found, latency_ms = _timed(_opened(form, side), subject.samples)
        difference = float(np.abs(found - reference).max())
        if not difference <= TOLERANCE:
            raise RunError(
                f"the exported {form} disagrees with the model it was made from",
                where=final, expected=f"probabilities within {TOLERANCE:g}", found=f"{difference:.3g}",
            )  # fmt: skip
    size = sum(each.stat().st_size for each in _files(final))
    content = _content(form, final)
    return {"parity": difference, "content": content, "latency_ms": latency_ms, "bytes": size, "exams": len(reference)}


def _content(form: str, path: Path) -> str:
    """SHA-256 of what an export holds, equal whenever a run is exported anew: the arrays of a SavedModel, in no order
    (TensorFlow draws a UUID for it and orders its graph anew in every process), and every other file as it is.
    """
    if form != "saved_model":
        return hash_file(path)
    import tensorflow as tf

    stored = tf.train.load_checkpoint(str(path / "variables" / "variables"))
    names = [each for each in stored.get_variable_to_shape_map() if each != "_CHECKPOINTABLE_OBJECT_GRAPH"]
    arrays = [np.asarray(stored.get_tensor(each)) for each in names]
    return fingerprint(sorted((str(each.dtype), each.shape, each.tobytes().hex()) for each in arrays))


@contextlib.contextmanager
def _explained(form: str, done: str) -> Iterator[None]:
    """Converters and runtimes raise whatever their layers raise; the user is told which layer it was."""
    try:
        yield
    except Exception as error:
        raise RunError(
            f"the model could not be {done} as {form}",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
        ) from error


def _bare(inputs: Inputs) -> Inputs | Output:
    """A network with one input takes the array itself."""
    return inputs if len(inputs) > 1 else next(iter(inputs.values()))


def _opened(form: str, path: Path) -> Runner:
    """What runs an exported file."""
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return _by_name([each.name for each in session.get_inputs()], lambda given: session.run(None, given)[0])
    import tensorflow as tf

    if form == "saved_model":
        loaded = tf.saved_model.load(str(path))
        return lambda inputs: np.asarray(loaded.serve(_bare(inputs)))
    with quietly(1, 2), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the interpreter is to move to a package of its own
        runner = tf.lite.Interpreter(str(path)).get_signature_runner()
    return _by_name(list(runner.get_input_details()), lambda given: next(iter(runner(**given).values())))


def _by_name(names: list[str], answer: Runner) -> Runner:
    """A runtime that is given each of its inputs by name; what it calls a single input may be its own word."""

    def call(inputs: Inputs) -> Output:
        by_name = inputs if len(inputs) > 1 else dict.fromkeys(names, next(iter(inputs.values())))
        return np.asarray(answer({name: by_name[name] for name in names}))

    return call


def _timed(call: Runner, samples: Inputs) -> tuple[Output, float]:
    """The output for every sample, called one exam at a time, and the median milliseconds of a call."""
    count = len(next(iter(samples.values())))
    found, spent = [], []
    with quietly(1, 2):
        for number in range(max(count, TIMED_CALLS) + 1):
            one = {name: each[number % count : number % count + 1] for name, each in samples.items()}
            started = time.perf_counter()
            output = call(one)
            spent.append(1e3 * (time.perf_counter() - started))
            if number < count:
                found.append(output)
    return np.concatenate(found), round(statistics.median(spent[1:]), 3)


def _files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
