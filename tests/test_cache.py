"""The one rule of the cache, on every cache of the product: whatever stands in a file's place, results are the same."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_fixtures import add_file, body
from evaluation_fixtures import pixels_config, toy_rows, toy_source, write_dataset, write_run
from fuse_fixtures import cohort, config_for, labels_of
from image_fixtures import make_slices
from image_fixtures import tiny_config as image_config
from sequence_fixtures import in_memory
from sequence_fixtures import tiny_config as sequence_config

from thermocancer import strategy
from thermocancer.cache import (
    FAMILIES,
    cached_array,
    cached_json,
    empty_cache,
    holdings,
    kept_arrays,
    mapped_array,
    scratch_array,
)
from thermocancer.config import dump_yaml
from thermocancer.data.selection import measure_records
from thermocancer.data.split import make_split
from thermocancer.errors import DataError, LockedError, RunError
from thermocancer.evaluation.prediction.novelty import training_of
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.files import HashIndex
from thermocancer.progress import Silent
from thermocancer.runs.run import read_run
from thermocancer.stages.doctor import check_up, clean_cache
from thermocancer.thermal.quality import Measured
from thermocancer.workspace import Workspace

SHAPE = (4, 3)
VALUES = np.arange(12, dtype=np.float32).reshape(SHAPE)


# --- what may stand in a file's place -----------------------------------------


def zero_bytes(path: Path) -> None:
    path.write_bytes(b"")


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def random_bytes(path: Path) -> None:
    path.write_bytes(np.random.default_rng(path.stat().st_size).bytes(path.stat().st_size))


def another_shape(path: Path) -> None:
    if path.suffix == ".json":
        path.write_text("[1, 2]")
    elif path.suffix == ".npz":
        np.savez(path, products=np.ones((2, 2), np.float32), variance=1.0)
    else:
        known = np.load(path)
        np.save(path, np.ones((*known.shape[:-1], known.shape[-1] + 1), known.dtype))


def another_type(path: Path) -> None:
    if path.suffix == ".json":
        path.write_text('{"rows": null}')
    elif path.suffix == ".npz":
        with np.load(path) as known:
            np.savez(path, products=known["products"].astype(np.float64), variance=known["variance"])
    else:
        known = np.load(path)
        np.save(path, np.ones(known.shape, np.complex64))


def pickled(path: Path) -> None:
    with path.open("wb") as handle:
        np.save(handle, np.array([{"run": "me"}], dtype=object), allow_pickle=True)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("else")


def not_to_be_read(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)  # a circle: for the superuser too


DAMAGES = (
    zero_bytes, cut_in_half, random_bytes, another_shape, another_type, pickled, a_folder, not_to_be_read,
)  # fmt: skip


# --- every cache of the product -----------------------------------------------


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_slices(tmp_path_factory.mktemp("cached") / "slices", train=4, test=3, patients=2)


def table(root: Path, slices: Path) -> np.ndarray:
    from thermocancer.features.tables import Table, measured_table

    return measured_table(cohort(4), Table.THERMAL, ("Frontal",), (6, 8), root / "cache")


def pixel_table(root: Path, slices: Path) -> np.ndarray:
    from thermocancer.features.tables import Table, measured_table

    return measured_table(cohort(4), Table.PIXELS, ("Frontal",), (6, 8), root / "cache")


def _untrained(root: Path):
    from thermocancer.classifiers.encoders import Encoders

    return Encoders.of(config_for(Workspace(root), fuse__untrained=True), Workspace(root))


def codes(root: Path, slices: Path) -> np.ndarray:
    from thermocancer.features.encoded import all_codes

    source = cohort(4)
    encoder = _untrained(root).load(source, "Frontal", "test")
    with all_codes(encoder, source, "Frontal", root / "cache", keep=True) as kept:
        assert isinstance(kept, np.memmap)
        assert not kept.flags.writeable
        return np.array(kept)


def pooled(root: Path, slices: Path) -> np.ndarray:
    from thermocancer.features.encoded import pooled_codes

    source = cohort(4)
    encoder = _untrained(root).load(source, "Frontal", "test")
    return pooled_codes(encoder, source, "Frontal", np.array([3, 0]), root / "cache")


def gram(root: Path, slices: Path) -> np.ndarray:
    from thermocancer.classifiers.encoders import Grams

    source = cohort(4)
    grams = Grams(_untrained(root), ("Frontal",), False, root / "cache")
    found = grams.of(source, "test", grams.part(source, np.arange(4), labels_of(source)[:4]))
    return np.append(found.products.ravel(), found.variance)


def masked(root: Path, slices: Path) -> np.ndarray:
    from thermocancer.evaluation.audit.refits import MaskedCohort
    from thermocancer.thermal.regions import torso_only

    return MaskedCohort(cohort(4), torso_only, "torso-only", root / "cache" / "masked").frames("Frontal", np.arange(4))


def frame_features(root: Path, slices: Path) -> np.ndarray:
    from thermocancer.classifiers.sequence.readers import FrameReaders, SequenceFeatures

    config = sequence_config(Workspace(root))
    strategy.set_up(config.strategy, config.seed)
    reader = FrameReaders(config, Workspace(root)).of("test")
    return SequenceFeatures(in_memory(2), reader, (0, 6), root / "cache", 0).of(np.arange(2))


def _images(root: Path, slices: Path, **options: object):
    from thermocancer.data.image_cohort import ImageCohort
    from thermocancer.data.image_folder import read_image_folder

    config = image_config(Workspace(root), slices, **options)
    return config, ImageCohort(read_image_folder(slices), config.cnn.size, config.cnn.color, root / "cache")


def image_pixels(root: Path, slices: Path) -> np.ndarray:
    cohort = _images(root, slices)[1]
    assert isinstance(cohort._pixels, np.memmap)
    return cohort.frames("image", np.arange(len(cohort.exams)))


def image_features(root: Path, slices: Path) -> np.ndarray:
    from thermocancer.classifiers.image.examples import image_features

    config, cohort = _images(root, slices, cnn__model="backbone", cnn__backbone="random")
    running = strategy.set_up(config.strategy, config.seed)
    return image_features(config.cnn, cohort, root / "cache", running, 1, Silent())[1]


def audit_scores(root: Path, slices: Path) -> np.ndarray:
    from thermocancer.evaluation.audit.controls import Judge
    from thermocancer.evaluation.audit.scope import Refitting, make_scope

    rows, workspace = toy_rows(20, repeats=1), Workspace(root)
    write_run(workspace, "toy", rows, model="pixels")
    source = toy_source(rows)
    scope = make_scope(read_run(workspace, "toy"), source, {})
    again = Refitting(scope, source, pixels_config(workspace), workspace, Judge(gather_units(rows), 0.95, 50, 0), 1)
    return np.array([each.score for each in again.scores("again", again.classifier())])


def audit_scores_of_images(root: Path, slices: Path) -> np.ndarray:
    from thermocancer.evaluation.audit.controls import Judge
    from thermocancer.evaluation.audit.images import ColumnsClassifier, ImageRefitting, grey_levels

    config, cohort = _images(root, slices)
    rows, workspace = toy_rows(20, repeats=1), Workspace(root)
    write_run(workspace, "toy", rows)
    train, test = cohort.folder.rows("Train"), cohort.folder.rows("Test")
    judge = Judge(gather_units(rows), 0.95, 50, 0)
    bench = ImageRefitting(read_run(workspace, "toy"), config, workspace, judge, 1, cohort, train, train, test)
    return bench.scores("brightness", ColumnsClassifier("brightness", grey_levels), train, cohort.folder.labels)


def likeness(root: Path, slices: Path) -> np.ndarray:
    workspace = Workspace(root)
    rows = toy_rows(20, repeats=1)
    if not workspace.dataset("cohort").exists():
        write_dataset(workspace, toy_source(rows))
        write_run(workspace, "toy", rows)
    training = training_of(read_run(workspace, "toy"), pixels_config(workspace))
    assert training is not None
    assert training.reference is not None
    return training.reference.values


MAPPED = (codes, masked, image_pixels)
IN_MEMORY = (table, pixel_table, pooled, frame_features, audit_scores, likeness)
ON_MAPPED = (gram, image_features, audit_scores_of_images)
"""Kept from memory, but made of an array that needs the disk."""

Maker = Callable[[Path, Path], np.ndarray]
CACHES: tuple[Maker, ...] = (*MAPPED, *IN_MEMORY, *ON_MAPPED)


def kept_files(root: Path) -> dict[str, bytes]:
    cache = root / "cache"
    return {str(path.relative_to(cache)): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def uncached(tmp_path_factory: pytest.TempPathFactory, slices: Path) -> Callable[[Maker], tuple[Path, np.ndarray]]:
    """A workspace that was empty, and the result that was computed in it; once a cache."""
    known: dict[Maker, tuple[Path, np.ndarray]] = {}

    def of(make: Maker) -> tuple[Path, np.ndarray]:
        if make not in known:
            root = tmp_path_factory.mktemp(make.__name__)
            known[make] = root, make(root, slices)
        return known[make]

    return of


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
@pytest.mark.parametrize("make", CACHES, ids=lambda each: each.__name__)
def test_whatever_stands_in_the_cache_results_are_the_same(
    make, damage, uncached, slices: Path, tmp_path: Path
) -> None:
    clean, expected = uncached(make)
    root = tmp_path / "damaged"
    shutil.copytree(clean, root)
    whole = kept_files(root)
    assert whole
    for name in whole:
        damage(root / "cache" / name)
    np.testing.assert_array_equal(make(root, slices), expected)
    if damage is not a_folder:  # what cannot be replaced is left alone
        assert kept_files(root) == whole


@pytest.mark.parametrize("make", CACHES, ids=lambda each: each.__name__)
def test_what_is_kept_is_not_made_again(make, uncached, slices: Path) -> None:
    root, expected = uncached(make)
    stamps = {path: path.stat().st_mtime_ns for path in (root / "cache").rglob("*") if path.is_file()}
    np.testing.assert_array_equal(make(root, slices), expected)
    assert {path: path.stat().st_mtime_ns for path in (root / "cache").rglob("*") if path.is_file()} == stamps
    assert {path.relative_to(root / "cache").parts[0] for path in stamps} <= set(FAMILIES)


@pytest.mark.parametrize("make", IN_MEMORY, ids=lambda each: each.__name__)
def test_what_is_in_memory_needs_no_cache(make, uncached, slices: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder can be made here")
    np.testing.assert_array_equal(make(tmp_path, slices), uncached(make)[1])


@pytest.mark.parametrize("make", MAPPED, ids=lambda each: each.__name__)
def test_what_is_mapped_says_that_it_needs_the_disk(make, slices: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder can be made here")
    with pytest.raises(RunError, match="could not be written") as caught:
        make(tmp_path, slices)
    assert "free some space" in str(caught.value.hint)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda each: each.__name__)
def test_indices_of_files_follow_the_rule(damage, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    hashes, quality = tmp_path / "cache" / "hashes.json", tmp_path / "cache" / "quality.json"

    def known() -> tuple[str, dict[str, Measured]]:
        index = HashIndex(hashes)
        digest = index.of(tmp_path / "file")
        index.save()
        return digest, measure_records(Workspace(tmp_path), records, Silent())

    records = [add_file(Workspace(tmp_path), body(1, (24, 32)), 1)]
    first = known()
    for path in (hashes, quality):
        damage(path)
    assert known() == first


# --- the rule by itself -------------------------------------------------------


def test_two_workers_may_make_the_same_array(tmp_path: Path) -> None:
    """The second finds what the first has put there meanwhile, or replaces it by its equal."""
    path = tmp_path / "array.npy"

    def slowly() -> np.ndarray:
        np.testing.assert_array_equal(cached_array(path, SHAPE, np.float32, lambda: VALUES), VALUES)
        return VALUES

    np.testing.assert_array_equal(cached_array(path, SHAPE, np.float32, slowly), VALUES)
    assert [each.name for each in tmp_path.iterdir()] == ["array.npy"]


def test_a_maker_that_gives_another_shape_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unexpected shape"):
        cached_array(tmp_path / "a.npy", (3,), np.float64, lambda: np.zeros(4))
    assert not list(tmp_path.iterdir())


def test_errors_of_a_maker_pass_through_and_leave_nothing(tmp_path: Path) -> None:
    for cached in (
        lambda: cached_array(tmp_path / "a.npy", (1,), np.float64, lambda: np.array([1 / 0])),
        lambda: mapped_array(tmp_path / "b.npy", (1,), np.float64, lambda room: room.fill(1 / 0)),
        lambda: cached_json(tmp_path / "c.json", lambda: 1 / 0, encode=str, decode=float),
    ):
        with pytest.raises(ZeroDivisionError):
            cached()
    assert not list(tmp_path.iterdir())


def test_memory_is_not_filled_by_a_mapped_array(tmp_path: Path) -> None:
    def fill(room: np.ndarray) -> None:
        for row in range(len(room)):
            room[row] = row

    tracemalloc.start()
    try:
        kept = mapped_array(tmp_path / "large.npy", (64, 1 << 20), np.uint8, fill)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(kept, np.memmap)
    assert kept[63, 5] == 63
    assert kept.filename == tmp_path / "large.npy"
    assert most < 1 << 20


def test_large_scratch_is_on_disk_and_leaves_nothing(tmp_path: Path) -> None:
    with scratch_array(tmp_path, SHAPE, np.float32, in_memory=47) as room:
        assert isinstance(room, np.memmap)
        room[:] = VALUES
    with scratch_array(tmp_path, SHAPE, np.float32, in_memory=48) as small:
        assert not isinstance(small, np.memmap)
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from thermocancer import cache, files

folder = Path(sys.argv[1])
files._flush_to_disk = lambda side: os.kill(os.getpid(), signal.SIGKILL)  # written aside, and not yet renamed
def fill(room):
    room[:2] = 1
    os.kill(os.getpid(), signal.SIGKILL)
{"array": lambda: cache.cached_array(folder / "kept.npy", (4, 3), np.float32, lambda: np.ones((4, 3), np.float32)),
 "mapped": lambda: cache.mapped_array(folder / "kept.npy", (4, 3), np.float32, fill),
 "arrays": lambda: cache.keep_arrays(folder / "kept.npz", products=np.ones((2, 2))),
 "json": lambda: cache.cached_json(folder / "kept.json", lambda: [1], encode=list, decode=list)}[sys.argv[2]]()
"""


