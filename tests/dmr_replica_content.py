"""What the replica of the DMR-IR site holds, and what a perfect client ends with.

``fixtures`` is the collection of hard cases that the real site is known or feared to hold;
``cohort`` a plain collection of any size, for demonstrations and for measuring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from dmr_replica_matrices import matrix_text

from thermocancer.data.names import ThermogramName

TITLES = {1: "Frontal", 2: "Right 45°", 3: "Right 90°", 4: "Left 45°", 5: "Left 90°", 6: "Other"}
DIAGNOSES = {"healthy": "Healthy", "sick": "Sick", "unknown": "Unknown"}
Body = Callable[[], bytes]


@dataclass
class Link:
    """One link of a matrix block, exactly as it will stand in the page."""

    href: str
    text: str
    title: str = "Static - Frontal"


@dataclass
class Visit:
    heading: str
    label: str
    links: list[Link] = field(default_factory=list)
    has_pictures: bool = True
    has_matrices: bool = True
    complaint: str = "Nódulo :: dor"


@dataclass
class Patient:
    """``rows`` are the diagnoses of this patient's rows in the list."""

    number: int
    rows: tuple[str, ...]
    visits: list[Visit] = field(default_factory=list)
    other_exam: bool = False
    extra_section: str = ""
    latin1: bool = False


@dataclass
class Content:
    """The site and the answer key.

    ``files`` maps a path below the base (``bancovl/0001/...``) to the bodies of successive requests (the
    last one repeats); a path that is not there is a 404. ``tree`` is what ``raw/`` must hold, ``problems``
    what must be listed: (status, patient, file name or link) -> a part of the reason.
    """

    shape: tuple[int, int]
    patients: dict[int, Patient] = field(default_factory=dict)
    files: dict[str, list[Body]] = field(default_factory=dict)
    tree: dict[str, Body] = field(default_factory=dict)
    problems: dict[tuple[str, int, str], str] = field(default_factory=dict)
    salt: int = 0

    def patient(self, number: int, *rows: str) -> Patient:
        self.patients[number] = Patient(number, rows)
        return self.patients[number]

    def visit(self, patient: Patient, label: str, date_text: str, **more: bool) -> Visit:
        visit = Visit(f"Visit {len(patient.visits) + 1}: {date_text}", label, **more)
        patient.visits.append(visit)
        return visit

    def body(self, name: ThermogramName, label: str, layout: str = "space2") -> Body:
        return lambda: matrix_text(name, label, self.shape, layout, self.salt)

    def add(self, visit: Visit, name: ThermogramName, *, first: Body | None = None, body: Body | None = None) -> str:
        """A good file: on the page, on the server and in the answer key. ``first`` is a bad body served once."""
        body = body or self.body(name, visit.label)
        path = f"bancovl/{name.patient:04d}/{name.file_name}"
        self.files[path] = [*([first] if first else []), body]
        self.link(visit, name)
        if visit.label == "unknown":
            self.problems["unlabelled", name.patient, name.file_name] = "neither healthy nor sick"
        else:
            self.tree[name.tree_path(visit.label)] = body
        return path

    def add_bad(self, visit: Visit, name: ThermogramName, status: str, reason: str, body: Body | None = None) -> None:
        """A file that never comes whole; without a body it is a 404."""
        if body is not None:
            self.files[f"bancovl/{name.patient:04d}/{name.file_name}"] = [body]
        self.link(visit, name)
        key = name.file_name if status in ("failed", "missing") else f"bancovl/{name.patient:04d}/{name.file_name}"
        self.problems[status, name.patient, key] = reason

    def link(self, visit: Visit, name: ThermogramName) -> Link:
        protocol = "Static" if name.protocol == "S" else "Dinamic"
        title = f"{protocol} - {TITLES.get(name.view_code, 'Other')}"
        link = Link(f"../bancovl/{name.patient:04d}/{name.file_name}", name.file_name, title)
        visit.links.append(link)
        return link

    def refuse(self, patient: int, visit: Visit, href: str, text: str, reason: str, kept: str | None = None) -> None:
        visit.links.append(Link(href, text))
        self.problems["refused", patient, href.strip() if kept is None else kept] = reason


def static(
    patient: int, view: int, date: str, *, visit: int = 1, index: int = 0, protocol: str = "S"
) -> ThermogramName:
    return ThermogramName(patient, visit, view, protocol, date, index)


def dynamic(patient: int, index: int, date: str, *, view: int = 1) -> ThermogramName:
    return ThermogramName(patient, 1, view, "D", date, index)


