"""Reading images of every usual kind, and refusing folders that would teach nothing or prove nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from image_fixtures import CLASSES, draw_slice, make_slices, tiny_config

from thermocancer.classifiers.image.family import BY_IMAGE, ImageFamily
from thermocancer.classifiers.protocol import Asked
from thermocancer.data.class_images import pixel_hash, read_image
from thermocancer.data.cohort import IMAGE
from thermocancer.data.image_cohort import ImageCohort
from thermocancer.data.image_folder import ImageFolder, read_image_folder
from thermocancer.errors import ConfigError, DataError
from thermocancer.files import HashIndex
from thermocancer.kinds import CNN, only_kind_of
from thermocancer.thermal.likeness import alike, look_of
from thermocancer.workspace import Workspace

GRAY = draw_slice(1, vessels=True)


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    return make_slices(tmp_path / "slices", train=4, test=2, patients=4, size=24)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg"])
def test_usual_files(tmp_path: Path, suffix: str) -> None:
    cv2.imwrite(str(tmp_path / f"a{suffix}"), GRAY, [cv2.IMWRITE_JPEG_QUALITY, 100])
    found = read_image(tmp_path / f"a{suffix}")
    assert found.shape == (*GRAY.shape, 3)
    assert abs(found[..., 0].astype(int) - GRAY).max() <= (3 if suffix == ".jpg" else 0)


def test_colours_stay_in_order_and_alpha_is_dropped(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.full((4, 5, 4), (10, 20, 30, 128), np.uint8))  # blue, green, red, alpha
    assert read_image(tmp_path / "a.png")[0, 0].tolist() == [30, 20, 10]
    assert read_image(tmp_path / "a.png", colour="gray").shape == (4, 5, 1)


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_wider_values_are_stretched_over_their_own_range(tmp_path: Path, dtype: type) -> None:
    values = np.array([[100, 150], [350, 600]], dtype)
    cv2.imwrite(str(tmp_path / "a.tiff"), values)
    assert read_image(tmp_path / "a.tiff", colour="gray")[..., 0].tolist() == [[0, 26], [128, 255]]


def test_images_come_at_the_size_asked_for(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), GRAY)
    for size in ((32, 16), (100, 90)):
        assert read_image(tmp_path / "a.png", size=size, colour="gray").shape == (*size, 1)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_damaged_files_are_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), GRAY)
    content = path.read_bytes()
    for wrong in (b"", content[: len(content) // 3], b"<html>log in</html>"):
        path.write_bytes(wrong)
        with pytest.raises(DataError, match="image"):
            read_image(path)


def write_dicom(path: Path, values: np.ndarray, kind: str = "MONOCHROME2", **tags: object) -> None:
    pydicom = pytest.importorskip("pydicom", reason="pip install 'thermocancer[dicom]'")
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns = values.shape[:2]
    data.SamplesPerPixel = 1 if values.ndim == 2 else 3
    data.PhotometricInterpretation = kind
    data.BitsAllocated = data.BitsStored = 8 * values.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0
    if values.ndim == 3:
        data.PlanarConfiguration = 0
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = values.tobytes()
    data.save_as(path, enforce_file_format=True)


STEPS = np.array([[0, 100], [150, 200]], np.uint16)


def test_dicom_without_window_is_stretched(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", STEPS)
    assert read_image(tmp_path / "a.dcm", colour="gray")[..., 0].tolist() == [[0, 128], [191, 255]]


def test_dicom_goes_through_its_window_and_rescaling(tmp_path: Path) -> None:
    write_dicom(
        tmp_path / "a.dcm", STEPS, WindowCenter=[250, 9], WindowWidth=[101, 9], RescaleSlope=2, RescaleIntercept=0
    )
    # values 0, 200, 300, 400; the window spans 199.5 to 299.5 (PS3.3 C.11.2.1.2)
    assert read_image(tmp_path / "a.dcm", colour="gray")[..., 0].tolist() == [[0, 1], [255, 255]]


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", STEPS, "MONOCHROME1")
    assert read_image(tmp_path / "a.dcm", colour="gray")[..., 0].tolist() == [[255, 127], [64, 0]]


def test_dicom_colours(tmp_path: Path) -> None:
    write_dicom(tmp_path / "a.dcm", np.full((2, 2, 3), (200, 100, 50), np.uint8), "RGB")
    assert read_image(tmp_path / "a.dcm")[0, 0].tolist() == [200, 100, 50]


def test_a_damaged_or_moving_dicom_is_refused(tmp_path: Path) -> None:
    write_dicom(tmp_path / "cut.dcm", STEPS)
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "cut.dcm").read_bytes()[:-5])
    write_dicom(tmp_path / "film.dcm", np.vstack([STEPS, STEPS]), NumberOfFrames=2, Rows=2)
    for name in ("cut.dcm", "film.dcm"):
        with pytest.raises(DataError, match="DICOM"):
            read_image(tmp_path / name)


def test_a_folder_is_read_in_one_order(slices: Path, tmp_path: Path) -> None:
    index = HashIndex(tmp_path / "hashes.json")
    folder = read_image_folder(slices, index=index)
    assert folder.classes == CLASSES
    assert [image.path for image in folder.images] == sorted(image.path for image in folder.images)
    assert (len(folder.rows("Train")), len(folder.rows("Test"))) == (8, 4)
    assert len({(image.patient, image.visit) for image in folder.images}) == 12
    assert read_image_folder(slices, index=index).fingerprint == folder.fingerprint


def test_the_positive_class_can_be_chosen(slices: Path) -> None:
    folder = read_image_folder(slices, positive="no_gad")
    assert folder.classes == ("with_gad", "no_gad")
    with pytest.raises(ConfigError, match="no such class"):
        read_image_folder(slices, positive="gad")


def test_broken_images_and_copies_are_listed_and_left_out(slices: Path) -> None:
    first, second, third, _ = sorted((slices / "Train/no_gad").iterdir())
    first.write_bytes(b"")
    cv2.imwrite(str(second.with_suffix(".tif")), cv2.imread(str(second)))  # the same picture in another format
    folder = read_image_folder(slices)
    reasons = {failure.item: failure.reason for failure in folder.rejected}
    assert reasons[f"Train/no_gad/{first.name}"] == "the image is empty (0 bytes)"
    copy = next(item for item in reasons if item != f"Train/no_gad/{first.name}")
    assert reasons[copy].startswith("a copy of Train/no_gad/")
    assert len(folder.rows("Train")) == 7
    assert third.exists()


def test_a_picture_of_both_parts_is_refused(slices: Path) -> None:
    shutil.copy(next((slices / "Train/no_gad").iterdir()), slices / "Test/no_gad/again.png")
    with pytest.raises(DataError, match="in Train and in Test"):
        read_image_folder(slices)


def test_copies_stay_where_the_study_kept_them_and_are_counted(slices: Path) -> None:
    first = min((slices / "Train/no_gad").iterdir())
    for copy in ("Test/no_gad/again.png", "Train/no_gad/twice.png"):
        shutil.copy(first, slices / copy)
    folder = read_image_folder(slices, keep_copies=True)
    assert (folder.rejected, folder.shared) == ((), 1)
    assert {"Test/no_gad/again.png", "Train/no_gad/twice.png"} <= {image.path for image in folder.images}


def test_the_first_names_of_each_class_validate_as_in_keras(tmp_path: Path) -> None:
    """Beside a transcription of what ``ImageDataGenerator`` lists: class by class, by name, then int(share n)."""
    root = make_slices(tmp_path / "many", train=17, test=4)
    folder = read_image_folder(root)
    train, validation, _ = folder.parts(0.2, seed=7, first=True)
    for rows, (low, high) in ((validation, (0, 0.2)), (train, (0.2, 1))):
        expected = set()
        for name in sorted(path.name for path in (root / "Train").iterdir()):
            files = sorted(path.name for path in (root / "Train" / name).iterdir())
            expected |= {f"Train/{name}/{each}" for each in files[int(low * len(files)) : int(high * len(files))]}
        assert {folder.images[row].path for row in rows} == expected


@pytest.mark.parametrize("size", [(31, 31), (48, 40), (97, 130)])
def test_nearest_neighbours_are_those_of_keras(tmp_path: Path, size: tuple[int, int]) -> None:
    import keras

    path = tmp_path / "noise.png"
    cv2.imwrite(str(path), np.random.default_rng(3).integers(0, 256, (64, 53, 3), dtype=np.uint8))
    expected = np.asarray(keras.utils.load_img(path, color_mode="rgb", target_size=size, interpolation="nearest"))
    assert np.array_equal(read_image(path, size=size, interpolation="nearest"), expected)
    assert not np.array_equal(read_image(path, size=size), expected)


def test_a_picture_of_both_classes_is_refused(slices: Path) -> None:
    shutil.copy(next((slices / "Train/no_gad").iterdir()), slices / "Train/with_gad/again.png")
    with pytest.raises(DataError, match="two classes"):
        read_image_folder(slices)


def empty_class(root: Path) -> None:
    shutil.rmtree(root / "Train/no_gad")
    (root / "Train/no_gad").mkdir()


def single_class(root: Path) -> None:
    shutil.rmtree(root / "Train/no_gad")
    shutil.rmtree(root / "Test/no_gad")


def three_classes(root: Path) -> None:
    for part in ("Train", "Test"):
        shutil.copytree(root / part / "no_gad", root / part / "other")


def only_in_test(root: Path) -> None:
    shutil.rmtree(root / "Train/no_gad")


def not_in_test(root: Path) -> None:
    shutil.rmtree(root / "Test/no_gad")


def no_test(root: Path) -> None:
    shutil.rmtree(root / "Test")


def all_broken(root: Path) -> None:
    for path in (root / "Test/no_gad").iterdir():
        path.write_bytes(b"GIF89a")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (empty_class, "has no images"), (single_class, "two classes are needed"),
        (three_classes, "two classes are needed"), (only_in_test, "stands only in Test"),
        (not_in_test, "Test lacks a class"), (no_test, "has no Test"),
        (all_broken, "no image of a class can be read"), (shutil.rmtree, "not there"),
    ],
    ids=lambda each: getattr(each, "__name__", None),
)  # fmt: skip
def test_useless_folders_are_refused(slices: Path, damage, message: str) -> None:
    damage(slices)
    with pytest.raises(DataError, match=message):
        read_image_folder(slices)


def test_groups_come_from_file_names(slices: Path) -> None:
    folder = read_image_folder(slices, group=r"^(\w+)_")
    train = [image for image in folder.images if image.part == "Train"]
    assert folder.grouped
    assert len({image.patient for image in train}) == 8
    inside, held_out, tested = folder.parts(0.5, 0)
    assert tested.tolist() == folder.rows("Test").tolist()
    groups = [{folder.images[row].group for row in rows} for rows in (inside, held_out)]
    assert not groups[0] & groups[1]
    assert {folder.images[row].label for row in held_out} == {0, 1}


def test_a_patient_of_both_parts_is_refused(slices: Path) -> None:
    cv2.imwrite(str(slices / "Test/no_gad/Tr000_900.png"), draw_slice(77, vessels=False))
    with pytest.raises(DataError, match="patient is in Train and in Test"):
        read_image_folder(slices, group=r"^(\w+)_")


@pytest.mark.parametrize(("group", "message"), [("(", "not a regular expression"), (r"^(\d+)_", "does not fit")])
def test_patterns_that_fit_nothing_are_refused(slices: Path, group: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_image_folder(slices, group=group)


def test_the_same_picture_has_one_hash_in_every_format(tmp_path: Path) -> None:
    for name in ("a.png", "b.bmp", "c.tif"):
        cv2.imwrite(str(tmp_path / name), GRAY)
    assert len({pixel_hash(path) for path in tmp_path.iterdir()}) == 1


def test_what_editors_and_file_managers_leave_is_never_taken_and_counted(tmp_path: Path) -> None:
    for part in ("Train", "Test"):
        for number, name in enumerate(("no", "yes")):
            for image in range(2):
                pixels = np.full((8, 8), 40 * image + 100 * number + 10 * (part == "Test"), np.uint8)
                path = tmp_path / part / name / f"{image}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), pixels)
    (tmp_path / "Train" / ".ipynb_checkpoints").mkdir()
    for junk in ("yes/.ipynb_checkpoints/0-checkpoint.png", "yes/@eaDir/0.png/THUMB.jpg", "no/Thumbs.db", "no/IM0001"):
        path = tmp_path / "Train" / junk
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    folder = read_image_folder(tmp_path)
    assert folder.classes == ("no", "yes")
    assert len(folder.images) == 8
    assert folder.rejected == ()
    assert len(folder.junk) == 4


# --- which class is looked for, whose the images are, what is not taken -----------------------------------------------


@pytest.mark.parametrize(
    ("names", "positive"),
    [
        (("abnormal", "normal"), "abnormal"), (("disease", "no_disease"), "disease"), (("cancer", "normal"), "cancer"),
        (("malignant", "benign"), "malignant"), (("no", "yes"), "yes"), (("0", "1"), "1"), (("NoGad", "Gad"), "Gad"),
        (("Post", "Pre"), "Post"), (("T1", "T1C"), "T1C"), (("with_contrast", "without_contrast"), "with_contrast"),
        (("nocontrast", "contrast"), "contrast"), (("sano", "maligno"), "maligno"),
    ],
)  # fmt: skip
def test_the_positive_class_is_told_by_words_not_by_the_alphabet(
    slices: Path, names: tuple[str, str], positive: str
) -> None:
    for part in ("Train", "Test"):
        for old, new in zip(CLASSES, names, strict=True):
            (slices / part / old).rename(slices / part / new)
    folder = read_image_folder(slices)
    assert folder.classes[1] == positive
    assert {image.label for image in folder.images if f"/{positive}/" in image.path} == {1}
    assert f"positive class: {positive}, by its name" in folder.notes[0]


@pytest.mark.parametrize(
    ("train", "test"),
    [("train", "TEST"), ("Training", "Testing"), ("training_set", "test_set")],
)
def test_the_two_parts_go_by_many_names(train: str, test: str, slices: Path) -> None:
    right = [(image.part, image.label) for image in read_image_folder(slices).images]
    (slices / "Train").rename(slices / train)
    (slices / "Test").rename(slices / test)
    assert sorted((image.part, image.label) for image in read_image_folder(slices).images) == sorted(right)
    with pytest.raises(DataError, match="parts, not classes") as caught:
        read_image_folder(slices, parts=False)
    assert "cnn.folds=parts" in str(caught.value.hint)
    (slices / "Train").mkdir(exist_ok=True)
    (slices / "training").mkdir(exist_ok=True)
    with pytest.raises(DataError, match="two folders may be Train"):
        read_image_folder(slices)


def test_patients_are_found_in_folders_too_and_their_absence_is_said(slices: Path) -> None:
    assert any("patients: not known" in note for note in read_image_folder(slices).notes)
    for number, path in enumerate(sorted(slices.rglob("*.png"))):
        folder = path.parent / f"patient{number % 2 + (10 if 'Test' in path.parts else 0)}"
        folder.mkdir(exist_ok=True)
        path.rename(folder / path.name)
    for path in slices.rglob("*.bmp"):
        path.unlink()
    images = read_image_folder(slices, group=r"patient(\d+)")
    assert images.grouped
    assert {image.group for image in images.images} == {"0", "1", "10", "11"}
    assert not any("patients: not known" in note for note in images.notes)


@pytest.mark.parametrize("parts", [True, False])
def test_file_names_say_the_class_where_no_folders_do(parts: bool, slices: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(slices.rglob("*.png"))):
        part = path.parts[-3] if parts else ""
        (tmp_path / "flat" / part).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "flat" / part / f"{'CN'[path.parts[-2] == 'no_gad']}{number:03d}.png")
    with pytest.raises(DataError, match="two classes are needed") as caught:
        read_image_folder(tmp_path / "flat", parts=parts)
    assert "cnn.label" in str(caught.value.hint)
    images = read_image_folder(tmp_path / "flat", parts=parts, label="^([CN])", positive="C", keep_copies=True)
    assert images.classes == ("N", "C")
    assert all(image.label == (Path(image.path).name[0] == "C") for image in images.images)
    assert len(images.images) == len(list(slices.rglob("*.png")))
    with pytest.raises(ConfigError, match="does not fit every file name"):
        read_image_folder(tmp_path / "flat", parts=parts, label="^([C])")


def test_class_names_that_say_nothing_are_asked_about(slices: Path) -> None:
    for part in ("Train", "Test"):
        for old, new in zip(CLASSES, ("site_a", "site_b"), strict=True):
            (slices / part / old).rename(slices / part / new)
    with pytest.raises(ConfigError, match="which class is the positive one") as caught:
        read_image_folder(slices)
    assert "cnn.positive=site_b" in str(caught.value.hint)
    assert read_image_folder(slices, positive="site_a").classes == ("site_b", "site_a")


def test_patients_with_images_of_both_classes_are_divided_whole(slices: Path) -> None:
    """Before and after contrast of one person: her slices carry their own labels and stay on one side."""
    shutil.rmtree(slices)
    make_slices(slices, train=12, test=2, patients=6, size=24)
    for path in slices.glob("*/*/*"):  # Tr000 and Tr100 become the same person 00
        path.rename(path.with_name(path.name[:2] + path.name[3:]))
    folder = read_image_folder(slices, group=r"^(\w+)_")
    inside, held_out, _ = folder.parts(0.34, 0)
    sides = [{folder.images[row].group for row in rows} for rows in (inside, held_out)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == 2
    for rows in (inside, held_out):
        assert folder.labels[rows].mean() == 0.5


def test_a_class_that_one_group_alone_holds_cannot_be_validated(slices: Path) -> None:
    for path in (slices / "Train/no_gad").iterdir():
        path.rename(path.with_name("only_" + path.name.split("_")[1]))
    with pytest.raises(DataError, match="class no_gad is too small for a validation part"):
        read_image_folder(slices, group=r"^(\w+)_").parts(0.5, 0)


def test_images_without_a_suffix_webp_and_links_are_taken(slices: Path, tmp_path: Path) -> None:
    bare, webp, *_ = sorted((slices / "Train/no_gad").iterdir())
    bare.rename(bare.with_name("IM00001"))
    cv2.imwrite(str(webp.with_suffix(".webp")), cv2.imread(str(webp)))
    webp.unlink()
    (slices / "Train/with_gad").rename(tmp_path / "elsewhere")
    (slices / "Train/with_gad").symlink_to(tmp_path / "elsewhere")
    more = tmp_path / "more"
    more.mkdir()
    cv2.imwrite(str(more / "linked.png"), draw_slice(99, vessels=True))
    (tmp_path / "elsewhere/more").symlink_to(more)
    (more / "back").symlink_to(tmp_path / "elsewhere")  # a circle
    folder = read_image_folder(slices)
    assert len(folder.rows("Train")) == 9
    assert folder.junk == ()


def test_what_lies_beside_the_two_parts_is_named(slices: Path) -> None:
    shutil.copytree(slices / "Test", slices / "val")
    (slices / "Test/with_gad").rename(slices / "Test/With_Gad")
    folder = read_image_folder(slices)
    assert "val/ is not used (4 images): only Train and Test are" in folder.notes
    assert folder.classes == CLASSES


# --- nearly the same picture ------------------------------------------------------------------------------------------

NEARLY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "encoded again": lambda grey: cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 80])[1], 0),
    "mirrored": lambda grey: grey[:, ::-1],
    "half as large": lambda grey: cv2.resize(grey, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "mirrored and brighter": lambda grey: np.clip(grey[:, ::-1] * 0.8 + 20, 0, 255).astype(np.uint8),
}


def nearly(change: Callable[[np.ndarray], np.ndarray], source: Path, target: Path) -> None:
    cv2.imwrite(str(target), change(cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)))


@pytest.mark.parametrize("change", NEARLY.values(), ids=NEARLY)
def test_nearly_the_same_pictures_stay_on_one_side(change: Callable[[np.ndarray], np.ndarray], tmp_path: Path) -> None:
    root = make_slices(tmp_path / "slices", train=8, test=2)
    assert read_image_folder(root).nearly == ()
    first = min((root / "Train/no_gad").iterdir())
    nearly(change, first, root / "Train/no_gad/zz_again.png")
    index = HashIndex(tmp_path / "hashes.json")
    folder = read_image_folder(root, index=index)
    pair = {f"Train/no_gad/{first.name}", "Train/no_gad/zz_again.png"}
    assert [{one.path, other.path} for one, other in folder.nearly] == [pair]
    assert any("1 pairs of pictures are nearly the same" in note and "one side" in note for note in folder.notes)
    own = {row for row, image in enumerate(folder.images) if image.path in pair}
    assert len({folder.images[row].patient for row in own}) == 1
    for seed in range(12):
        for side in folder.parts(0.4, seed):
            assert len(own & set(side.tolist())) in (0, 2)
    assert (folder.nearly_shared, ImageFamily(only_kind_of(CNN)).leaks(asked(root, tmp_path), cohort(folder), ())) == (
        0, [BY_IMAGE],
    )  # fmt: skip
    index.save()
    assert read_image_folder(root, index=HashIndex(tmp_path / "hashes.json")).nearly == folder.nearly


def test_drawn_heads_of_other_people_are_not_nearly_the_same_and_copies_are() -> None:
    drawn = [draw_slice(seed, seed % 2 == 0, (64, 96, 128, 192, 256)[seed % 5]) for seed in range(200)]
    looks = [look_of(each.astype(np.float32) * np.float32(20 / 255)) for each in drawn]
    assert all(looks)
    assert list(alike(looks, [""] * len(looks), 0.989)) == []
    for change in NEARLY.values():
        copies = [change(each) for each in drawn]
        again = [look_of(each.astype(np.float32) * np.float32(20 / 255)) for each in copies]
        found = {(one, other) for one, other, _ in alike([*looks, *again], [""] * 2 * len(looks), 0.998)}
        # a half of 48 rows has no whole number of rows a cell: correlations down to .990
        wanted = {(row, len(looks) + row) for row, each in enumerate(copies) if each.shape[0] != 48}
        assert wanted <= found


def test_nearly_the_same_picture_in_train_and_test_is_named_as_a_leak(tmp_path: Path) -> None:
    root = make_slices(tmp_path / "slices", train=8, test=2)
    first = min((root / "Train/no_gad").iterdir())
    nearly(NEARLY["mirrored"], first, root / "Test/no_gad/zz_again.png")
    folder = read_image_folder(root)
    assert folder.nearly_shared == 1
    assert any("one in Train, one in Test" in note and "leak" in note for note in folder.notes)
    assert len({image.patient for image in folder.images}) == len(folder.images), "the folder's own division stands"
    leaks = ImageFamily(only_kind_of(CNN)).leaks(asked(root, tmp_path), cohort(folder), ())
    assert leaks == [BY_IMAGE, "1 test pictures are nearly the same as one in Train"]


def test_pictures_of_one_patient_may_resemble_each_other(tmp_path: Path) -> None:
    root = make_slices(tmp_path / "slices", train=8, test=2)
    first = min((root / "Train/no_gad").iterdir())
    nearly(NEARLY["mirrored"], first, root / f"Train/no_gad/{first.stem.split('_')[0]}_again.png")
    assert read_image_folder(root, group=r"^(\w+)_").nearly == ()


def asked(root: Path, workspace: Path) -> Asked:
    return Asked(tiny_config(Workspace(workspace), root), Workspace(workspace), (IMAGE,))


def cohort(folder: ImageFolder) -> ImageCohort:
    return ImageCohort(folder, (48, 48), "gray", Path("unused"))
