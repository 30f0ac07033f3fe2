"""The first half of a fetch: read the site's pages and decide about every link, fetching no file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from thermocancer.config.sources import FetchSection
from thermocancer.dmr.mirror import Mirror
from thermocancer.dmr.mirroring import PageDecisions, Step, decide_page, vanished_patients
from thermocancer.dmr.pages import PatientPage
from thermocancer.dmr.plan import Filters, judge_page, page_fingerprint
from thermocancer.dmr.records import patient_record
from thermocancer.dmr.session import PageFailed, Site
from thermocancer.dmr.transport import RequestCapReached
from thermocancer.dmr.walk import listed_patients, lists_to_walk, patient_pages, starting_at
from thermocancer.errors import RemoteError
from thermocancer.outcome import Failure
from thermocancer.progress import Progress


@dataclass
class Survey:
    """What the pages said. ``next_patient`` is where the next run should begin, if this one ended early."""

    pages: list[PageDecisions] = field(default_factory=list)
    gone: list[PageDecisions] = field(default_factory=list)
    clinical: list[dict[str, Any]] = field(default_factory=list)
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


@dataclass(frozen=True)
class Surveyor:
    """Walks lists and pages. ``today`` is noted in the clinical lines; touches nothing on disk."""

    section: FetchSection
    site: Site
    mirror: Mirror
    today: str

    def walk(self, progress: Progress, first: int | None = None) -> Survey:
        """Read every page that is wanted, beginning with patient ``first``; stop early at a limit or the cap.

        Raises RemoteError when the lists, or several pages in a row, cannot be read.
        """
        survey = Survey()
        try:
            patients = sorted(set(self.section.patients)) or self._listed(survey, first)
            self._read_pages(patients, survey, progress)
        except RequestCapReached:
            survey.notes.append(f"the cap of {self.section.max_requests} requests was reached; the next run goes on")
        return survey

    def _listed(self, survey: Survey, first: int | None) -> list[int]:
        lists = lists_to_walk(self.section.diagnoses)
        survey.next_patient = first
        patients = listed_patients(self.site, lists)
        if not patients and self.mirror.records:
            raise RemoteError(
                "the site lists no patient at all, though some are here already",
                where=self.site.address.base,
                hint="look at the site in a browser; nothing here was changed",
            )
        if "all" in lists:
            survey.gone = vanished_patients(self.mirror, patients)
        return starting_at(patients, first)

    def _read_pages(self, patients: list[int], survey: Survey, progress: Progress) -> None:
        following = dict(zip(patients, [*patients[1:], None], strict=True))
        survey.next_patient = patients[0] if patients else None
        with progress.task("reading patients' pages", len(patients), "patients") as task:
            for patient, page in patient_pages(self.site, patients):
                files_left = False
                if isinstance(page, PageFailed):
                    survey.failures.append(Failure(f"patient {patient}", page.found or page.what))
                else:
                    files_left = self._decide(patient, page, survey)
                survey.patients += 1
                survey.next_patient = patient if files_left else following[patient]
                task.advance()
                task.say(f"{survey.downloads} files to fetch")
                if survey.next_patient is not None and self._is_enough(survey):
                    return

    def _decide(self, patient: int, page: PatientPage, survey: Survey) -> bool:
        """Decide about a page's links; returns whether the limit left some of its files for the next run."""
        filters = Filters(self.section.protocols, self.section.views, self.section.diagnoses, self.section.since)
        address = self.site.address
        offers = judge_page(page, patient, address.patient(patient), address)
        decisions = decide_page(patient, offers, page_fingerprint(page), self.mirror, filters, self.section.recheck)
        survey.pages.append(decisions)
        if page.visits:
            survey.clinical.append(patient_record(patient, page, self.today))
        else:
            survey.without_exam += 1
        room = len(decisions.steps) if self.section.limit is None else self.section.limit - survey.downloads
        downloads = [step for step in decisions.steps if not step.validators]
        beyond = downloads[room:]
        survey.steps += [step for step in decisions.steps if step not in beyond]
        return bool(beyond)

    def _is_enough(self, survey: Survey) -> bool:
        if self.section.limit is not None and survey.downloads >= self.section.limit:
            survey.notes.append(f"the limit of {self.section.limit} files was reached; the next run goes on")
            return True
        if self.site.meter.left() <= len(survey.steps):
            raise RequestCapReached
        return False
