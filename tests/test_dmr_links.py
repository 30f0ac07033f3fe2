"""Which links are followed: by where they lead and what they name, never by their place."""

from __future__ import annotations

import pytest

from thermocancer.dmr.address import SiteAddress, judge_link
from thermocancer.dmr.pages import MatrixLink, PatientPage, Visit
from thermocancer.dmr.plan import Filters, Offer, judge_page
from thermocancer.errors import ConfigError

SITE = SiteAddress.parse("http://127.0.0.1:8425/dmi/")
PAGE = SITE.patient(276)
NAME = "T0276.1.3.S.2015-03-13.00.txt"
GOOD = f"../bancovl/0276/{NAME}"


@pytest.mark.parametrize(
    "href",
    [GOOD, f"\n  {GOOD}\n", f"'{GOOD}'", f'" {GOOD} "', f"/dmi/bancovl/0276/{NAME}", f"{SITE.base}bancovl/0276/{NAME}",
     f"//127.0.0.1:8425/dmi/bancovl/0276/{NAME}"],
)  # fmt: skip
def test_followed(href: str) -> None:
    link = judge_link(href, PAGE, SITE)
    assert (link.url, link.name, link.refusal) == (f"{SITE.base}bancovl/0276/{NAME}", NAME, "")


@pytest.mark.parametrize(
    ("href", "reason"),
    [
        ("", "empty"),
        ("  \n", "empty"),
        ("''", "empty"),
        ("#", "does not end in a matrix"),
        ("javascript:void(0)", "leaves the site"),
        ("data:text/plain,1 2", "leaves the site"),
        ("file:///etc/passwd.txt", "leaves the site"),
        (f"http://198.51.100.7/dmi/bancovl/0276/{NAME}", "leaves the site"),
        (f"http://127.0.0.1:9999/dmi/bancovl/0276/{NAME}", "leaves the site"),
        (f"http://127.0.0.1:8425@198.51.100.7/{NAME}", "leaves the site"),
        (f"//evil.invalid/{NAME}", "leaves the site"),
        (f"http://[::1/{NAME}", "no address"),
        ("../../x.txt", "climbs out"),
        ("../../../x.txt", "climbs out"),
        (f"../bancovl/0276/../../{NAME}", "climbs out"),
        (f"../bancovl/0276/%2e%2e/{NAME}", "climbs out"),
        (f"../bancovl/..%2f..%2f{NAME}", "climbs out"),
        (f"../bancovl/..%252f..%252f{NAME}", "climbs out"),
        (f"../bancovl/..\\..\\{NAME}", "climbs out"),
        (f"/etc/{NAME}", "climbs out"),
        ("../bancovl/0276/T0276.1.3.S.2015-03-13.00.jpg", "does not end in a matrix"),
        (f"../bancovl/0276/show.php?file={NAME}", "does not end in a matrix"),
        ("../bancovl/0276/", "does not end in a matrix"),
    ],
)
def test_refused(href: str, reason: str) -> None:
    link = judge_link(href, PAGE, SITE)
    assert link.url == ""
    assert reason in link.refusal


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("T0276.1.6.S.2015-03-13.00.txt", "view 6"),
        ("T0276.1.3.L.2015-03-13.00.txt", "protocol L"),
        ("T0277.1.3.S.2015-03-13.00.txt", "patient 277"),
        ("T0276.1.3.S.2015-13-13.00.txt", "does not exist"),
        ("notes.txt", "not that of a thermogram"),
    ],
)
def test_names_that_are_not_taken(name: str, reason: str) -> None:
    (offer,) = judged(MatrixLink(f"../bancovl/0276/{name}", name))
    assert reason in offer.refusal


def judged(*links: MatrixLink, label: str = "healthy", date: str | None = None) -> list[Offer]:
    visit = Visit(1, "Visit 1", date, label, label, links, ())
    return judge_page(PatientPage(276, (), (visit,)), 276, PAGE, SITE)


def test_text_and_link_must_agree() -> None:
    (offer,) = judged(MatrixLink(GOOD, "T0276.1.2.S.2015-03-13.00.txt"))
    assert "text names another file" in offer.refusal
    (offer,) = judged(MatrixLink(GOOD, "download"))
    assert offer.refusal == ""


def test_the_same_link_twice_is_one_file_and_another_link_of_that_name_is_refused() -> None:
    elsewhere = MatrixLink(f"../bancovl/backup/{NAME}", NAME)
    offers = judged(MatrixLink(GOOD, NAME), MatrixLink(f" {GOOD}", NAME), elsewhere, elsewhere)
    assert [offer.refusal for offer in offers] == ["", "another link has this name already"]


def test_since_goes_by_the_name_then_by_the_visit() -> None:
    dated, undated = MatrixLink(GOOD, NAME), "T0276.1.1.S.0000-00-00.00.txt"
    offers = judged(dated, MatrixLink(f"../bancovl/0276/{undated}", undated), date="2016-01-01")
    assert [Filters(since="2015-03-13").want(each) for each in offers] == [True, True]
    assert [Filters(since="2015-03-14").want(each) for each in offers] == [False, True]
    (undatable,) = judged(MatrixLink(f"../bancovl/0276/{undated}", undated))
    assert not Filters(since="2000-01-01").want(undatable)
    assert Filters().want(undatable)


@pytest.mark.parametrize("url", ["ftp://host/dmi/", "host/dmi", "http://me:secret@host/dmi/", "http://h/?a=secret", ""])
def test_only_plain_addresses_and_nothing_of_a_bad_one_is_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SiteAddress.parse(url)
    assert "secret" not in str(caught.value)


def test_pages_and_files_may_mix_http_and_https_but_protection_is_not_lost() -> None:
    site = SiteAddress.parse("https://mirror.example/dmi")
    assert site.base == "https://mirror.example/dmi/"
    link = judge_link(f"http://mirror.example/dmi/bancovl/0276/{NAME}", site.patient(276), site)
    assert link.url == f"https://mirror.example/dmi/bancovl/0276/{NAME}"
    assert not site.holds("http://mirror.example/dmi/x")
    assert not site.holds("https://mirror.example:8080/dmi/x")
    assert not site.holds("https://mirror.example:port/dmi/x")
    assert SiteAddress.parse("http://mirror.example/dmi").holds("https://mirror.example/dmi/x")