@pytest.mark.parametrize("kind", ["array", "mapped", "arrays", "json"])
def test_killed_while_writing_leaves_no_half_file(tmp_path: Path, kind: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), kind], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert ".partial" in left.name
    whole = np.full(SHAPE, 2, np.float32)
    np.testing.assert_array_equal(cached_array(tmp_path / "kept.npy", SHAPE, np.float32, lambda: whole), whole)
    assert kept_arrays(tmp_path / "kept.npz", {"products": ((2, 2), np.float64)}) is None
    assert cached_json(tmp_path / "kept.json", lambda: [2], encode=list, decode=list) == [2]


FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from thermocancer import cache
from thermocancer.errors import RunError

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # of a file, as if the disk were full
folder, values = Path(sys.argv[1]), np.arange(100_000.0)
assert (cache.cached_array(folder / "a.npy", (100_000,), np.float64, lambda: values) == values).all()
cache.keep_arrays(folder / "b.npz", values=values)
assert len(cache.cached_json(folder / "c.json", values.tolist, encode=list, decode=list)) == 100_000
def fill(room):
    room[:] = values
def scratch():
    with cache.scratch_array(folder, (100_000,), np.float64, 0) as room:
        fill(room)
for needs_the_disk in (lambda: cache.mapped_array(folder / "d.npy", (100_000,), np.float64, fill), scratch):
    try:
        needs_the_disk()
    except RunError as error:
        print(error)
