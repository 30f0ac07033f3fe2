"""Reading the site's pages: both eras, two languages, broken markup."""

from __future__ import annotations

import pytest
from bs4 import BeautifulSoup
from dmr_replica_content import fixtures
from dmr_replica_pages import NOTICE, details_page, list_page, login_page, page, translated

from thermocancer.dmr.address import SiteAddress
from thermocancer.dmr.pages import has_login_form, label_of, parse_date, parse_list, parse_patient
from thermocancer.errors import RemoteError


def soup(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "lxml")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Diagnosis*: Healthy", "healthy"),
        ("Diagnosis*:  SICK.", "sick"),
        ("Sealthy", "healthy"),
        ("Diagnóstico*: Saudável", "healthy"),
        ("Diagnóstico: Doente", "sick"),
        ("Diagnosis*: Unknown", "unknown"),
        ("Diagnosis*: not sick", "unknown"),
        ("Diagnosis*:", "unknown"),
        ("", "unknown"),
    ],
)
def test_label(text: str, label: str) -> None:
    assert label_of(text) == label


@pytest.mark.parametrize(
    ("heading", "date"),
    [
        ("Visit 1: March 13th, 2015", "2015-03-13"),
        ("Visit 1: October 1st, 2012", "2012-10-01"),
        ("Visit 2: June 22nd, 2013", "2013-06-22"),
        ("Visit 1: June 3rd, 2014", "2014-06-03"),
        ("Visit 1: Mar 3 2014", "2014-03-03"),
        ("Visita 1: 13 de março de 2015", "2015-03-13"),
        ("Visit 1: 2015-03-13", "2015-03-13"),
        ("Visit 1: February 30th, 2015", None),
        ("Visit 1: Smarch 3rd, 2015", None),
        ("Visit 1: date not informed", None),
        ("", None),
    ],
)
def test_visit_date(heading: str, date: str | None) -> None:
    assert parse_date(heading) == date


def test_list_rows_are_ids_once_each() -> None:
    found = parse_list(soup(list_page(fixtures(), "", 1, None, "a")), "here")
    assert found.patients == tuple(fixtures().patients)
    assert (found.last_page, found.has_next) == (1, False)


@pytest.mark.parametrize("next_tag", ["a", "span"])
def test_pager(next_tag: str) -> None:
    first = parse_list(soup(list_page(fixtures(), "", 1, 8, next_tag)), "here")
    assert (first.last_page, first.has_next) == (3, True)
    last = parse_list(soup(list_page(fixtures(), "", 3, 8, next_tag)), "here")
    assert (last.last_page, last.has_next) == (3, False)


def test_a_dead_next_and_an_ellipsis() -> None:
    pager = (
        '<table id="mytable"><tr><td>5</td></tr></table><div class="pagination"><ul><li><a href="?pagina=1">1</a></li>'
        '<li><span>...</span></li><li><a href="?filtro=0&pagina=11">last</a></li>'
        '<li class="disabled"><span>Next</span></li></ul></div>'
    )
    found = parse_list(soup(pager), "here")
    assert (found.patients, found.last_page, found.has_next) == ((5,), 11, False)


def test_a_row_without_a_number_is_read_by_its_link() -> None:
    table = (
        '<table><tr><td>n/a</td><td><a href="details.php?lang=en&id=77">x</a></td></tr><tr><td>none</td></tr></table>'
    )
    assert parse_list(soup(table), "here").patients == (77,)


def test_a_list_without_a_table_is_an_error() -> None:
    with pytest.raises(RemoteError, match="no table"):
        parse_list(soup(page("<p>maintenance</p>")), "here")


@pytest.mark.parametrize("block_class", ["patient_images", "imagenspaciente", "both", ""])
@pytest.mark.parametrize("heading", ["Thermal matrices", "MATRIZES"])
@pytest.mark.parametrize("dress", [str, translated, lambda html: NOTICE + html])
def test_every_era_gives_the_same_links(block_class: str, heading: str, dress: type) -> None:
    content = fixtures()
    found = parse_patient(soup(dress(details_page(content, content.patients[3], block_class, heading))))
    assert found.patient == 3
    assert [visit.label for visit in found.visits] == ["sick"]
    links = [link.href for link in found.visits[0].links]
    assert links == [link.href for link in content.patients[3].visits[0].links]


def test_sections_of_other_exams_and_pictures_are_no_visits() -> None:
    content = fixtures()
    eleven = parse_patient(soup(details_page(content, content.patients[11], "both", "Thermal matrices")))
    assert len(eleven.visits) == 1
    eight = parse_patient(soup(details_page(content, content.patients[8], "both", "Thermal matrices")))
    assert [visit.links for visit in eight.visits] == [()]
    assert parse_patient(soup(page(""))).visits == ()


def test_pictures_under_a_thermal_heading_are_not_taken_for_matrices() -> None:
    section = (
        '<section id="exame-termico1"><h4>Thermal images</h4><div><div class="imagem"><a href="../bancovl/a.jpg"></a>'
        '</div></div><h4>Thermal matrices</h4><div><ul><li><a href="../bancovl/a.txt">a.txt</a></li>'
        '<li><a href="">b.txt</a></li><li><a href="../bancovl/c.zip">c.zip</a></li></ul></div></section>'
    )
    (visit,) = parse_patient(soup(section)).visits
    assert [(link.href, link.text) for link in visit.links] == [
        ("../bancovl/a.txt", "a.txt"),
        ("", "b.txt"),
        ("../bancovl/c.zip", "c.zip"),
    ]


@pytest.mark.parametrize("charset", ["; charset=ISO-8859-1", ""])
def test_accents_survive_whatever_the_charset_header(charset: str) -> None:
    import mechanicalsoup
    import requests

    content = fixtures()
    html = details_page(content, content.patients[14], "both", "Thermal matrices")
    response = requests.Response()
    response._content, response.headers["Content-Type"] = html.encode("latin-1"), f"text/html{charset}"
    mechanicalsoup.Browser.add_soup(response, {"features": "lxml"})
    blocks = dict(parse_patient(response.soup).visits[0].entries)
    assert dict(blocks["Personal history"])["Complaints"] == "Nódulo :: dor"


def test_two_diagnoses_in_one_section_are_no_diagnosis() -> None:
    section = (
        '<section id="exame-termico1"><p class="view-diagnostico">Diagnosis: Sick</p>'
        '<p class="view-diagnostico">Diagnosis: Healthy</p></section>'
    )
    (visit,) = parse_patient(soup(section)).visits
    assert (visit.label, visit.diagnosis) == ("unknown", "Sick / Healthy")


def test_login_form_is_known_in_any_language_and_a_list_is_none() -> None:
    assert has_login_form(soup(login_page()))
    assert has_login_form(soup(translated(login_page())))
    assert not has_login_form(soup(list_page(fixtures(), "", 1, None, "a")))


@pytest.mark.parametrize(
    ("path", "is_login"),
    [("", True), ("index.php", True), ("login.php", True), ("prontuario/index.php?pagina=1", False),
     ("prontuario/home.php", False)],
)  # fmt: skip
def test_the_patient_list_is_not_mistaken_for_the_home_page(path: str, is_login: bool) -> None:
    address = SiteAddress.parse("https://127.0.0.1/dmi")
    assert address.is_login_page(address.base + path) is is_login
