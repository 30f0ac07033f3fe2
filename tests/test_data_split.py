"""The split and the folds: no patient and no identical image on both sides, ever."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thermocancer.config import load_config
from thermocancer.config.preparation import SplitSection
from thermocancer.data.cohort import Exam
from thermocancer.data.split import (
    Fold,
    Split,
    check_disjoint,
    dynamic_folds,
    group_patients,
    inner_folds,
    make_split,
    outer_folds,
    thesis_leaks,
)
from thermocancer.errors import DataError


def cohort(healthy: int = 20, sick: int = 10, newer: int = 5) -> list[Exam]:
    """Healthy on the older camera; the last ``newer`` sick on the newer; every fifth patient has a second visit."""
    exams = []
    for patient in range(1, healthy + sick + 1):
        label = int(patient > healthy)
        layout = "semicolon5" if patient > healthy + sick - newer else "space2"
        for visit in (1, 2) if patient % 5 == 0 else (1,):
            exams.append(Exam(patient, visit, label, "2014-01-01", layout, (("Frontal", f"{patient}-{visit}"),)))
    return exams


CONFIG = SplitSection()


def test_split_is_stratified_by_label_and_layout_and_whole() -> None:
    exams = cohort()
    split = make_split(exams, CONFIG, seed=3)
    assert sorted(split.train + split.test) == list(range(1, 31))
    assert not set(split.train) & set(split.test)
    assert sum(patient <= 20 for patient in split.test) == 6
    assert sorted(sum(low < patient <= low + 5 for patient in split.test) for low in (20, 25)) == [1, 2]


def test_split_depends_on_the_seed_and_not_on_the_order_of_exams() -> None:
    exams = cohort()
    assert make_split(exams, CONFIG, 3) == make_split(exams[::-1], CONFIG, 3)
    assert make_split(exams, CONFIG, 3) != make_split(exams, CONFIG, 4)


def test_split_file_has_the_fixed_keys_and_reads_back(tmp_path: Path) -> None:
    split = make_split(cohort(), CONFIG, 3)
    split.write(tmp_path / "split.json")
    assert Split.read(tmp_path / "split.json") == split
    import json

    content = json.loads((tmp_path / "split.json").read_text())
    assert set(content) == {"seed", "protocol", "train", "test"}


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"seed": 1, "protocol": "holdout", "train": [1, 2], "test": [2]}', "{"],
    ids=["no keys", "a list", "patient on both sides", "not JSON"],
)  # fmt: skip
def test_a_broken_split_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(DataError):
        Split.read(tmp_path / "split.json")


def test_new_patients_are_added_and_nobody_moves() -> None:
    first = make_split(cohort(20, 10), CONFIG, 0)
    grown = cohort(20, 10) + [replace(exam, patient=exam.patient + 100, hashes=()) for exam in cohort(20, 10)]
    second = make_split(grown, CONFIG, 99, known=first)
    assert set(first.train) <= set(second.train)
    assert set(first.test) <= set(second.test)
    assert (second.seed, second.protocol) == (first.seed, first.protocol)
    assert len(second.test) == 18
    assert make_split(cohort(5, 5), CONFIG, 0, known=second) == second, "patients not in this data set stay"


def test_patients_with_an_identical_image_stay_together() -> None:
    exams = cohort()
    exams[3] = replace(exams[3], hashes=(("Frontal", "same"),))
    exams[9] = replace(exams[9], hashes=(("Left", "same"),))
    pair = {exams[3].patient, exams[9].patient}
    for seed in range(10):
        split = make_split(exams, CONFIG, seed)
        assert pair <= set(split.train) or pair <= set(split.test)
        for fold in outer_folds(exams, split, CONFIG, seed):
            assert {3, 9} <= set(fold.test) or {3, 9} <= set(fold.train)


def test_a_chain_of_identical_images_is_one_group() -> None:
    chain = [Exam(p, 1, 0, hashes=(("Frontal", str(p)), ("Left", str(p + 1)))) for p in (5, 2, 3, 4, 9)]
    assert [group.patients for group in group_patients(chain)] == [(2, 3, 4, 5), (9,)]


def test_a_new_image_that_ties_both_sides_together_is_refused() -> None:
    exams = cohort()
    split = make_split(exams, CONFIG, 0)
    both = (split.train[0], split.test[0])
    tied = [replace(each, hashes=(("Frontal", "same"),)) if each.patient in both else each for each in exams]
    with pytest.raises(DataError, match="identical image"):
        make_split(tied, CONFIG, 0, known=split)


def test_a_patient_with_two_labels_counts_as_sick() -> None:
    exams = [Exam(1, 1, 0), Exam(1, 2, 1), Exam(2, 1, 0)]
    assert [(group.patients, group.label) for group in group_patients(exams)] == [((1,), 1), ((2,), 0)]


def test_grouped_folds_test_every_exam_once_a_repeat_with_balanced_classes() -> None:
    exams = cohort()
    folds = outer_folds(exams, make_split(exams, CONFIG, 0), CONFIG, 0)
    assert [fold.name for fold in folds] == [f"{repeat}.{fold}" for repeat in range(1, 6) for fold in range(1, 6)]
    labels = np.array([exam.label for exam in exams])
    newer = np.array([exam.layout == "semicolon5" for exam in exams])
    for _, members in itertools.groupby(folds, key=lambda fold: fold.name.split(".")[0]):
        tested = np.concatenate([fold.test for fold in members])
        assert sorted(tested) == list(range(len(exams)))
    for fold in folds:
        check_disjoint(exams, fold)
        assert 1 <= labels[fold.test].sum() <= 4
        assert newer[fold.test].sum() >= 1
        assert sorted([*fold.train, *fold.test]) == list(range(len(exams)))
    assert not np.array_equal(folds[0].test, folds[5].test), "each repeat has its own shuffle"


def test_folds_are_deterministic() -> None:
    exams = cohort()
    split = make_split(exams, CONFIG, 0)
    once, again, other = (outer_folds(exams, split, CONFIG, seed) for seed in (7, 7, 8))
    assert all(np.array_equal(a.test, b.test) for a, b in zip(once, again, strict=True))
    assert not all(np.array_equal(a.test, b.test) for a, b in zip(once, other, strict=True))


def test_holdout_follows_the_split() -> None:
    exams = cohort()
    split = make_split(exams, CONFIG, 0)
    (fold,) = outer_folds(exams, split, SplitSection(protocol="holdout"), 0)
    assert fold.name == "test"
    assert {exams[row].patient for row in fold.test} == set(split.test)
    assert {exams[row].patient for row in fold.train} == set(split.train)


def test_holdout_refuses_a_patient_the_split_does_not_know() -> None:
    split = make_split(cohort(), CONFIG, 0)
    with pytest.raises(DataError, match="does not know") as caught:
        outer_folds([*cohort(), Exam(999, 1, 0)], split, SplitSection(protocol="holdout"), 0)
    assert "build-dataset" in str(caught.value)


def test_a_patient_of_the_split_who_lost_her_exams_is_no_unknown_one() -> None:
    split = make_split(cohort(), CONFIG, 0)
    left = [exam for exam in cohort() if exam.patient not in (split.test[0], split.train[0])]
    assert {left[row].patient for row in split.rows(left, "test")} == set(split.test[1:])
    assert {left[row].patient for row in split.rows(left, "train")} == set(split.train[1:])


def test_folds_of_dynamic_exams_test_each_of_them_once_a_repeat() -> None:
    exams, config = cohort(), SplitSection(folds=3, repeats=2)
    split = make_split(exams, config, 0)
    static = [exam for exam in exams if exam.patient % 4]
    folds = dynamic_folds(exams, static, split, config, 0)
    for one, two in ((0, 3), (3, 6)):
        tested = np.concatenate([fold.test for fold in folds[one:two]])
        assert sorted(tested) == list(range(len(exams)))
    for fold, other in zip(folds, outer_folds(static, split, config, 0), strict=True):
        assert sorted([*fold.train, *fold.test]) == list(range(len(exams)))
        assert {static[row].patient for row in other.test} <= {exams[row].patient for row in fold.test}


def test_dynamic_patients_without_static_exams_join_the_fold_with_the_fewest_of_their_class() -> None:
    exams, config = cohort(), SplitSection(folds=5, repeats=1)
    static = [exam for exam in exams if exam.patient > 5 and exam.patient not in (26, 27, 28, 29, 30)]
    labels = np.array([exam.label for exam in exams])
    first = {exam.patient: row for row, exam in enumerate(exams)}
    for fold in dynamic_folds(exams, static, make_split(exams, config, 0), config, 0):
        tested = [labels[first[patient]] for patient in {exams[row].patient for row in fold.test}]
        assert sorted(tested) == [0, 0, 0, 0, 1, 1]


def test_each_side_of_a_split_has_one_of_each_class_at_least() -> None:
    exams = [Exam(patient, 1, int(patient > 3)) for patient in range(1, 6)]
    for fraction, tested in ((0.05, [0, 1]), (0.9, [0, 0, 1])):
        split = make_split(exams, SplitSection(test_fraction=fraction), 0)
        assert sorted(int(patient > 3) for patient in split.test) == tested


def test_inner_folds_stay_inside_the_outer_training_part() -> None:
    exams = cohort()
    outer = outer_folds(exams, make_split(exams, CONFIG, 0), CONFIG, 0)[0]
    inner = inner_folds(exams, outer.train, 3, seed=1)
    assert [fold.name for fold in inner] == ["1", "2", "3"]
    assert sorted(np.concatenate([fold.test for fold in inner])) == sorted(outer.train)
    for fold in inner:
        check_disjoint(exams, fold)
        assert {exams[row].label for row in fold.test} == {0, 1}


def test_too_few_patients_say_how_many_there_are_and_what_to_set() -> None:
    exams = cohort(12, 3, newer=1)
    split = make_split(exams, CONFIG, 0)
    with pytest.raises(DataError) as caught:
        outer_folds(exams, split, CONFIG, 0)
    assert "12 healthy, 3 sick" in str(caught.value)
    assert "set split.folds to 3 or lower" in str(caught.value)
    with pytest.raises(DataError, match=r"set split\.inner_folds to 3"):
        inner_folds(exams, np.arange(len(exams)), 4, 0)
    assert len(outer_folds(exams, split, SplitSection(folds=3, repeats=1), 0)) == 3
    with pytest.raises(DataError, match="too few sick patients"):
        make_split(cohort(12, 1, newer=1), CONFIG, 0)


def test_rare_layouts_do_not_break_the_folds() -> None:
    exams = [replace(exam, layout=f"odd{exam.patient}" if exam.patient % 3 else "space2") for exam in cohort()]
    assert len(outer_folds(exams, make_split(exams, CONFIG, 0), CONFIG, 0)) == 25


def test_thesis_split_is_by_file_with_seed_1_and_names_its_leaks() -> None:
    exams = cohort()
    (fold,) = outer_folds(exams, make_split(exams, CONFIG, 0), SplitSection(protocol="thesis"), seed=5)
    names = sorted((exam.label, f"image_{exam.key}.jpg") for exam in exams)
    np.random.RandomState(1).shuffle(names)
    expected = {name for _, name in names[-int(0.3 * len(names)) :]}
    assert {f"image_{exams[row].key}.jpg" for row in fold.test} == expected
    shared = {exams[row].patient for row in fold.train} & {exams[row].patient for row in fold.test}
    assert shared
    assert thesis_leaks(exams, [fold]) == [f"split by file, not by patient: {len(shared)} patients on both sides"]
    with pytest.raises(DataError, match="a patient is on both sides"):
        check_disjoint(exams, fold)
    few = [Exam(patient, 1, patient % 2) for patient in range(1, 5)]
    split = Split(0, "thesis", (1, 2, 3), (4,))
    (fold,) = outer_folds(few, split, SplitSection(protocol="thesis"), 0)
    assert (len(fold.train), len(fold.test)) == (3, 1)
    with pytest.raises(DataError, match="too few exams"):
        outer_folds(few[:3], split, SplitSection(protocol="thesis"), 0)


def test_the_unfiltered_folders_are_shuffled_in_the_order_of_the_sites_own_names() -> None:
    exams = [replace(exam, patient=13 * exam.patient) for exam in cohort()]  # one to three digits: 13_1, 130_1
    parts = {}
    for order, name in (("filtered", "image_{0}_{1}.jpg"), ("unfiltered", "T{0:04d}.{1}.1.S.2014-01-01.00.jpg")):
        (fold,) = outer_folds(exams, make_split(exams, CONFIG, 0), SplitSection(protocol="thesis", order=order), 5)
        names = sorted((exam.label, name.format(exam.patient, exam.visit)) for exam in exams)
        np.random.RandomState(1).shuffle(names)
        expected = {each for _, each in names[-int(0.3 * len(names)) :]}
        assert {name.format(exams[row].patient, exams[row].visit) for row in fold.test} == expected
        parts[order] = set(fold.test.tolist())
    assert parts["filtered"] != parts["unfiltered"]


def test_an_identical_image_on_both_sides_is_refused_and_named() -> None:
    exams = [Exam(p, 1, p % 2, hashes=(("Frontal", "same" if p in (1, 4) else str(p)),)) for p in range(6)]
    fold = Fold("test", np.array([0, 1, 2]), np.array([3, 4, 5]))
    with pytest.raises(DataError, match="identical image") as caught:
        check_disjoint(exams, fold)
    assert "1_1 and 4_1" in str(caught.value)
    assert thesis_leaks(exams, [fold])[1] == "identical images on both sides: 1 pairs of exams"


def test_defaults_of_the_config_are_the_recommended_protocol() -> None:
    split = load_config().split
    assert (split.protocol, split.folds, split.repeats) == ("grouped-cv", 5, 5)