"""


def test_a_full_disk_stops_only_what_needs_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.count("could not be written") == 2
    assert not list(tmp_path.iterdir())


# --- the two faults that were seen, as commands -------------------------------


def command(*arguments: str) -> tuple[int, str]:
    from typer.testing import CliRunner

    from thermocancer.cli import register

    done = CliRunner().invoke(register(), list(arguments))
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A data set, its split, and one run judged; tests must not change it."""
    workspace = Workspace(tmp_path_factory.mktemp("trained"))
    source = toy_source(toy_rows(24, repeats=1))
    write_dataset(workspace, source)
    config = pixels_config(
        workspace, **{"evaluate.bootstrap": 60, "evaluate.explain": False, "evaluate.audit_repeats": 1}
    )
    make_split(source.exams, config.split, 0).write(workspace.split)
    (workspace.root / "toy.yaml").write_text(dump_yaml(config))
    for stage in ("fuse", "evaluate"):
        code, said = command(stage, "-c", str(workspace.root / "toy.yaml"), "-w", str(workspace.root), "--quiet")
        assert code == 0, said
    return workspace


def copied(trained: Workspace, root: Path) -> Workspace:
    shutil.copytree(trained.root, root)
    return Workspace(root)


def test_fuse_with_an_empty_file_in_the_cache(trained: Workspace, tmp_path: Path) -> None:
    workspace = copied(trained, tmp_path / "copy")
    emptied = list((workspace.cache / "features").glob("*.npy"))
    for path in emptied:
        zero_bytes(path)
    shutil.rmtree(workspace.run("pixels"))
    shutil.rmtree(workspace.cache / "folds")
    code, said = command("fuse", "-c", str(workspace.root / "toy.yaml"), "-w", str(workspace.root))
    assert emptied
    assert code == 0, said
    for name in ("predictions.csv", "history.jsonl"):
        assert (workspace.run("pixels") / name).read_bytes() == (trained.run("pixels") / name).read_bytes()


