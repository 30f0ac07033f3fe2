"""The replica's HTML: the markup that public tools select, in the eras and languages they saw."""

from __future__ import annotations

from html import escape

from dmr_replica_content import DIAGNOSES, Content, Patient, Visit

PORTUGUESE = {
    "User:": "Usuário:", "Password:": "Senha:", "Access": "Acessar", "Next": "Próxima", "Diagnosis*:": "Diagnóstico*:",
    "Healthy": "Saudável", "Sick": "Doente", "Unknown": "Desconhecido", "List of Patients": "Lista de Pacientes",
}  # fmt: skip
NOTICE = "<br />\n<b>Notice</b>:  Undefined index: HTTP_ACCEPT_LANGUAGE in <b>lang.php</b> on line <b>3</b><br />\n"
HEADER = ("ID", "Records", "Name", "Age", "Exams", "Diagnosis", "Action")
CODES = {"S": "healthy", "D": "sick"}


def page(body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html><head><meta http-equiv="X-UA-Compatible" content="IE=edge"><title>DMR</title></head>'
        f'<body><div class="clearfix"></div>{body}</body></html>'
    )


def login_page(*, alert: bool = False) -> str:
    box = '<div class="alert alert-warning">User or password invalid</div>' if alert else ""
    return page(
        f'{box}<form action="login.php" method="post">'
        '<label>User:</label><input type="text" name="usuario" id="usuario">'
        '<label>Password:</label><input type="password" name="password" id="password">'
        '<button type="submit">Access</button></form><a href="register.php">Create account</a>'
    )


def alert_page() -> str:
    """A refusal without the form: the warning box alone."""
    return page('<div class="alert alert-warning">User or password invalid</div><a href="index.php">Back</a>')


def home_page() -> str:
    return page('<ul><li><a href="index.php?filtro=0&diag=&order=1">List of Patients</a></li></ul>')


def list_page(content: Content, diagnosis: str, number: int, rows_a_page: int | None, next_tag: str) -> str:
    """One page of the list; ``rows_a_page`` None is a single page without a pager."""
    rows = [
        (patient.number, row)
        for patient in content.patients.values()
        for row in patient.rows
        if diagnosis == "" or CODES.get(diagnosis) == row
    ]
    pages = 1 if rows_a_page is None else max(1, -(-len(rows) // rows_a_page))
    shown = rows if rows_a_page is None else rows[(number - 1) * rows_a_page : number * rows_a_page]
    cells = "".join(
        f"<tr><td>{patient}</td><td>77{patient:03d}</td><td>PRIVATE</td><td>{40 + patient % 40}</td>"
        f'<td>Thermography</td><td>{DIAGNOSES[row]}</td><td><a href="details.php?id={patient}">details</a></td></tr>'
        for patient, row in shown
    )
    header = "".join(f"<th>{name}</th>" for name in HEADER)
    table = f'<table id="mytable" class="bordered"><tr>{header}</tr>{cells}</table>'
    return page(table + (_pager(pages, number, diagnosis, next_tag) if pages > 1 else ""))


def _pager(pages: int, number: int, diagnosis: str, next_tag: str) -> str:
    def link(text: str, target: int) -> str:
        return f'<li><a href="index.php?filtro=0&diag={diagnosis}&order=1&by=1&pagina={target}">{text}</a></li>'

    items = [f"<li><span>{k}</span></li>" if k == number else link(str(k), k) for k in range(1, pages + 1)]
    if number < pages:
        items.append(link("Next", number + 1) if next_tag == "a" else '<li><span onclick="next()">Next</span></li>')
    return f'<div class="pagination pagination-centered"><ul>{"".join(items)}</ul></div>'


def details_page(content: Content, patient: Patient, block_class: str, heading: str) -> str:
    """A patient; ``block_class`` is the era: patient_images, imagenspaciente, both, or empty (neither)."""
    sections = "".join(_visit(patient, visit, k, block_class, heading) for k, visit in enumerate(patient.visits))
    if patient.other_exam:
        sections += _mammography(patient)
    later = [number for number in content.patients if number > patient.number]
    carousel = f'<a class="right carousel-control" href="details.php?id={min(later)}">&rsaquo;</a>' if later else ""
    return page(_profile(patient) + sections + carousel)


def _profile(patient: Patient) -> str:
    return (
        '<div class="perfiluser"><div class="descripcion1">'
        f'<p class="titulo2">ID: {patient.number}</p><p class="prontuario">Record: Voluntària</p>'
        f"<p>PRIVATE, {40 + patient.number % 40} years old</p><p>Registered at 2012-10-08 (y-m-d)</p>"
        "<p>Marital status: Single. Race: White</p></div></div>"
    )


def _visit(patient: Patient, visit: Visit, number: int, block_class: str, heading: str) -> str:
    classes = "patient_images imagenspaciente" if block_class == "both" else block_class
    pictures = "".join(
        f'<div class="imagem"><a class="figura" title="{escape(link.title)}" href="{picture}"></a><div class="botoes">'
        f'<a class="figura" title="Maximizar" href="{picture}"></a><a href="#"></a><a href="{picture}"></a></div></div>'
        for link in visit.links
        for picture in [escape(f"../bancovl/{patient.number:04d}/{link.text.rsplit('.', 1)[0]}.jpg")]
    )
    matrices = "".join(
        f'<li><a title="{escape(link.title)}" href="{escape(link.href)}">{escape(link.text)}</a></li>'
        for link in visit.links
    )
    blocks = f'<div class="{classes}">{pictures}</div>' if visit.has_pictures else ""
    if visit.has_matrices:
        blocks += f'<h4>{heading}</h4><div class="{classes}"><ul>{matrices}</ul></div>'
    return (
        f'<section class="toggle" id="exame-termico{number}"><label for="q2">{escape(visit.heading)}</label>'
        f'<div class="detalhecurso"><div class="visitauser">{_history(visit)}</div></div>{blocks}</section>'
    )


def _history(visit: Visit) -> str:
    return (
        f'<p class="view-diagnostico">Diagnosis*: <span>{DIAGNOSES[visit.label]}</span></p>'
        '<div class="descripcion1"><p class="titulo">Personal history</p>'
        f"<p>- Complaints: {escape(visit.complaint)}</p><p>- Symptoms: -</p><p>- Menarche: 12</p></div>"
        '<div class="descripcion2"><p class="titulo">Medical history</p><p><span>Mammography?</span> Sim</p>'
        "<span>Radiotherapy?</span> N?o<p>- Biopsy? Faz 10 anos</p></div>"
        '<div class="descripcion3"><p class="titulo">Protocol recommendations</p><p>Body temperature: 36.50</p>'
        "<p>Two hours ago patient:</p><p>- Smoked? No</p></div>"
    )


def _mammography(patient: Patient) -> str:
    name = f"M{patient.number:04d}.LEFT_MLO.2017-05-04.00.png"
    return (
        '<section class="toggle" id="exame-mamografia0"><label for="q2">Visit 1: May 4th, 2017</label>'
        f'<div><ul><li><a href="../bancovl/{patient.number:04d}/{name}">{name}</a></li></ul></div></section>'
    )


def translated(html: str) -> str:
    for english, portuguese in PORTUGUESE.items():
        html = html.replace(english, portuguese)
    return html
