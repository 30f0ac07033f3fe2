"""Reading a data set: any rows in any order, and a clear refusal of what is not one."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from dataset_fixtures import SHAPE, body, make_raw, settings

from thermocancer.data.catalog import read_catalog, write_catalog
from thermocancer.data.cohort import ArrayCohort, Cohort, centi_celsius, colours, degrees
from thermocancer.data.store.reading import DYNAMIC, StoredCohort
from thermocancer.data.store.writing import pack, resize_centi
from thermocancer.errors import DataError
from thermocancer.progress import Silent
from thermocancer.stages.build_dataset import run
from thermocancer.thermal.reading import read_matrix
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import Workspace


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    workspace = make_raw(tmp_path_factory.mktemp("store"), frames=3)
    run(settings(workspace, dataset__dynamic=True, filter__frames=3), workspace, Silent())
    return workspace.dataset("cohort")


@pytest.mark.parametrize(
    "rows", [[0, 1, 2], [5, 2, 9], [3, 3, 0, 3], [11], [], [2, 1, 0]],
    ids=["run", "any order", "repeats", "one", "none", "backwards"],
)  # fmt: skip
def test_rows_come_as_they_are_asked_for(path: Path, rows: list[int]) -> None:
    with StoredCohort(path) as source:
        everything = centi_celsius(source, "Frontal", np.arange(12))
        found = centi_celsius(source, "Frontal", np.array(rows, dtype=np.int64))
        assert found.dtype == np.uint16
        assert found.shape == (len(rows), *SHAPE)
        assert np.array_equal(found, everything[rows])


def test_frames_come_as_they_are_asked_for(path: Path) -> None:
    with StoredCohort(path, DYNAMIC) as source:
        everything = source.frames("Frontal", np.arange(12))
        assert everything.shape == (12, 3, *SHAPE)
        assert np.array_equal(source.frames("Frontal", np.array([4, 4, 1]), [2, 0]), everything[[4, 4, 1]][:, [2, 0]])
        assert source.frames("Frontal", np.array([], dtype=int), [1]).shape == (0, 1, *SHAPE)
        assert source.nuisance()["room_celsius"].shape == (12,)
        with pytest.raises(IndexError):
            source.frames("Frontal", np.array([0]), [3])
        with pytest.raises(IndexError):
            source.frames("Frontal", np.array([12]), [0])


def test_rows_and_views_outside_are_refused(path: Path) -> None:
    with StoredCohort(path) as source:
        for rows in ([12], [-1]):
            with pytest.raises(IndexError):
                centi_celsius(source, "Frontal", np.array(rows))
        with pytest.raises(DataError, match="no view Left45"):
            centi_celsius(source, "Left45", np.array([0]))
        with pytest.raises(DataError, match="not colour images"):
            colours(source, "Frontal", np.array([0]))


def test_a_source_travels_to_another_process_and_reopens(path: Path) -> None:
    source: Cohort = StoredCohort(path)
    copy = pickle.loads(pickle.dumps(source))
    assert np.array_equal(
        centi_celsius(copy, "Frontal", np.array([3])), centi_celsius(source, "Frontal", np.array([3]))
    )
    assert (copy.fingerprint, copy.exams) == (source.fingerprint, source.exams)
    copy.close()
    copy.close()
    assert centi_celsius(copy, "Frontal", np.array([0])).shape == (1, *SHAPE), "opens again when needed"


def test_a_missing_file_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such data set") as caught:
        StoredCohort(tmp_path / "none.h5")
    assert "build-dataset" in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(path: Path, tmp_path: Path, share: float) -> None:
    content = path.read_bytes()
    (tmp_path / "cut.h5").write_bytes(content[: int(share * len(content))])
    for opener in (StoredCohort, lambda path: StoredCohort(path, DYNAMIC)):
        with pytest.raises(DataError) as caught:
            opener(tmp_path / "cut.h5")
        assert "build-dataset" in str(caught.value)


def test_a_damaged_frame_is_refused_when_it_is_read(path: Path, tmp_path: Path) -> None:
    with h5py.File(path) as file:
        chunk = file["static/Frontal"].id.get_chunk_info(4)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    (tmp_path / "damaged.h5").write_bytes(content)
    with StoredCohort(tmp_path / "damaged.h5") as source, pytest.raises(DataError, match="cannot be read"):
        centi_celsius(source, "Frontal", np.arange(12))


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("hello" * 100)
    with pytest.raises(DataError, match="not a data set"):
        StoredCohort(tmp_path / "text.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["static/Frontal"] = np.zeros((2, 4, 4))
    with pytest.raises(DataError, match="not written by thermocancer"):
        StoredCohort(tmp_path / "foreign.h5")


def test_another_version_is_refused(path: Path, tmp_path: Path) -> None:
    (tmp_path / "new.h5").write_bytes(path.read_bytes())
    with h5py.File(tmp_path / "new.h5", "r+") as file:
        file.attrs["version"] = 99
    with pytest.raises(DataError, match="format version 99") as caught:
        StoredCohort(tmp_path / "new.h5")
    assert "update thermocancer" in str(caught.value)


def test_a_data_set_without_the_part_that_is_asked_for(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path, frames=2)
    options = {"dataset__static": False, "dataset__dynamic": True, "filter__frames": 2}
    run(settings(workspace, **options), workspace, Silent())
    with pytest.raises(DataError, match="no static exams") as caught:
        StoredCohort(workspace.dataset("cohort"))
    assert "dataset.static=true" in str(caught.value)
    run(settings(workspace), workspace, Silent())
    with pytest.raises(DataError, match="no dynamic exams"):
        StoredCohort(workspace.dataset("cohort"), DYNAMIC)


def test_the_fingerprint_follows_the_content(tmp_path: Path) -> None:
    marks = set()
    forms = ({"dataset__compression": form} for form in ("gzip", "lzf", "none"))
    for number, options in enumerate(({"dataset__size": (24, 32)}, *forms)):
        workspace = make_raw(tmp_path / str(number))
        run(settings(workspace, **options), workspace, Silent())
        with StoredCohort(workspace.dataset("cohort")) as source:
            marks.add(source.fingerprint)
            row = centi_celsius(source, "Frontal", np.array([1]))[0]
            assert np.array_equal(row, resize_centi(body(20), options.get("dataset__size")))
    assert len(marks) == 2, "how it is compressed does not matter, what it holds does"


def test_packed_frames_are_what_hdf5_itself_would_read(tmp_path: Path) -> None:
    frame = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 7
    with h5py.File(tmp_path / "x.h5", "w") as file:
        data = file.create_dataset("d", (1, 48, 64), "uint16", chunks=(1, 48, 64), compression="gzip", shuffle=True)
        data.id.write_direct_chunk((0, 0, 0), pack(frame, "gzip").chunk)
        assert np.array_equal(data[0], frame)


def test_resizing_keeps_hundredths_and_the_mean() -> None:
    centi = np.random.default_rng(0).integers(2000, 3600, (48, 64)).astype(np.uint16)
    small = resize_centi(centi, (12, 16))
    assert small.dtype == np.uint16
    assert abs(float(small.mean()) - float(centi.mean())) < 0.5
    assert resize_centi(centi, None) is centi
    assert resize_centi(centi, (48, 64)) is centi


def test_arrays_in_memory_are_read_alike(path: Path) -> None:
    with StoredCohort(path) as source:
        rows = np.array([3, 1])
        memory = ArrayCohort(source.exams, {"Frontal": centi_celsius(source, "Frontal", np.arange(12))})
        assert np.array_equal(centi_celsius(memory, "Frontal", rows), centi_celsius(source, "Frontal", rows))
        assert (memory.views, memory.shape, memory.kind) == (source.views, source.shape, source.kind)


def test_formats_of_every_view_are_kept_and_retired_figures_are_not_read(tmp_path: Path) -> None:
    workspace = make_raw(tmp_path, patients=range(1, 7), views=("Frontal", "Left"), frames=3)
    records = [
        replace(each, extra={"notes": ["3 blank lines"], "original_bytes": 7, "visit_made_up": True})
        if each.view == "Left" or each.index == 2
        else each
        for each in read_catalog(workspace)
    ]
    write_catalog(workspace, records)
    config = settings(workspace, filter__views=["Frontal", "Left"], dataset__dynamic=True, filter__frames=3)
    run(config, workspace, Silent())
    path = workspace.dataset("cohort")
    with StoredCohort(path) as static, StoredCohort(path, DYNAMIC) as dynamic:
        assert static.exams[0].formats == (("Frontal", "space2"), ("Left", "space2, # blank lines"))
        assert dynamic.exams[3].formats == (("Frontal", "semicolon5 or semicolon5, # blank lines"),)
        assert np.isfinite(static.nuisance()["visit"]).all()
    path.with_suffix(".json").unlink()
    with h5py.File(path, "a") as file:  # as an earlier version wrote it
        del file["exams/formats"], file["static"].attrs["tables"]
        file["nuisance/sharpness"] = file["nuisance/edge_sharpness"][:]
        file["nuisance/marker_contrast"] = file["nuisance/edge_sharpness"][:]
    with StoredCohort(path) as old:
        assert old.exams[0].formats == ()
        assert not {"sharpness", "marker_contrast"} & old.nuisance().keys()


def test_one_flipped_bit_of_a_frame_or_a_table_is_an_error_not_a_value(path: Path, tmp_path: Path) -> None:
    alone = tmp_path / "alone.h5"  # without the manifest, whose hash notices anything
    whole = path.read_bytes()
    alone.write_bytes(whole)
    with h5py.File(alone) as file:
        chunk = file["static/Frontal"].id.get_chunk_info(2)
        patients = file["exams/patient"].id.get_offset()
    for place in (chunk.byte_offset + chunk.size // 2, chunk.byte_offset + chunk.size - 5, patients):
        content = bytearray(whole)
        content[place] ^= 1
        alone.write_bytes(content)
        with pytest.raises(DataError, match=r"alone\.h5"), StoredCohort(alone) as source:
            source.frames("Frontal", np.arange(12))
    beside = tmp_path / path.name
    beside.write_bytes(content)
    beside.with_suffix(".json").write_bytes(path.with_suffix(".json").read_bytes())
    with pytest.raises(DataError, match="not the one that was built"):
        StoredCohort(beside)


def test_a_data_set_that_leads_to_another_file_is_refused(path: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(200)) * 100)
    for number, lead in enumerate(("external", "link", "soft")):
        led = tmp_path / f"{lead}.h5"
        led.write_bytes(path.read_bytes())
        with h5py.File(led, "r+") as file:
            del file["exams/patient"]
            if number == 0:
                file.create_dataset("exams/patient", (12,), "i8", external=[(str(secret), 0, 96)])
            else:
                file["exams/patient"] = h5py.ExternalLink(path, "/exams/visit") if number == 1 else h5py.SoftLink("/x")
        with pytest.raises(DataError, match="leads to another place"):
            StoredCohort(led)


# --- pixels without a temperature -------------------------------------------------------------------------------------


def with_fill(root: Path) -> Workspace:
    """Twelve exams with three frames; patient 2 lacks a corner of the static frame, and of its second frame."""
    workspace = make_raw(root, frames=3)
    records = []
    for record in read_catalog(workspace):
        if record.patient == 2 and (record.protocol == "S" or record.index == 1):
            path = workspace.raw / record.path
            centi = read_matrix(path).centi.copy()
            centi[:12, :16] = 0
            content = format_matrix(centi)
            path.write_bytes(content)
            record = replace(record, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
        records.append(record)
    write_catalog(workspace, records)
    return workspace


@pytest.mark.parametrize("compression", ["gzip", "lzf", "none"])
@pytest.mark.parametrize("size", [None, "24x32"])
def test_masks_are_stored_beside_their_frames(size: str | None, compression: str, tmp_path: Path) -> None:
    workspace = with_fill(tmp_path)
    options = {"dataset__dynamic": True, "filter__frames": 3, "dataset__compression": compression}
    run(settings(workspace, **options, **({"dataset__size": size} if size else {})), workspace, Silent())
    everything, step = np.arange(12), 2 if size else 1
    expected = np.zeros((48 // step, 64 // step), bool)
    expected[: 12 // step, : 16 // step] = True
    with StoredCohort(workspace.dataset("cohort")) as static, StoredCohort(static.path, DYNAMIC) as dynamic:
        masks, frames = static.masks("Frontal", everything), static.frames("Frontal", everything)
        assert masks is not None
        assert masks.shape == frames.shape
        assert (masks[1, 0] == expected).all()
        assert masks.sum() == expected.sum()
        assert frames.min() > 2000, "never 0 degC"
        assert np.isnan(degrees(static, "Frontal", np.array([1]))[0][expected]).all()
        assert static.nuisance()["missing_share"].tolist() == [0.0, 1 / 16, *[0.0] * 10]
        moving = dynamic.masks("Frontal", np.array([1, 0]), [2, 1])
        assert moving is not None
        assert [each.any() for each in moving.reshape(4, -1)] == [False, True, False, False]
        assert dynamic.nuisance()["missing_share"][1] == pytest.approx(1 / 48)


def test_without_missing_pixels_nothing_is_stored_of_them(path: Path) -> None:
    with StoredCohort(path) as source, h5py.File(path, locking=False) as file:
        assert source.masks("Frontal", np.arange(12)) is None
        names: list[str] = []
        file.visit(names.append)
        assert not [name for name in names if "missing" in name]


def test_a_flipped_bit_of_a_mask_is_an_error_and_masks_count_in_the_fingerprint(tmp_path: Path) -> None:
    workspace = with_fill(tmp_path)
    run(settings(workspace, dataset__compression="none"), workspace, Silent())
    path = workspace.dataset("cohort")
    with StoredCohort(path) as source:
        before = source.fingerprint
    path.with_suffix(".json").unlink()
    with h5py.File(path, "r+") as file:
        file["static/missing/Frontal"][1, 40, 40] = 1
    with StoredCohort(path) as source, pytest.raises(DataError, match="damaged"):
        source.masks("Frontal", np.arange(12))
    other = make_raw(tmp_path / "whole", frames=3)
    run(settings(other, dataset__compression="none"), other, Silent())
    with StoredCohort(other.dataset("cohort")) as source:
        assert source.fingerprint != before