def test_evaluate_with_empty_files_in_the_cache(trained: Workspace, tmp_path: Path) -> None:
    workspace = copied(trained, tmp_path / "copy")
    emptied = [*(workspace.cache / "masked").rglob("*.npy"), *(workspace.cache / "audit").glob("*.json")]
    for path in emptied:
        zero_bytes(path)
    shutil.rmtree(workspace.cache / "features")  # the tables of the masked thermograms are read from them again
    (workspace.run("pixels") / "evaluation.json").unlink()
    code, said = command("evaluate", "-c", str(workspace.root / "toy.yaml"), "-w", str(workspace.root))
    assert {path.suffix for path in emptied} == {".npy", ".json"}
    assert code == 0, said
    assert (workspace.run("pixels") / "audit.json").read_bytes() == (trained.run("pixels") / "audit.json").read_bytes()
    assert all(path.stat().st_size for path in emptied)


# --- what the cache holds, and emptying it ------------------------------------


def test_doctor_says_what_the_cache_holds(trained: Workspace) -> None:
    found = {each.name: each for each in holdings(trained.cache)}
    assert set(found) >= {"features", "masked", "audit"}
    assert set(found) <= {*FAMILIES, ""}
    masked_files = [path for path in (trained.cache / "masked").rglob("*") if path.is_file()]
    assert found["masked"].files == len(masked_files)
    assert found["masked"].size == sum(path.stat().st_size for path in masked_files)
    code, said = command("doctor", "-w", str(trained.root))
    assert f"masked: {len(masked_files)} files" in said
    assert FAMILIES["masked"].split(",")[0] in said
    assert "--clean-cache" in said
    assert code == 0


