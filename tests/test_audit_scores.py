"""``audit SCORES``: planted shortcuts are found in bare tables, and nothing is found where there is none."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from audit_scores import DEMOS, PLANTS, Columns, audited, planted

from thermocancer.errors import ThermocancerError
from thermocancer.evaluation.audit.held_out import Ridges, is_named, read_features
from thermocancer.evaluation.audit.of_scores import audit_scores, told
from thermocancer.evaluation.audit.score_tables import read_scores
from thermocancer.evaluation.report.page import GENERAL_NOTICE, render_page
from thermocancer.files import Json


def table_of(path: Path, tie: str = "", *, seed: int = 0, n: int = 160, folds: bool = True) -> Path:
    columns = {name: each for name, each in planted(tie, seed, n).items() if folds or name != "fold"}
    with open(path, "w", newline="") as handle:
        csv.writer(handle).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return path


def judged(path: Path, **match: float) -> Json:
    return audit_scores(read_scores(path, columns={}), match=match, confidence=0.95, bootstrap=100, seed=0)


@pytest.mark.parametrize("tie", PLANTS)
def test_a_planted_shortcut_is_found(tmp_path: Path, tie: str) -> None:
    found = judged(table_of(tmp_path / "scores.csv", tie, folds=tie != "camera"))
    first = found["verdict"]["shortcuts"][0]
    assert found["exit_code"] == 6
    assert f"`{tie.split()[0]}`" in first["variable"]
    assert "nearest" in first["variable"] or tie != "date middle third"


@pytest.mark.parametrize("seed", range(1, 6))
def test_nothing_is_found_where_nothing_is_planted(tmp_path: Path, seed: int) -> None:
    found = judged(table_of(tmp_path / "scores.csv", seed=seed, folds=seed % 2 == 0))
    assert found["exit_code"] == 0, found["verdict"]["sentences"]
    assert found["facts"] == {"date": "date", "site": "category", "camera": "number", "age": "number"}
    assert found["verdict"]["absence"]["detectable_auc"] > 0.6


def test_pairs_meet_in_one_fold_and_are_alike_in_what_was_asked(tmp_path: Path) -> None:
    path = table_of(tmp_path / "scores.csv")
    with open(path) as handle:
        rows = list(csv.DictReader(handle))
    met = right = 0.0
    for sick in (row for row in rows if row["label"] == "1"):
        for other in (row for row in rows if row["label"] == "0"):
            apart = abs((date.fromisoformat(sick["date"]) - date.fromisoformat(other["date"])).days)
            if sick["fold"] == other["fold"] and sick["site"] == other["site"] and apart <= 200:
                met, right = met + 1, right + (float(sick["score"]) > float(other["score"]))
    both = judged(path, date=200, site=0)["matched"][-1]
    assert both["pairs"] == met
    assert both["auc"]["value"] == pytest.approx(right / met)


def test_a_score_that_follows_a_fact_among_the_negative_is_told(tmp_path: Path) -> None:
    path = table_of(tmp_path / "scores.csv")
    lines = [line.split(",") for line in path.read_text().splitlines()]
    for line in lines[1:]:
        line[2] = str(1 / (1 + np.exp(-(float(line[7]) - 55) / 12 - int(line[1]))))
    path.write_text("\n".join(map(",".join, lines)))
    found = judged(path)
    told_of = [each for each in found["follows"] if each["fact"] == "age" and each["among"] == "negative"]
    assert told_of[0]["low"] > 0.9
    assert any("the score follows age" in line for line in told(found))
    page = render_page("scores.html", found | {"title": "x", "notice": GENERAL_NOTICE}, {})
    assert found["verdict"]["headline"] in page


def test_patients_in_two_folds_and_units_under_two_names_stop(tmp_path: Path) -> None:
    path = table_of(tmp_path / "scores.csv")
    lines = path.read_text().splitlines()
    copied = [*lines, *(line.replace("u", "v", 1) for line in lines[1:4])]
    path.write_text("\n".join(copied))
    assert judged(path)["exit_code"] == 6
    grouped = [f"{line},{'group' if not n else f'g{(n - 1) // 5}_{line.split(chr(44))[1]}'}"
               for n, line in enumerate(lines)]  # fmt: skip
    path.write_text("\n".join(grouped))
    found = judged(path)
    assert found["exit_code"] == 6
    assert found["checks"][0]["passed"] is False


def test_scores_of_few_values_are_no_copies(tmp_path: Path) -> None:
    path = table_of(tmp_path / "scores.csv", n=400)
    lines = [line.split(",") for line in path.read_text().splitlines()]
    for line in lines[1:]:  # trees that split the age a few times: many units of one age, site and score
        line[2], line[4], line[6] = f"{float(line[7]) // 15 / 10:.1f}", "", "1"
    path.write_text("\n".join(map(",".join, lines)))
    found = {each["name"]: each for each in judged(path)["checks"]}
    assert found["no unit twice"]["passed"] is None
    assert "cannot be told" in found["no unit twice"]["found"]


def test_where_every_fold_holds_one_class_it_is_said_and_facts_get_folds_of_their_own(tmp_path: Path) -> None:
    path = table_of(tmp_path / "scores.csv", "age", n=120)
    lines = [line.split(",") for line in path.read_text().splitlines()]
    for number, line in enumerate(lines[1:], start=1):
        line[3] = str(number)
    path.write_text("\n".join(map(",".join, lines)))
    found = judged(path, date=2000)
    assert "drawn here" in found["folds"]
    assert found["matched"] == []
    assert "`age`" in found["verdict"]["shortcuts"][0]["variable"]
    assert any("every fold holds one class only" in each for each in found["verdict"]["sentences"])


# --- features of the model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tool", "kind", "made", "verdict"), DEMOS, ids=[f"{each[0]} {each[1]}" for each in DEMOS])
def test_cohorts_of_other_tools_demos_are_judged_alike(
    tool: str, kind: str, made: Callable[[str], tuple[Columns, np.ndarray]], verdict: str
) -> None:
    found = audited(*made(kind))
    told_within = [each for each in found["encoded"] if each["p_holm"] < 0.05]
    leaks = [each for each in found["checks"] if each["passed"] is False]
    # medaudit asks features alone; that the label can be read from the mode itself (.85) stops here as well
    assert found["exit_code"] == (0 if verdict in ("CLEAN", "SITE_SIGNAL_UNEXPLOITED") else 6)
    assert bool(told_within) == (verdict not in ("CLEAN", "AMBIGUOUS", "group leakage"))
    assert bool(leaks) == (verdict == "group leakage")
    if tool == "sitecheck":
        assert any(map(is_named, found["dropped"])) == (verdict == "INFLATED")
        assert bool(found["verdict"]["shortcuts"]) == (verdict == "CONFOUNDED")
        assert any("is not taught a value of `site`" in line for line in told(found)) == (verdict == "INFLATED")


def test_a_ridge_without_some_rows_is_the_ridge_on_the_others() -> None:
    random = np.random.default_rng(0)
    features, targets, rows = random.normal(size=(60, 5)) + 3, random.normal(size=(60, 2)), random.random(60) < 0.3
    known, level = features[~rows] - features[~rows].mean(axis=0), targets[~rows].mean(axis=0)
    weights = np.linalg.solve(known.T @ known + 5 * np.eye(5), known.T @ (targets[~rows] - level))
    wanted = (features[rows] - features[~rows].mean(axis=0)) @ weights
    np.testing.assert_allclose(Ridges(features, targets).without(rows, rows), wanted, atol=1e-12)


def test_more_features_than_units_are_rotated_and_rank_alike(tmp_path: Path) -> None:
    random, path = np.random.default_rng(1), table_of(tmp_path / "scores.csv", n=40)
    table, wide = read_scores(path, columns={}), random.normal(size=(40, 90))
    np.save(tmp_path / "wide.npy", wide)
    own = read_features(tmp_path / "wide.npy", table)
    standard = (wide - wide.mean(axis=0)) / wide.std(axis=0)
    np.testing.assert_allclose(own @ own.T, standard @ standard.T, atol=1e-8)


@pytest.mark.parametrize(
    ("content", "found"),
    [(np.zeros((3, 2)), "(3, 2)"), (np.zeros(160), "(160,)"), (np.full((160, 2), np.nan), "nan"), (None, "")],
)
def test_features_that_are_not_those_of_the_scores_are_refused(
    tmp_path: Path, content: np.ndarray | None, found: str
) -> None:
    table, path = read_scores(table_of(tmp_path / "scores.csv"), columns={}), tmp_path / "features.npy"
    if content is None:
        path.write_bytes(b"unit,label")
    else:
        np.save(path, content)
    with pytest.raises(ThermocancerError) as caught:
        read_features(path, table)
    assert str(path) in str(caught.value.where)
    assert found in str(caught.value.found)
    assert caught.value.expected


def test_one_picture_under_two_names_is_seen_in_its_features(tmp_path: Path) -> None:
    path = table_of(tmp_path / "scores.csv")
    features = np.random.default_rng(2).normal(size=(160, 4))
    features[7] = features[3]
    np.save(tmp_path / "features.npy", features)
    table = read_scores(path, columns={})
    own = read_features(tmp_path / "features.npy", table)
    found = audit_scores(table, confidence=0.95, bootstrap=100, seed=0, features=own)
    assert found["exit_code"] == 6
    assert [each["name"] for each in found["checks"] if each["passed"] is False] == ["no features twice"]


@pytest.mark.parametrize(
    ("change", "where", "hint"),
    [
        (("score", "value"), "scores.csv", "--score"),
        (("u3,1,", "u3,2,"), "column label", "--label"),
        (("u3,0,", "u3,0,x"), "scores.csv:5", "--score"),
        (("u3,", "u2,"), "scores.csv:5", "--repeat"),
    ],
)
def test_errors_say_where_and_what_to_type(tmp_path: Path, change: tuple[str, str], where: str, hint: str) -> None:
    path = table_of(tmp_path / "scores.csv")
    text = path.read_text()
    path.write_text(text.replace(*change, 1) if change[0] in text else text.replace("u3,0,", "u3,2,", 1))
    with pytest.raises(ThermocancerError) as caught:
        judged(path)
    assert where in str(caught.value.where)
    assert hint in str(caught.value.hint)
    assert caught.value.expected
    assert caught.value.found


def test_one_class_is_refused(tmp_path: Path) -> None:
    path = table_of(tmp_path / "scores.csv")
    path.write_text("\n".join(line for line in path.read_text().splitlines() if ",1," not in line[:7]))
    with pytest.raises(ThermocancerError, match="two kinds"):
        judged(path)


def test_it_runs_where_no_backend_and_no_opencv_can_be_imported(tmp_path: Path) -> None:
    scores = table_of(tmp_path / "scores.csv", "site")
    facts = tmp_path / "facts.csv"
    facts.write_text("unit,room\n" + "\n".join(f"u{n},{20 + n % 7}" for n in range(160)))
    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('tensorflow', 'keras', 'jax', 'cv2', 'h5py'): raise ImportError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import thermocancer.cli as cli\n"
        f"sys.argv = ['thermocancer', 'audit', {str(scores)!r}, '--facts', {str(facts)!r}, '--json', '-', "
        f"'--html', {str(tmp_path / 'page.html')!r}]\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 6, done.stderr
    assert json.loads(done.stdout)["facts"]["room"] == "number"
    assert "site" in (tmp_path / "page.html").read_text()
