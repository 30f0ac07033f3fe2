"""``evaluate``, ``compare``, ``validate``, ``audit``, ``predict``, ``export``: what runs and scores are worth."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from thermocancer import stages
from thermocancer.cli.common import (
    Call,
    app,
    report_stage,
    stage_command,
    with_common_options,
    write_json_report,
)
from thermocancer.cli.console import ConsoleProgress, make_console
from thermocancer.cli.sources import IdPattern, Protocol, Unit, View, ViewMap, Visit, reading_settings
from thermocancer.config import Config
from thermocancer.errors import ConfigError
from thermocancer.outcome import StageReport
from thermocancer.workspace import Workspace


@stage_command("evaluate", example="thermocancer evaluate -w demo --run svm5")
def evaluate(
    run: Annotated[
        str | None, typer.Option("--run", help="Name of the run; by default every run of the workspace.")
    ] = None,
) -> dict[str, object]:
    """Judge a run: metrics with intervals, curves, audit, HTML report."""
    return {"evaluate.run": run}


@stage_command("compare", example="thermocancer compare -w demo svm5 network5")
def compare(
    runs: Annotated[list[str], typer.Argument(help="Names of two or more runs.", metavar="RUN RUN...")],
) -> dict[str, object]:
    """Test runs against one another on the patients they share."""
    return {"evaluate.compare": list(runs)}


@app.command("validate")
@with_common_options
def validate(
    call: Call,
    run: Annotated[str, typer.Argument(help="Name of the frozen run.", metavar="RUN")],
    on: Annotated[
        Path | None, typer.Option("--on", help="Workspace with another labelled data set, or a folder to import.")
    ] = None,
    by_source: Annotated[
        bool, typer.Option("--leave-one-source-out", help="Teach without each source (import --source) instead.")
    ] = False,
    html: Annotated[Path | None, typer.Option("--html", help="Where the page goes.")] = None,
    recalibrate: Annotated[
        float | None, typer.Option("--recalibrate", help="Share of its patients that teach a recalibration.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Of a folder: as for import, and so the rest.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column of the labels file that holds the label.")] = None,
    view: View = None,
    view_map: ViewMap = None,
    unit: Unit = None,
    id_pattern: IdPattern = None,
    visit: Visit = None,
) -> int:
    """Judge a frozen run on another collection: does it travel, and who could tell the two apart?

    Nothing is trained and no threshold is chosen there. A folder is read as import reads it.

    Example: thermocancer validate svm5 --on hospital2 -w demo
    """
    options: dict[str, object] = {
        "evaluate.run": run, "evaluate.elsewhere": None if on is None else str(on),
        "evaluate.leave_one_source_out": by_source or None, "evaluate.recalibrate": recalibrate,
        "evaluate.page": None if html is None else str(html), "import.labels": None if labels is None else str(labels),
        "import.label_column": label_column, **reading_settings(view, view_map, unit, id_pattern, None, visit),
    }  # fmt: skip
    return _with_runner("validate", call.load(options), call)


@app.command("plan-study")
@with_common_options
def plan_study(
    call: Call,
    auc: Annotated[float, typer.Option("--auc", min=0.501, max=0.999, help="AUC that is to be shown.")] = 0.7,
    other_auc: Annotated[
        float, typer.Option("--other-auc", min=0.5, max=0.999, help="AUC it is to differ from.")
    ] = 0.6,
    correlation: Annotated[float, typer.Option("--correlation", min=0, max=0.99, help="Of the two AUCs.")] = 0.5,
    sensitivity: Annotated[float, typer.Option("--sensitivity", min=0.01, max=0.999, help="To be shown.")] = 0.9,
    above: Annotated[float, typer.Option("--above", min=0.001, max=0.99, help="Sensitivity to be above.")] = 0.8,
    prevalence: Annotated[
        float | None, typer.Option("--prevalence", min=0.001, max=0.999, help="Share of sick; default: of -w, or .3.")
    ] = None,
    overlap: Annotated[
        float | None, typer.Option("--overlap", min=0.001, max=1, help="Share of sick women with a healthy match.")
    ] = None,
    picture: Annotated[Path | None, typer.Option("--picture", help="Where a PNG goes.")] = None,
) -> int:
    """Say how many patients, matched or not, could show an AUC, a difference or a sensitivity.

    With -w prevalence and overlap are those measured in its data set (cohort.match_days, cohort.match_room_celsius).

    Example: thermocancer plan-study --auc 0.65 --prevalence 0.4
    """
    config = call.load()
    from thermocancer.evaluation.planning import GIVEN, Population, measured_population, plan_picture, study_plan

    found, data = Population(0.3), Workspace(Path(config.workspace)).dataset(config.dataset.name)
    how = "assumed or given"
    if call.workspace is not None and data.is_file():
        from thermocancer.data.store.reading import StoredCohort

        with StoredCohort(data) as cohort:
            found = measured_population(cohort, config.cohort.match_days, config.cohort.match_room_celsius)
        how = "measured, where not given"
    found = Population(
        found.prevalence if prevalence is None else prevalence, found.overlap if overlap is None else overlap
    )
    rows = study_plan(
        found, auc=auc, other_auc=other_auc, correlation=correlation, sensitivity=sensitivity, above=above
    )  # fmt: skip
    if call.speaks:
        console = make_console()
        console.print(f"{how}: {found.prevalence:.1%} sick, {found.overlap:.1%} of them have a match", markup=False)
        console.print(GIVEN, markup=False, soft_wrap=True)
        for each in rows:
            said = f"{each['patients']} patients ({each['sick']} sick, {each['healthy']} healthy)"
            said += f"; {each['note']}" if each["note"] else ""
            console.print(f"{each['goal']}, {each['power']:.0%} power: {said}", markup=False, soft_wrap=True)
    if picture is not None and not call.dry_run:
        from thermocancer.files import write_bytes

        write_bytes(picture, plan_picture(found))
    write_json_report({"prevalence": found.prevalence, "overlap": found.overlap, "rows": rows}, call)
    return 0


@app.command("audit")
@with_common_options
def audit(
    call: Call,
    scores: Annotated[Path, typer.Argument(help="A table: unit, label, score and any facts.", metavar="SCORES")],
    facts: Annotated[Path | None, typer.Option("--facts", help="A table of more facts, by the same units.")] = None,
    features: Annotated[
        Path | None, typer.Option("--features", help="A model's features of SCORES: .npy, a row for each row there.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Where a page goes.")] = None,
    match: Annotated[
        list[str] | None, typer.Option("--match", help="Pairs alike in FACT:LIMIT (date:270, site); repeat it.")
    ] = None,
    fact: Annotated[
        list[str] | None, typer.Option("--fact", help="A column to take as a fact (default: all); repeat it.")
    ] = None,
    unit: Annotated[str | None, typer.Option("--unit", help="Column that names what is scored.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Column of the true label.")] = None,
    score: Annotated[str | None, typer.Option("--score", help="Column of the score, higher for positive.")] = None,
    fold: Annotated[str | None, typer.Option("--fold", help="Column of the fold that tested a row.")] = None,
    repeat: Annotated[str | None, typer.Option("--repeat", help="Column of the repeat of cross-validation.")] = None,
    group: Annotated[str | None, typer.Option("--group", help="Column of who units belong to (a patient).")] = None,
    positive: Annotated[str | None, typer.Option("--positive", help="Which label is the positive one.")] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", help="From which score on a row is called positive.")
    ] = 0.5,
) -> int:
    """Audit any model's scores from a table: figures with intervals, and from what facts the label could be read.

    Needs no workspace, no pictures and no model. Ends with 6 where a shortcut or a leak is found, so that a script
    can stop on it.

    Example: thermocancer audit scores.csv --facts exams.csv --match date:270
    """
    config, columns = call.load(), {"unit": unit, "label": label, "score": score, "fold": fold, "repeat": repeat}
    limits = _limits(match or [])
    if call.dry_run:
        make_console().print(f"audit: would judge {scores}", markup=False)
        return 0
    from thermocancer.evaluation.audit.held_out import read_features
    from thermocancer.evaluation.audit.of_scores import audit_scores, told
    from thermocancer.evaluation.audit.score_tables import read_scores

    table = read_scores(
        scores, facts, columns=columns | {"group": group}, positive=positive, threshold=threshold, wanted=fact or ()
    )
    evaluate = config.evaluate
    document = audit_scores(
        table, match=limits, confidence=evaluate.confidence, bootstrap=evaluate.bootstrap, seed=config.seed,
        features=None if features is None else read_features(features, table),
    )  # fmt: skip
    if call.speaks:
        for line in told(document):
            make_console().print(line, markup=False, soft_wrap=True)
    if html is not None:
        from thermocancer.evaluation.report.page import GENERAL_NOTICE, render_page
        from thermocancer.files import write_for_user

        write_for_user(html, render_page("scores.html", document | {
            "title": f"Audit of {scores.name}", "notice": GENERAL_NOTICE}, {}))  # fmt: skip
    write_json_report(document, call)
    return int(document["exit_code"])


def _limits(match: list[str]) -> dict[str, float]:
    """Facts to match by, each with how far two of a pair may differ."""
    found = {}
    for text in match:
        name, _, limit = text.rpartition(":") if ":" in text else (text, "", "0")
        try:
            found[name] = float(limit)
        except ValueError:
            hint = "for example --match date:270 --match site"
            raise ConfigError(
                "no limit can be read here", where="--match", expected="FACT:NUMBER", found=text, hint=hint
            ) from None
    return found


@app.command("predict")
@with_common_options
def predict(
    call: Call,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="What import takes: files, an exam's folder, a folder of many; - reads one matrix.", metavar="INPUT..."
        ),
    ],
    run: Annotated[
        str | None,
        typer.Option("--run", help="Name, or zip, of the run that answers; without it the first INPUT is it."),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Where the page goes.")] = None,
    explain: Annotated[
        bool | None, typer.Option("--explain/--no-explain", help="Draw occlusion maps (by default on the page).")
    ] = None,
    explain_views: Annotated[
        str | None,
        typer.Option("--explain-views", help="Occlusion maps of 'all' views (default), or a finer one of the 'first'."),
    ] = None,
    view: View = None,
    view_map: ViewMap = None,
    unit: Unit = None,
    id_pattern: IdPattern = None,
    protocol: Protocol = None,
    visit: Visit = None,
) -> int:
    """Score new exams with a trained run: quality, score, doubt, heat map. Never a diagnosis.

    Files are read as import reads them, and it is said how. With --json the answer is JSON, otherwise a page.

    Example: thermocancer predict new/276_1 --run svm5 -w demo
    """
    page = str(html) if html is not None else "" if call.json_file is not None else None
    if run is None and len(inputs) < 2:
        raise ConfigError("which run should answer?", where="--run", hint="predict PATH --run NAME")
    name, paths = (run, inputs) if run is not None else (inputs[0], inputs[1:])
    with tempfile.TemporaryDirectory() as folder:
        if "-" in paths:
            read = Path(folder) / "stdin.txt"
            read.write_bytes(sys.stdin.buffer.read())
            paths = [str(read) if each == "-" else each for each in paths]
        options: dict[str, object] = {
            "evaluate.exam": list(paths), "evaluate.page": page, "evaluate.explain": explain,
            "evaluate.package" if name.endswith(".zip") else "evaluate.run": name,
            "evaluate.explain_views": explain_views,
            **reading_settings(view, view_map, unit, id_pattern, protocol, visit),
        }  # fmt: skip
        return report_stage("predict", call.load(options), call)


@app.command("locate")
@with_common_options
def locate(
    call: Call,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            help="What import takes, or the name of a run; by default every exam of the data set.", metavar="[INPUT...]"
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Where the page goes.")] = None,
    view: View = None,
    view_map: ViewMap = None,
    unit: Unit = None,
    id_pattern: IdPattern = None,
    visit: Visit = None,
) -> int:
    """Say where a heat source would be, how deep and how sure, or that it cannot be located. Research use only.

    The network learns from phantoms alone, once a workspace; how long that takes is said. With --json the answer is
    JSON, otherwise a page.

    Example: thermocancer locate new/276_1 -w demo
    """
    options: dict[str, object] = {
        "locate.exam": list(inputs or ()), "locate.page": str(html) if html else "" if call.json_file else None,
        **reading_settings(view, view_map, unit, id_pattern, None, visit),
    }  # fmt: skip
    return report_stage("locate", call.load(options), call)


@app.command("reproduce")
@with_common_options
def reproduce(
    call: Call,
    rows: Annotated[str | None, typer.Option("--rows", help="Names such as T3-v1,T7-5; by default all rows.")] = None,
) -> int:
    """Make the original study's result rows again, beside the published figures.

    Example: thermocancer reproduce --rows T3-v1,T7-5 -w study
    """
    names = None if rows is None else [name.strip() for name in rows.split(",") if name.strip()]
    return _with_runner("reproduce", call.load({"evaluate.rows": names}), call)


def _with_runner(stage: str, config: Config, call: Call) -> int:
    """A stage that has others run, in whatever workspace it names; they speak on its line."""
    progress = ConsoleProgress(make_console(stderr=call.json_file == "-"), quiet=call.quiet)

    def run_one(name: str, config: Config, workspace: Workspace) -> StageReport:
        return stages.run_stage(name, config, workspace, progress)

    return report_stage(stage, config, call, progress=progress, brought={"runner": run_one})


@app.command("runs")
@with_common_options
def runs(
    call: Call,
    by: Annotated[
        str, typer.Option("--sort", help="What to sort by: made (newest first), auc, name or model.")
    ] = "made",
) -> None:
    """List every run of a workspace with its AUC, its trivial baseline and the verdict's tone.

    Example: thermocancer runs -w demo --sort auc
    """
    from thermocancer.cli.console import show_runs
    from thermocancer.evaluation.between_runs import BY, listed_runs

    if by not in BY:
        raise ConfigError("runs cannot be sorted by this", where="--sort", expected=", ".join(BY), found=by)
    found = listed_runs(Workspace(Path(call.load().workspace)), by)
    if call.speaks:
        show_runs(found, make_console())
    write_json_report({"runs": found}, call)