def fixtures(shape: tuple[int, int] = (48, 64)) -> Content:
    """The hard cases, one a patient; 13 holds the hostile links."""
    content = Content(shape)
    for add in (_visits_and_labels, _full_and_holed, _dynamic, _layouts, _corrupt, _pages, _names, _hostile, _second):
        add(content)
    return content


def _visits_and_labels(content: Content) -> None:
    one = content.patient(1, "unknown", "healthy")
    first = content.visit(one, "healthy", "October 1st, 2012")
    second = content.visit(one, "unknown", "June 22nd, 2013")
    for view in range(1, 6):
        content.add(first, static(1, view, "2012-10-01"))
    content.add(second, static(1, 1, "2013-06-22", visit=2))


def _full_and_holed(content: Content) -> None:
    two = content.patient(2, "healthy")
    visit = content.visit(two, "healthy", "March 13th, 2013")
    for view in range(1, 6):
        content.add(visit, static(2, view, "2013-03-13"))
    for index in range(20):
        content.add(visit, dynamic(2, index, "2013-03-13"))
    content.add(visit, dynamic(2, 20, "2013-03-13", view=3))
    content.add(visit, dynamic(2, 21, "2013-03-13", view=5))
    three = content.patient(3, "sick")
    visit = content.visit(three, "sick", "May 2nd, 2013")
    for view in (1, 2, 3, 4):
        content.add(visit, static(3, view, "2013-05-02"))
    content.refuse(3, visit, "", "T0003.1.5.S.2013-05-02.00.txt", "empty")
    content.add_bad(visit, dynamic(3, 0, "2013-05-02"), "missing", "404")


def _dynamic(content: Content) -> None:
    four = content.patient(4, "sick")
    visit = content.visit(four, "sick", "August 3rd, 2013")
    for index in range(20):
        if index == 7:
            continue
        name = dynamic(4, index, "2013-08-03")
        if index == 12:
            content.add_bad(
                visit, name, "failed", "another shape", _truncated(content.body(name, "sick"), content.shape)
            )
        else:
            content.add(visit, name)


