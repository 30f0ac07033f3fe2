"""The walk over the site's pages: who is listed, and what each patient's page holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from thermocancer.dmr.pages import PatientPage
from thermocancer.dmr.session import PageFailed, Site
from thermocancer.errors import RemoteError

SILENT_PAGES = 3
"""So many patient pages failing one after the other means the site, not the patient."""


def lists_to_walk(diagnoses: Iterable[str]) -> tuple[str, ...]:
    """Both diagnoses: their two lists, then everyone's, where a patient with neither shows up too."""
    wanted = tuple(dict.fromkeys(diagnoses))
    return (*wanted, "all") if len(wanted) != 1 else wanted


def listed_patients(site: Site, lists: Iterable[str]) -> list[int]:
    """Every patient id of the lists, once, ascending. Raises RemoteError when a list cannot be read."""
    return sorted({patient for name in lists for page in site.patients_listed(name) for patient in page.patients})


def starting_at(patients: list[int], first: int | None) -> list[int]:
    """The same patients, beginning where a capped run stopped, so that every patient has its turn.

    >>> starting_at([1, 2, 3, 4], 3)
    [3, 4, 1, 2]
    """
    if first is None:
        return patients
    return [each for each in patients if each >= first] + [each for each in patients if each < first]


def patient_pages(site: Site, patients: Iterable[int]) -> Iterator[tuple[int, PatientPage | PageFailed]]:
    """Each patient's page, or why it could not be had. Raises RemoteError when the site falls silent."""
    failed_in_a_row = 0
    for patient in patients:
        try:
            yield patient, site.patient(patient)
            failed_in_a_row = 0
        except PageFailed as error:
            failed_in_a_row += 1
            if failed_in_a_row == SILENT_PAGES:
                raise RemoteError(
                    f"{SILENT_PAGES} patient pages in a row could not be read",
                    where=error.where,
                    found=error.found,
                    hint="the same command goes on where this one stopped",
                ) from None
            yield patient, error