def test_a_cleaned_cache_is_empty_and_nothing_else_is_touched(trained: Workspace, tmp_path: Path) -> None:
    workspace = copied(trained, tmp_path / "copy")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("kept")
    (workspace.cache / "features" / "link").symlink_to(outside)
    (workspace.cache / "elsewhere").symlink_to(outside, target_is_directory=True)
    before = {path for path in workspace.root.rglob("*") if workspace.cache not in path.parents}
    held = holdings(workspace.cache)
    report = tmp_path / "report.json"
    code, said = command("doctor", "--clean-cache", "-w", str(workspace.root), "--json", str(report))
    assert code == 0, said
    assert f"freed  {held[0]}" in said.replace("\n", " ")
    assert [each["name"] for each in json.loads(report.read_text())["freed"]] == [each.name for each in held]
    assert not list(workspace.cache.iterdir())
    assert (outside / "precious.txt").read_text() == "kept"
    after = {path for path in workspace.root.rglob("*") if workspace.cache not in path.parents}
    assert after - {workspace.root / "locks"} == before - {workspace.root / "locks"}
    assert command("doctor", "--clean-cache", "-w", str(workspace.root))[0] == 0


def test_a_dry_run_only_says_what_would_be_freed(trained: Workspace) -> None:
    before = kept_files(trained.root)
    code, said = command("doctor", "--clean-cache", "--dry-run", "-w", str(trained.root))
    assert code == 0
    assert "would free  masked: " in said
    assert kept_files(trained.root) == before


def test_the_cache_of_a_stage_at_work_is_left_alone(trained: Workspace, tmp_path: Path) -> None:
    workspace = copied(trained, tmp_path / "copy")
    before = kept_files(workspace.root)
    with workspace.lock("fuse"):
        code, said = command("doctor", "--clean-cache", "-w", str(workspace.root))
        with pytest.raises(LockedError):
            clean_cache(workspace)
    assert code == LockedError.exit_code == 75
    assert "fuse" in said
    assert kept_files(workspace.root) == before


def test_the_lock_of_a_dead_process_does_not_protect_the_cache(trained: Workspace, tmp_path: Path) -> None:
    workspace = copied(trained, tmp_path / "copy")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    lock = workspace.root / "locks" / "fuse.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(json.dumps({"pid": gone.pid, "host": socket.gethostname(), "since": time.time()}))
    assert clean_cache(workspace)
    assert not lock.exists()
    assert not list(workspace.cache.iterdir())


def test_a_cache_that_is_a_link_is_not_followed(trained: Workspace, tmp_path: Path) -> None:
    workspace = copied(trained, tmp_path / "copy")
    elsewhere = workspace.cache.rename(tmp_path / "elsewhere")
    workspace.cache.symlink_to(elsewhere)
    before = kept_files(workspace.root)
    with pytest.raises(RunError, match="link to another folder"):
        clean_cache(workspace)
    assert kept_files(workspace.root) == before
    notes = [each for each in check_up(pixels_config(workspace), workspace) if each.name == "cache"]
    assert [(each.state, "not looked into" in each.text) for each in notes] == [("note", True)]


def test_a_cache_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert clean_cache(Workspace(tmp_path)) == holdings(tmp_path / "cache") == []
    empty_cache(tmp_path / "cache")
    assert not list(tmp_path.iterdir())