def _truncated(whole: Body, shape: tuple[int, int]) -> Body:
    """Five lines of six: 400 of 480."""
    return lambda: b"".join(whole().splitlines(keepends=True)[: shape[0] * 5 // 6])


def _layouts(content: Content) -> None:
    five = content.patient(5, "sick")
    visit = content.visit(five, "sick", "November 4th, 2015")
    name = static(5, 1, "2015-11-04")
    content.add(visit, name, body=content.body(name, "sick", "semicolon5"))
    crlf, trailing = static(5, 2, "2015-11-04"), static(5, 3, "2015-11-04")
    content.add(visit, crlf, body=lambda: content.body(crlf, "sick")().replace(b"\n", b"\r\n"))
    content.add(visit, trailing, body=lambda: content.body(trailing, "sick", "semicolon2")().replace(b"\n", b";\n"))


def _corrupt(content: Content) -> None:
    six = content.patient(6, "healthy")
    visit = content.visit(six, "healthy", "January 9th, 2014")
    page = b"<!DOCTYPE html><html><body><h1>Error</h1><p>Try later.</p></body></html>"
    content.add_bad(visit, static(6, 1, "2014-01-09"), "failed", "empty", lambda: b"")
    content.add_bad(visit, static(6, 2, "2014-01-09"), "failed", "HTML page", lambda: page)
    content.add(visit, static(6, 3, "2014-01-09"), first=lambda: b"")
    content.add(visit, static(6, 4, "2014-01-09"), first=lambda: page)


def _pages(content: Content) -> None:
    content.patient(7, "healthy")
    eight = content.patient(8, "sick")
    content.visit(eight, "sick", "July 7th, 2014", has_matrices=False)
    nine = content.patient(9, "healthy")
    visit = content.visit(nine, "healthy", "date not informed")
    content.add(visit, static(9, 1, "2014-02-20"))
    visit = content.visit(nine, "healthy", "December 31st, 2016")
    content.add(visit, static(9, 1, "2017-01-02", visit=2))
    latin = content.patient(14, "healthy")
    latin.latin1 = True
    content.add(content.visit(latin, "healthy", "April 5th, 2014"), static(14, 1, "2014-04-05"))


def _names(content: Content) -> None:
    ten = content.patient(10, "healthy")
    visit = content.visit(ten, "healthy", "March 3rd, 2014")
    content.add(visit, static(10, 1, "2014-03-03"))
    content.link(visit, static(10, 1, "2014-03-03"))
    content.add(visit, static(10, 1, "2014-03-03", index=1))
    eleven = content.patient(11, "sick")
    eleven.other_exam = True
    visit = content.visit(eleven, "sick", "May 5th, 2017")
    content.add(visit, static(11, 1, "2017-05-05"))
    content.add_bad(visit, static(11, 1, "2017-05-05", protocol="L"), "refused", "protocol L")
    content.add_bad(visit, static(11, 6, "2017-05-05"), "refused", "view 6")
    picture = "../bancovl/0011/M0011.LEFT_MLO.2017-05-05.00.png"
    content.refuse(11, visit, picture, "M0011.LEFT_MLO.2017-05-05.00.png", "does not end in a matrix")
    twelve = content.patient(12, "healthy")
    visit = content.visit(twelve, "healthy", "June 6th, 2014")
    for view, dress in ((1, "\n   {}\n "), (2, "'{}'"), (3, " {} ")):
        name = static(12, view, "2014-06-06")
        content.add(visit, name)
        visit.links[-1].href = dress.format(visit.links[-1].href)
    shouting = static(12, 4, "2014-06-06")
    path = content.add(visit, shouting)
    content.files[path.replace(".txt", ".TXT")] = content.files.pop(path)
    visit.links[-1].href = visit.links[-1].href.replace(".txt", ".TXT")
    visit.links[-1].text = visit.links[-1].text.replace(".txt", ".TXT")


def _hostile(content: Content) -> None:
    visit = content.visit(content.patient(13, "healthy"), "healthy", "June 11th, 2014")
    content.add(visit, static(13, 1, "2014-06-11"))
    name = "T0013.1.2.S.2014-06-11.00.txt"
    content.refuse(13, visit, "../bancovl/0013/../../x.txt", "../../x.txt", "climbs out")
    content.refuse(13, visit, "../../x.txt", "../../x.txt", "climbs out")
    content.refuse(13, visit, f"../bancovl/0013/..%2f..%2f..%2f{name}", name, "climbs out")
    content.refuse(13, visit, f"http://198.51.100.7/dmi/bancovl/0013/{name}", name, "leaves the site")
    content.refuse(13, visit, f"//evil.invalid/{name}", name, "leaves the site")
    content.refuse(13, visit, f"../bancovl/0013/{name}", "T0013.1.3.S.2014-06-11.00.txt", "text names another",
                   f"bancovl/0013/{name}")  # fmt: skip
    other = "T0099.1.2.S.2014-06-11.00.txt"
    content.refuse(13, visit, f"../bancovl/0099/{other}", other, "patient 99", f"bancovl/0099/{other}")
    content.files[f"bancovl/0013/{name}"] = [content.body(static(13, 2, "2014-06-11"), "healthy")]
    content.files["x.txt"] = [content.body(static(13, 2, "2014-06-11"), "healthy")]


def _second(content: Content) -> None:
    both = content.patient(137, "healthy", "sick")
    for number, (label, date_text, date) in enumerate(
        [("healthy", "September 6th, 2013", "2013-09-06"), ("sick", "November 11th, 2014", "2014-11-11")], 1
    ):
        visit = content.visit(both, label, date_text)
        for view in (1, 2):
            content.add(visit, static(137, view, date, visit=number))
    visit = content.visit(content.patient(138, "healthy"), "healthy", "September 6th, 2013")
    content.add(visit, static(138, 3, "2013-09-06", visit=2))
    last = content.patient(425, "sick")
    content.add(content.visit(last, "sick", "November 13th, 2019"), static(425, 1, "2019-11-13"))


def cohort(
    patients: int, shape: tuple[int, int] = (480, 640), *, seed: int = 0, dynamic_exams: bool = True, variety: int = 0
) -> Content:
    """``patients`` plain patients, four in ten sick, 27 files each (five without dynamic exams).

    With ``variety`` only so many different matrices are made and shared by all files: for measuring.
    """
    content = Content(shape, salt=seed)
    rng = np.random.default_rng([seed, patients])
    sick = set((rng.permutation(patients)[: round(0.4 * patients)] + 1).tolist())
    for number in range(1, patients + 1):
        label = "sick" if number in sick else "healthy"
        day = 1 + int(rng.integers(28))
        year = 2012 + int(rng.integers(8))
        date = f"{year}-03-{day:02d}"
        visit = content.visit(content.patient(number, label), label, f"March {day}th, {year}")
        names = [static(number, view, date) for view in range(1, 6)]
        if dynamic_exams:
            names += [dynamic(number, index, date) for index in range(20)]
            names += [dynamic(number, 20, date, view=3), dynamic(number, 21, date, view=5)]
        for place, name in enumerate(names):
            shared = static(1 + (number * 27 + place) % variety, 1, "2012-03-01") if variety else name
            content.add(visit, name, body=content.body(shared, label))
    return content
