"""The report: one file, readable by people and machines, the same bytes every time."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from evaluation_fixtures import pixels_config, toy_rows, toy_source, write_dataset, write_run

from thermocancer import evaluation
from thermocancer.config import load_config
from thermocancer.config.judging import EvaluateSection
from thermocancer.data.catalog import Record, write_catalog
from thermocancer.data.names import ThermogramName
from thermocancer.data.split import make_split
from thermocancer.errors import DataError
from thermocancer.evaluation.report import figures
from thermocancer.evaluation.report.contents import at_a_glance, by_class
from thermocancer.evaluation.report.exams import catalogued_exams, cohort_flow, is_phantom, sources_of, subgroup_table
from thermocancer.evaluation.report.judgement import fold_facts
from thermocancer.evaluation.report.page import ADJUNCT_NOTICE, THERMOGRAMS, Words, render_page
from thermocancer.evaluation.report.verdict import verdict_of
from thermocancer.evaluation.statistics.curves import accuracy_by_threshold
from thermocancer.evaluation.statistics.intervals import few_note
from thermocancer.evaluation.statistics.metrics import auc_figures
from thermocancer.evaluation.statistics.units import gather_units
from thermocancer.files import hash_file
from thermocancer.progress import Silent
from thermocancer.runs.predictions import Prediction, read_predictions
from thermocancer.runs.run import read_run
from thermocancer.stages import evaluate, fuse
from thermocancer.thermal.writing import format_matrix
from thermocancer.workspace import LABELS, Workspace

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


WITHOUT_AUDIT = {"evaluate.audit": False, "evaluate.explain": False, "evaluate.bootstrap": 50}


class Page(HTMLParser):
    """What a page loads and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[dict[str, str | None]] = []
        self.loads: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.images.append(found)
        if tag in ("script", "link", "iframe"):
            self.loads.append(tag)
        self.loads += [str(found[name]) for name in ("src", "href") if name in found]
        if tag not in ("img", "meta", "br", "input", "link", "hr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def fill_raw(workspace: Workspace, source_name: str = "import") -> None:
    """The toy cohort as raw/ files with a catalog and a filter.csv."""
    source = toy_source(toy_rows(24, repeats=1))
    records = []
    for exam, matrix in zip(source.exams, source.matrices["Frontal"], strict=True):
        path = ThermogramName(exam.patient, exam.visit, 1, "S", exam.date, 0).tree_path(LABELS[exam.label])
        content = format_matrix(matrix, "space2")
        (workspace.raw / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace.raw / path).write_bytes(content)
        layout = "space2" if exam.patient % 3 else "semicolon5"
        digest, label = hash_file(workspace.raw / path), LABELS[exam.label]
        records.append(
            Record(path, exam.patient, exam.visit, "Frontal", "S", exam.date, 0, label, digest, len(content), layout,
                   source_name)
        )  # fmt: skip
    broken = Record("", 99, 1, "Frontal", "S", None, 0, "sick", source=source_name, status="refused", reason="flat")
    write_catalog(workspace, [*records, broken])
    lines = ["exam,patient,visit,label,protocol,kept,verdict,reason"]
    lines += [f"{e.patient}_{e.visit},{e.patient},{e.visit},{LABELS[e.label]},S,yes,ok," for e in source.exams]
    lines.append("98_1,98,1,sick,S,no,missing_view,no Left view")
    workspace.filtered.mkdir()
    (workspace.filtered / "filter.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judged run with everything a report can show."""
    workspace = Workspace(tmp_path_factory.mktemp("reported"))
    fill_raw(workspace)
    source = toy_source(toy_rows(24, repeats=1))
    write_dataset(workspace, source)
    config = pixels_config(workspace)
    make_split(source.exams, config.split, 0).write(workspace.split)
    fuse.run(config, workspace, Silent())
    history = [{"fold": "1.1", "epoch": n, "loss": 1 / n, "val_loss": 2 / n} for n in (1, 2, 3)]
    path = workspace.run("pixels")
    (path / "history.jsonl").write_text("".join(json.dumps(each) + "\n" for each in history))
    evaluate.run(config, workspace, Silent())
    return path


def test_one_self_contained_page(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert page.images
    for image in page.images:
        assert str(image["src"]).startswith("data:image/png;base64,")
        assert len(str(image["alt"])) > 10
    assert all(each.startswith(("data:", "#")) for each in page.loads)
    assert not re.search(r"https?://|url\(|@import", re.sub(r"<pre>.*?</pre>", "", text, flags=re.S))
    assert 'name="viewport"' in text
    assert "@media print" in text


def test_the_notice_the_verdict_and_the_checklist_are_there(folder: Path) -> None:
    text = (folder / "report.html").read_text()
    assert ADJUNCT_NOTICE in text
    heads = re.findall(r"<h2>([^<]*)</h2>", text)
    assert heads[:4] == ["Verdict", "At a glance", "Figures", "Audit"]
    assert "not reported" in text
    facts = json.loads((folder / "report.json").read_text())
    assert facts["verdict"]["headline"] in text
    named = {item["item"]: item["answer"] for item in facts["checklist"]}
    assert named["Ethics approval, consent, registration and protocol"] is None
    assert re.fullmatch(
        r"\d+ sick and \d+ healthy called right, \d+ sick and \d+ healthy called wrong", named["Confusion matrix"]
    )
    assert facts["baseline"]["auc"]["value"] > 0.5


def test_every_misclassified_unit_is_shown(folder: Path) -> None:
    facts = json.loads((folder / "report.json").read_text())
    document = json.loads((folder / "metrics.json").read_text())
    wrong = facts["misclassified"]
    assert len(wrong) == document["confusion"]["fp"] + document["confusion"]["fn"]
    text = (folder / "report.html").read_text()
    for item in wrong:
        assert item["truth"] != item["called"]
        assert f"Thermogram of {item['name']}, Frontal view, truth {item['truth']}, called {item['called']}" in text


def test_flow_from_files_to_scores(folder: Path) -> None:
    flow = json.loads((folder / "report.json").read_text())["flow"]
    assert [step["step"] for step in flow] == ["found", "complete and sound", "scored out of sample"]
    assert flow[0]["losses"] == [{"reason": "file refused", "count": 1}]
    assert flow[1]["losses"] == [{"reason": "S: missing_view", "count": 1}]
    assert flow[0]["exams"] == flow[1]["exams"] == flow[2]["exams"]


def test_nothing_that_differs_between_two_equal_runs(folder: Path) -> None:
    workspace = Workspace(folder.parents[1])
    names = ("report.html", "report.json", "metrics.json", "audit.json", "figures/roc.png", "figures/audit.png")
    before = {name: hash_file(folder / name) for name in names}
    (folder / "evaluation.json").unlink()
    report = evaluate.run(pixels_config(workspace), workspace, Silent())
    assert report.made == 1
    assert {name: hash_file(folder / name) for name in names} == before
    assert evaluate.run(pixels_config(workspace), workspace, Silent()).nothing_to_do
    for name in ("report.html", "report.json", "metrics.json", "audit.json"):
        assert str(workspace.root) not in (folder / name).read_text()


def test_a_damaged_output_is_made_again(folder: Path) -> None:
    workspace = Workspace(folder.parents[1])
    whole = hash_file(folder / "metrics.json")
    (folder / "metrics.json").write_text("{}")
    assert evaluate.plan(pixels_config(workspace), workspace).todo == ("judge run pixels",)
    evaluate.run(pixels_config(workspace), workspace, Silent())
    assert hash_file(folder / "metrics.json") == whole


def test_the_head_says_what_lies_below(folder: Path) -> None:
    """The tab names the run, every entry of the contents leads to a section, and the picture of all has the rows."""
    text = (folder / "report.html").read_text()
    assert re.search(r"<title>pixels · ", text)
    links = re.findall(r'<a href="#([^"]+)">', text.partition("</header>")[0])
    assert {"at-a-glance", "figures", "audit", "cohort", "misclassified"} <= set(links)
    assert all(f'<section id="{name}"' in text for name in links)
    facts = json.loads((folder / "report.json").read_text())
    rows = {row["title"]: row["auc"] for row in at_a_glance(facts)}
    assert rows["this model"] == facts["metrics"]["auc"]
    assert rows["trivial baseline"] == facts["baseline"]["auc"]
    (best,) = (name for name in rows if name.startswith("best of"))
    alone = [row["auc"]["value"] for row in facts["audit"]["controls"] if row["group"] == "nuisance"]
    assert rows[best]["value"] == max(value for value in alone if value is not None)
    glance = text.partition('id="at-a-glance"')[2].partition("</section>")[0]
    assert glance.count('class="bar half"') == len(rows)
    assert at_a_glance(facts | {"audit": None, "baseline": None}) == [
        {"title": "this model", "auc": facts["metrics"]["auc"]}
    ]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_colour_of_text_can_be_read(dark: bool) -> None:
    """Contrast at least 4.5 on both grounds (WCAG 2.2, 1.4.3), computed from the page's own colours."""
    style = (Path(evaluation.__file__).parent / "templates" / "base.html").read_text()
    rules = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): #(\w{6})", rules[1] if dark else rules[0]))

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for text in ("ink", "soft", "model", "good", "caution", "bad"):
        for ground in ("paper", "wash"):
            high, low = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_fits_a_browser_window(folder: Path, tmp_path: Path, width: int) -> None:
    measure = "<script>document.title = 'WIDTH ' + document.documentElement.scrollWidth + ' OF ' + innerWidth</script>"
    page = tmp_path / "page.html"
    page.write_text((folder / "report.html").read_text().replace("</body>", f"{measure}</body>"))
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [*command, f"--window-size={width},900", "--dump-dom", page.as_uri()], capture_output=True, text=True
    )
    found = re.search(r"WIDTH (\d+) OF (\d+)", done.stdout)
    assert found, done.stderr[-500:]
    assert int(found[1]) <= int(found[2])


def test_cards_say_what_the_report_says(folder: Path) -> None:
    facts = json.loads((folder / "report.json").read_text())
    model, data = ((folder / name).read_text() for name in ("model-card.md", "data-set-card.md"))
    assert ADJUNCT_NOTICE in model
    assert ADJUNCT_NOTICE in data
    assert facts["verdict"]["headline"] in model
    assert f"{facts['metrics']['auc']['value']:.3f}" in model
    assert "labels permuted before training" in model
    assert "a folder that was imported" in data
    assert "98_1" not in data
    assert "1 S: missing_view" in data


def test_values_are_escaped(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    folder = write_run(workspace, "toy", toy_rows(20), model="<script>alert(1)</script>", leaks=["a < b & c"])
    options = {"evaluate.audit": False, "report.title": "<b>bold</b>"}
    evaluate.run(load_config(options=options, workspace=tmp_path, environment={}), workspace, Silent())
    text = (folder / "report.html").read_text()
    assert "<script>" not in text
    assert "<b>bold" not in text
    assert "a &lt; b &amp; c" in text
    with pytest.raises(Exception, match="undefined"):
        render_page("report.html", {}, {})


def test_a_leaky_protocol_says_so(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    folder = write_run(workspace, "toy", toy_rows(30), protocol="thesis", leaks=["split by file, not by patient"])
    evaluate.run(
        load_config(options={"evaluate.audit": False}, workspace=tmp_path, environment={}), workspace, Silent()
    )
    facts = json.loads((folder / "report.json").read_text())
    assert facts["verdict"]["tone"] == "bad"
    assert facts["metrics"]["leaks"] == ["split by file, not by patient"]
    assert any("The protocol leaks" in sentence for sentence in facts["verdict"]["sentences"])


def test_phantom_is_called_phantom(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    fill_raw(workspace, "simulate")
    rows = toy_rows(24, repeats=1)
    assert is_phantom(sources_of(workspace, rows))
    folder = write_run(workspace, "toy", rows)
    evaluate.run(
        load_config(options={"evaluate.audit": False}, workspace=tmp_path, environment={}), workspace, Silent()
    )
    assert "These exams are synthetic" in (folder / "report.html").read_text()


def test_subgroups_by_what_the_catalog_knows(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    fill_raw(workspace)
    rows = toy_rows(24, repeats=1)
    table = subgroup_table(rows, catalogued_exams(workspace), 0.95)
    groups = {(line["grouping"], line["group"]) for line in table}
    assert {("layout", "space2"), ("layout", "semicolon5"), ("visit", "first visit"), ("year", "2013")} <= groups
    assert all(line["grouping"] != "views" for line in table)  # all have the one view: nothing to compare
    by_layout = [line for line in table if line["grouping"] == "layout"]
    assert sum(line["sick"] for line in by_layout) == sum(1 for line in {(r.patient, r.label) for r in rows} if line[1])


def test_age_bands_where_ages_are_known(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    fill_raw(workspace)
    people = [
        {"patient": patient, "read": "2026-01-01", "profile": [["age", f"{48 + patient} years old"]]}
        for patient in range(1, 20)
    ]
    (workspace.raw / "patients.jsonl").write_text("".join(json.dumps(each) + "\n" for each in people))
    facts = catalogued_exams(workspace)
    exam = facts[5, 1]
    passed = 2026 - int(str(exam.date)[:4])
    assert exam.age is not None
    assert abs(exam.age - (53 - passed)) <= 1
    assert facts[23, 1].age is None
    bands = {
        line["group"] for line in subgroup_table(toy_rows(24, repeats=1), facts, 0.95) if line["grouping"] == "age"
    }
    assert {"39 or under", "40 to 49", "unknown"} <= bands
    (workspace.raw / "patients.jsonl").write_text("{")
    with pytest.raises(DataError, match="facts about patients"):
        catalogued_exams(workspace)


def test_flow_without_catalog_or_filter(tmp_path: Path) -> None:
    assert [step["step"] for step in cohort_flow(Workspace(tmp_path), toy_rows(10))] == ["scored out of sample"]


def test_what_cannot_be_judged_is_listed_and_the_rest_done(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    write_run(workspace, "good", toy_rows(30))
    one_class = [row for row in toy_rows(30) if row.label == 0]
    write_run(workspace, "bad", one_class)
    config = load_config(options={"evaluate.audit": False}, workspace=tmp_path, environment={})
    report = evaluate.run(config, workspace, Silent())
    assert report.made == 1
    assert report.exit_code == 5
    assert report.failed[0].item == "bad"
    assert "only one class" in report.failed[0].reason
    alone = load_config(options={"evaluate.run": "bad"}, workspace=tmp_path, environment={})
    with pytest.raises(DataError, match="only one class"):
        evaluate.run(alone, workspace, Silent())


def test_missing_runs_and_broken_predictions(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(DataError, match="no run to evaluate"):
        evaluate.run(load_config(workspace=tmp_path, environment={}), workspace, Silent())
    folder = write_run(workspace, "toy", toy_rows(20))
    named = load_config(options={"evaluate.run": "other"}, workspace=tmp_path, environment={})
    with pytest.raises(DataError, match="no run 'other'"):
        evaluate.run(named, workspace, Silent())
    (folder / "predictions.csv").write_text("patient,visit,fold,label,score,predicted\n1,1,1.1,0,2.0,0\n")
    with pytest.raises(DataError, match="out of range"):
        evaluate.run(load_config(workspace=tmp_path, environment={}), workspace, Silent())


@pytest.mark.parametrize(
    ("rows", "problem"),
    [(["1,1,1.1,0,0.2,7"], "out of range"), (["1,1,1.1,0,0.2,-1"], "out of range"),
     (["1,1,1.1,0,0.2,0", "1,1,2.1,1,0.2,0"], "an exam has two labels")],
)  # fmt: skip
def test_predictions_that_contradict_themselves_are_refused(tmp_path: Path, rows: list[str], problem: str) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("\n".join(["patient,visit,fold,label,score,predicted", *rows]) + "\n")
    with pytest.raises(DataError, match=problem) as caught:
        read_predictions(path)
    assert str(caught.value.where).endswith(f":{len(rows) + 1}")


def test_a_network_that_reports_its_accuracy_shows_both_curves(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    folder = write_run(workspace, "net", toy_rows(30), epochs=3)
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    more = [row | {"accuracy": 0.5 + row["epoch"] / 10, "val_accuracy": 0.5} for row in rows]
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    evaluate.run(load_config(options=WITHOUT_AUDIT, workspace=tmp_path, environment={}), workspace, Silent())
    page = Page((folder / "report.html").read_text())
    words = [str(image["alt"]) for image in page.images]
    assert [word for word in words if "against the epoch" in word] == [
        "Training and validation loss against the epoch", "Training and validation accuracy against the epoch",
    ]  # fmt: skip
    assert (folder / "figures" / "learning-accuracy.png").exists()


@pytest.mark.parametrize(("protocol", "n", "unit"), [("thesis", 40, "exam"), ("holdout", 30, "patient")])
def test_the_original_protocol_counts_files_and_every_other_one_patients(
    tmp_path: Path, protocol: str, n: int, unit: str
) -> None:
    first = [row for row in toy_rows(30, repeats=1) if row.visit == 1]
    second = [replace(row, visit=2) for row in first if row.patient % 3 == 0]
    workspace = Workspace(tmp_path)
    folder = write_run(workspace, "visits", [*first, *second], protocol=protocol)
    evaluate.run(load_config(options=WITHOUT_AUDIT, workspace=tmp_path, environment={}), workspace, Silent())
    metrics = json.loads((folder / "metrics.json").read_text())
    assert (metrics["n"], metrics["unit"], metrics["patients"]) == (n, unit, 30)
    assert sum(metrics["confusion"].values()) == n
    run = read_run(workspace, "visits")
    summary = auc_figures(run.rows, EvaluateSection(), by_exam=run.by_exam)
    assert [summary[name] for name in ("auc", "auc_low", "auc_high")] == [
        metrics["auc"][end] for end in ("value", "low", "high")
    ]


# --- the verdict: tone and first words from the model and all it is compared with -------------------------------------

Bounds = tuple[float, float, float]


def bounded(bounds: Bounds) -> dict[str, float]:
    return dict(zip(("value", "low", "high"), bounds, strict=True))


def judged_by(
    model: Bounds,
    gain: Bounds | None,
    twin: Bounds | None = (0.3, 0.2, 0.4),
    shortcut: str = "shown absent",
    reached: int = 0,
    leaks: tuple[str, ...] = (),
    flat: int = 0,
    words: Words = THERMOGRAMS,
    note: str = "",
    untold: bool = False,
) -> dict:
    """The verdict where model minus baseline and model minus twin are as given."""
    document = {
        "auc": bounded(model) | ({"note": note} if note else {}), "accuracy": bounded((0.8, 0.7, 0.9)),
        "n": 60, "positives": 20, "patients": 60,
        "unit": "patient", "units_by_visit": 0, "leaks": list(leaks),
        "folds": {"p": 1.0, "disagree": False, "folds": [
            {"fold": f"1.{number}", "n": 12, "auc": 0.5, "spread": 0.0003 if number <= flat else 0.5,
             "flat": number <= flat} for number in range(1, 6)]},
    }  # fmt: skip
    baseline = None if gain is None else bounded((model[0] - gain[0], 0.4, 0.99)) | {"difference": bounded(gain)}
    permuted = [0.5] * (30 - reached) + [model[0]] * reached
    controls = [
        {"name": "permuted", "group": "control", "own": model[0], "permutations": permuted,
         "p_permuted": (1 + reached) / 31, "auc": bounded((0.5, 0.3, 0.7))},
    ]  # fmt: skip
    if twin is not None:
        auc = bounded((model[0] - twin[0], 0.3, 0.95))
        controls.append({"name": "untrained", "group": "baseline", "difference": bounded(twin), "auc": auc})
    tones = {"shown absent": "good", "not shown": "open", "amber": "caution", "red": "bad"}
    named = [{"words": "the calendar"}] if shortcut in ("amber", "red") else []
    verdict = {"tone": tones[shortcut], "sentences": [], "shortcuts": named, "hidden": []}
    checks = [{"name": "copies", "problem": "copies", "passed": None, "found": "nothing known"}] if untold else []
    audit = {"controls": controls, "leak_checks": checks, "verdict": verdict}
    return verdict_of(document, baseline_auc=baseline, audit=audit, phantom=False, words=words)


SURE, ABOVE, BELOW, LEVEL = (0.9, 0.82, 0.95), (0.2, 0.1, 0.3), (-0.28, -0.38, -0.18), (-0.05, -0.12, 0.02)


@pytest.mark.parametrize(
    ("given", "tone", "said"),
    [
        ({}, "good", "the model tells sick from healthy better than chance and better than its trivial baseline"),
        ({"shortcut": "not shown"}, "open", "the model tells sick from healthy better than chance"),
        ({"gain": None}, "open", "the model tells sick from healthy better than chance: AUC 0.900 (0.820 to 0.950); no "
         "trivial baseline was scored beside it."),
        ({"model": (0.995, 0.95, 1.0)}, "caution", "the model tells sick from healthy better than chance and better"),
        ({"model": (0.995, 0.95, 1.0), "untold": True}, "caution", "the model reaches AUC 0.995 (0.950 to 1.000), "
         "but a result of 99 % or more asks for a leak to be looked for first"),
        ({"note": few_note(6, 54)}, "caution", "the model reaches AUC 0.900 (0.820 to 0.950), but 6 sick and 54 "
         "healthy: too few for an interval that can be trusted."),
        ({"model": (0.7, 0.6, 0.8), "gain": BELOW}, "bad", "the trivial baseline (global temperature statistics) "
         "does better than the model: AUC 0.980"),
        ({"gain": LEVEL}, "caution", "the trivial baseline (global temperature statistics) does as well or better"),
        ({"gain": (0.05, -0.02, 0.12)}, "caution", "the trivial baseline (global temperature statistics) is not "
         "shown to do worse"),
        ({"gain": BELOW, "shortcut": "red"}, "bad", "the trivial baseline"),
        ({"twin": LEVEL}, "caution", "the model reaches AUC 0.900 (0.820 to 0.950), but its untrained twin does "),
        ({"shortcut": "amber"}, "caution", "the model reaches AUC 0.900 (0.820 to 0.950), but the label of these exams "
         "can be read from the calendar alone."),
        ({"shortcut": "red"}, "bad", "the model reaches AUC 0.900 (0.820 to 0.950), but the label of these exams can "
         "be read from the calendar alone: this does not show that it sees disease"),
        ({"reached": 3}, "caution", "the model reaches AUC 0.900 (0.820 to 0.950), but 3 of 30 permutations"),
        ({"flat": 1}, "caution", "the model reaches AUC 0.900 (0.820 to 0.950), but 1 of 5 folds did not train"),
        ({"flat": 5}, "bad", "the model reaches AUC 0.900 (0.820 to 0.950), but 5 of 5 folds did not train"),
        ({"leaks": ("by file",)}, "bad", "the model reaches AUC 0.900 (0.820 to 0.950), but its protocol leaks"),
        ({"model": (0.55, 0.4, 0.7), "gain": LEVEL}, "caution", "the model cannot be told from chance, AUC 0.550 "
         "(0.400 to 0.700); the trivial baseline"),
        ({"model": (0.3, 0.2, 0.4)}, "bad", "the model ranks healthy above sick: worse than chance"),
    ],
)  # fmt: skip
def test_tone_and_first_words(given: dict, tone: str, said: str) -> None:
    verdict = judged_by(**({"model": SURE, "gain": ABOVE} | given))
    assert verdict["tone"] == tone
    assert verdict["headline"].startswith(f"On 60 patients (20 sick) {said}")


def test_a_fold_that_did_not_train_is_named() -> None:
    verdict = judged_by(SURE, ABOVE, flat=1)
    assert "Folds that did not train: 1.1: all scores within 0.0003. Their order says nothing." in verdict["sentences"]


def scored(fold: str, first: int, auc: float, size: int) -> list[Prediction]:
    """A fold of as many of each class; the sick ones rank above ``auc`` of the healthy ones, or below them all."""
    healthy = [Prediction(first + n, 1, fold, 0, 0.2 + 0.5 * n / size, 0) for n in range(size)]
    middle = 0.2 + 0.5 * (round(auc * size) - 0.5) / size
    return healthy + [Prediction(first + size + n, 1, fold, 1, middle, 1) for n in range(size)]


@pytest.mark.parametrize(("aucs", "disagree"), [((0.1, 0.6, 0.9), True), ((0.75, 0.8, 0.85), False)])
def test_folds_that_disagree_more_than_chance(tmp_path: Path, aucs: tuple[float, ...], disagree: bool) -> None:
    workspace = Workspace(tmp_path)
    rows = [row for n, auc in enumerate(aucs) for row in scored(f"1.{n + 1}", 100 * n + 1, auc, 20)]
    untrained = [replace(row, fold="1.4", patient=900 + row.patient, score=0.4 + 1e-5 * row.score) for row in rows[:40]]
    write_run(workspace, "toy", rows + untrained * (not disagree))
    found = fold_facts(read_run(workspace, "toy"))
    assert found["disagree"] is disagree or not disagree
    assert [each["fold"] for each in found["folds"] if each["flat"]] == ([] if disagree else ["1.4"])
    if not disagree:
        write_run(workspace, "toy", rows)
        assert not fold_facts(read_run(workspace, "toy"))["disagree"]


def test_the_terminal_says_all_that_the_tone_rests_on(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    fill_raw(workspace, "simulate")
    source = toy_source(toy_rows(24, repeats=1))
    write_dataset(workspace, source)
    config = pixels_config(workspace, **{"evaluate.explain": False, "evaluate.audit_skip": ["permuted labels"]})
    make_split(source.exams, config.split, 0).write(workspace.split)
    trained = fuse.run(config, workspace, Silent())
    assert {"auc", "auc_low", "auc_high", "baseline_auc", "baseline_auc_low"} <= trained.figures.keys()
    said = "\n".join(evaluate.run(config, workspace, Silent()).notes)
    verdict = json.loads((workspace.run("pixels") / "report.json").read_text())["verdict"]
    for sentence in (verdict["headline"], *verdict["sentences"]):
        assert f"pixels: {sentence}" in said
    assert "The trivial baseline (" in said
    assert "These exams are synthetic" in said
    assert "shortcut" in said or "can be read" in said


def test_the_figure_of_thresholds_marks_what_was_decided() -> None:
    units = gather_units(toy_rows(40))
    shares = {"accuracy": 0.61, "sensitivity": 0.42, "specificity": 0.83}
    rows = accuracy_by_threshold(units)
    drawn = {
        name: figures.draw_accuracy(rows, 0.45, shares | {name: value})
        for name, value in (("accuracy", 0.61), ("accuracy", 0.2), ("specificity", 0.1))
    }
    assert drawn["accuracy"] != figures.draw_accuracy(rows, 0.45, shares) != drawn["specificity"]


def test_each_class_by_itself_is_what_scikit_learn_prints() -> None:
    from scipy.stats import binomtest
    from sklearn.metrics import classification_report

    confusion = {"tn": 51, "fp": 6, "fn": 7, "tp": 26}
    truth, called = [0] * 57 + [1] * 33, [0] * 51 + [1] * 6 + [0] * 7 + [1] * 26
    theirs = classification_report(truth, called, output_dict=True)
    ours = {row["name"]: row for row in by_class(confusion, ("healthy", "sick"))}
    for key, name in {"0": "healthy", "1": "sick", "macro avg": "mean", "weighted avg": "weighted"}.items():
        for figure, own in (("precision",) * 2, ("recall",) * 2, ("f1-score", "f1"), ("support",) * 2):
            assert ours[name][own] == pytest.approx(theirs[key][figure]), (name, own)
            assert own == "support" or ours[name][f"{own}_low"] < ours[name][own] < ours[name][f"{own}_high"]
    found = binomtest(51, 58).proportion_ci(0.95, method="wilson")  # of those called healthy
    assert (ours["healthy"]["precision_low"], ours["healthy"]["precision_high"]) == pytest.approx(found[:2])
    assert by_class({"tn": 4, "fp": 0, "fn": 2, "tp": 0}, ("a", "b"))[1]["precision"] is None


def test_networks_that_a_run_keeps_are_shown_layer_by_layer(tmp_path: Path) -> None:
    from thermocancer.models.summary import Layer, table_of

    workspace = Workspace(tmp_path)
    folder = write_run(workspace, "net", toy_rows(30))
    (folder / "model").mkdir(exist_ok=True)
    layers = [
        Layer("Frontal", "InputLayer", "6 x 8 x 3", 0, ()),
        Layer("code", "Conv2D 3x3, relu", "6 x 8 x 4", 112, ("Frontal",)),
    ]
    (folder / "model" / "encoder.layers.csv").write_text(table_of(layers))
    (folder / "model" / "torn.layers.csv").write_text("name,kind\nx,y\n")
    evaluate.run(load_config(options=WITHOUT_AUDIT, workspace=tmp_path, environment={}), workspace, Silent())
    page = (folder / "report.html").read_text()
    assert "encoder: 2 layers, 112 parameters" in page
    assert "Each class by itself" in page
    assert "Conv2D 3x3, relu" in page
    assert page.count("data:image/svg+xml;base64,") == 1
