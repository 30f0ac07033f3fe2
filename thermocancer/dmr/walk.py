"""The first half of a fetch: read the site's pages and decide about every link, fetching no file."""

from __future__ import annotations

from dataclasses import dataclass, field

from thermocancer.dmr.clinical import PatientLine, patient_line
from thermocancer.dmr.mirror import Mirror
from thermocancer.dmr.pages import PatientPage
from thermocancer.dmr.plan import PageDecisions, Step, decide_page, judge_page, page_fingerprint, vanished_patients
from thermocancer.dmr.session import PageFailed, Site
from thermocancer.dmr.transport import RequestCapReached
from thermocancer.errors import RemoteError
from thermocancer.outcome import Failure
from thermocancer.progress import Progress

SILENT_PAGES = 3
"""So many patient pages failing one after the other means the site, not the patient."""


@dataclass
class Survey:
    """What the pages said. ``next_patient`` is where the next run should begin, if this one ended early."""

    pages: list[PageDecisions] = field(default_factory=list)
    gone: PageDecisions = field(default_factory=PageDecisions)
    clinical: list[PatientLine] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    patients: int = 0
    without_exam: int = 0
    next_patient: int | None = None

    @property
    def kept(self) -> int:
        return sum(page.kept for page in self.pages)

    @property
    def downloads(self) -> int:
        """Files that will come over the wire; a conditional request of an unchanged file brings none."""
        return sum(not step.validators for step in self.steps)

    @property
    def moves(self) -> int:
        return sum(len(page.relabel) + len(page.take_out) for page in self.pages)


def survey_site(site: Site, mirror: Mirror, progress: Progress, *, today: str, first: int | None = None) -> Survey:
    """Read every page that is wanted, beginning with patient ``first``; stop early at a limit or the cap.

    ``today`` is noted in the clinical lines; nothing on disk is touched. Raises RemoteError when the
    lists, or several pages in a row, cannot be read.
    """
    settings, survey = site.settings, Survey()
    failed_in_a_row = 0
    # of a patient who was asked for by number and never seen, an empty page may be all there is
    expected = {record.patient for record in mirror.records.values()}
    try:
        patients = sorted(set(settings.patients)) or _listed_patients(site, mirror, survey, first)
        following = dict(zip(patients, [*patients[1:], None], strict=True))
        survey.next_patient = patients[0]
        with progress.task("reading patients' pages", len(patients), "patients") as task:
            for patient in patients:
                files_left = False
                try:
                    page = site.patient(patient)
                    if page.is_blank and (patient in expected or not settings.patients):
                        raise PageFailed("the page says nothing of the patient", where=site.address.patient(patient))
                except PageFailed as error:
                    failed_in_a_row += 1
                    if failed_in_a_row == SILENT_PAGES:
                        raise RemoteError(
                            f"{SILENT_PAGES} patient pages in a row could not be read",
                            where=error.where,
                            found=error.found or error.what,
                            hint="the same command goes on where this one stopped",
                        ) from None
                    survey.failures.append(Failure(f"patient {patient}", error.found or error.what))
                else:
                    failed_in_a_row = 0
                    files_left = _decide(survey, site, mirror, patient, page, today)
                survey.patients += 1
                survey.next_patient = patient if files_left else following[patient]
                task.advance()
                task.say(f"{survey.downloads} files to fetch")
                if survey.next_patient is None:
                    continue
                if settings.limit is not None and survey.downloads >= settings.limit:
                    survey.notes.append(f"the limit of {settings.limit} files was reached; the next run goes on")
                    break
                if site.meter.left() <= len(survey.steps):
                    raise RequestCapReached
    except RequestCapReached:
        survey.notes.append(f"the cap of {settings.max_requests} requests was reached; the next run goes on")
    return survey


def _listed_patients(site: Site, mirror: Mirror, survey: Survey, first: int | None) -> list[int]:
    """Every patient of the lists, once, beginning where a capped run stopped, so that all have their turn.

    Of both diagnoses the two lists are read and then everyone's, where a patient with neither shows up too.
    """
    survey.next_patient = first
    wanted = tuple(dict.fromkeys(site.settings.diagnoses))
    lists = wanted if len(wanted) == 1 else (*wanted, "all")
    pages = [page for name in lists for page in site.patients_listed(name)]
    patients = sorted({patient for page in pages for patient in page.patients})
    for link in dict.fromkeys(link for page in pages for link in page.not_understood):
        survey.failures.append(Failure(f"the patient list's link {link[:80]!r}", "the number is not that of a patient"))
    if not patients:
        raise RemoteError(
            "the site lists no patient at all" + (", though some are here already" if mirror.records else ""),
            where=site.address.base,
            hint="look at the site in a browser; nothing here was changed",
        )
    if "all" in lists:
        survey.gone = vanished_patients(mirror, patients)
    return sorted(patients, key=lambda each: (first is not None and each < first, each))


def _decide(survey: Survey, site: Site, mirror: Mirror, patient: int, page: PatientPage, today: str) -> bool:
    """Decide about a page's links; returns whether the limit left some of its files for the next run."""
    settings = site.settings
    offers = judge_page(page, patient, site.address.patient(patient), site.address)
    decisions = decide_page(patient, offers, page_fingerprint(page), mirror, settings)
    survey.pages.append(decisions)
    if page.visits:
        survey.clinical.append(patient_line(patient, page, today))
    else:
        survey.without_exam += 1
    room = len(decisions.steps) if settings.limit is None else settings.limit - survey.downloads
    beyond = [step for step in decisions.steps if not step.validators][room:]
    survey.steps += [step for step in decisions.steps if step not in beyond]
    return bool(beyond)
