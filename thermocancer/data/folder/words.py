"""The words that people use in names, columns and cells, in several languages, and what they mean.

All are small letters without accents, as ``plain_text`` gives them.
"""

from __future__ import annotations

import re

from thermocancer.data.names import plain_text, view_in_name
from thermocancer.workspace import LABELS


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# --- Words beside a number in a name ----------------------------------------------------------------------------------

PATIENT = _words(
    "p pat patient patients paciente pac pt subj subject sub sujeto sujeito case caso id patientid vol volunteer "
    "voluntaria person mulher mujer woman"
)
VISIT = _words("v vis visit visita session sessao sesion timepoint followup")
COUNTER = _words("flir ir img image imagem imagen dsc dscn pic picture photo foto frame shot snap seq rec wa")
AGE = _words("age idade edad yo anos years")
BREAST = _words("breast breasts mama mamas seno senos pecho sein brust side lado region site of the da de del")
SITE = _words("s site center centre centro clinic clinica hospital h unit")

# --- Names of columns -------------------------------------------------------------------------------------------------

ID_COLUMNS = _words(
    "id patient patientid patientnumber patientno case caseid caso subject subjectid sujeto record recordid image "
    "imageid imagename file filename name number no numero codigo code paciente idpaciente pacienteid nome nombre "
    "arquivo archivo prontuario exam examid"
)
FILE_COLUMNS = _words("image imageid imagename file filename name nome nombre path arquivo archivo")
PATIENT_COLUMNS = _words(
    "patient patientid patientnumber patientno paciente idpaciente pacienteid subject subjectid case caseid"
)
DATE_COLUMNS = _words(
    "date data fecha datum examdate visitdate dateofexam dateofvisit acquisitiondate studydate imagedate scandate "
    "dataexame datadoexame datadaconsulta fechaexamen fechadelexamen"
)
_LABEL_WORDS = _words(
    "diagnosis diagnoses diagnostic diagnostico label labels pathology patologia histology histologia histopathology "
    "biopsy biopsia groundtruth finding findings birads"
)
_LABEL_COLUMNS = _LABEL_WORDS | _words(
    "class classe clase target status result resultado outcome value condition group grupo gt truth category categoria "
    "y"
)
_OF_OTHERS = _words("family familiar familia history historico previous prior antecedentes mother sister")

# --- Health and disease -----------------------------------------------------------------------------------------------

_OF_DISEASE = _words(
    "sick cancer cancerous malignant malignancy maligno maligna tumor tumour disease diseased abnormal carcinoma "
    "positive doente enferma enfermo anormal finding findings lesion neoplasia unhealthy anomaly positivo positiva "
    "krank malade malin maligne bosartig malato malata ziek chora chory"
)
_OF_HEALTH = _words(
    "healthy normal benign benigno benigna negative control controle saudavel sano sana sadio sadia sain gesund "
    "negativo negativa unaffected benin benigne gutartig gezond zdrowa zdrowy"
)
_NOT = _words("no not non without free sem sin nao ohne sans")
_WITH_CONTRAST = _words("post postcontrast contrast gad gadolinium gd ce enhanced t1c t1ce t1gd t1post with")
_WITHOUT_CONTRAST = _words("pre precontrast native plain unenhanced nonenhanced without")
YES = _words("1 yes y true t sim s si ja oui")
NO = _words("0 no n false f nao nein non")


def bare(column: str) -> str:
    """A column's name in letters and digits alone: ``Patient-ID`` and ``patient id`` are ``patientid``."""
    return re.sub(r"[\W_]", "", plain_text(column))


def polarity(text: str) -> str | None:
    """Whether words speak of health or of disease, minding a ``no`` before them; None for neither, and for both.

    >>> [polarity(text) for text in ("Benign", "No Finding", "abnormal", "cancer_free", "Maligno", "smoker")]
    ['healthy', 'healthy', 'sick', 'healthy', 'sick', None]
    """
    words = re.findall(r"[a-z]+", plain_text(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)))
    words = [part for word in words for part in (["non", word[3:]] if word[:3] == "non" and word[3:] else [word])]
    said = {word in _OF_DISEASE for word in words if word in _OF_DISEASE | _OF_HEALTH}
    if len(said) != 1:
        return None
    sick = said.pop() != (sum(word in _NOT for word in words) % 2 == 1)
    return LABELS[sick]


def names_a_label(column: str) -> bool:
    """Is this the usual name of a column of diagnoses?

    >>> [names_a_label(text) for text in ("Diagnosis, final", "class", "age class", "Diagnóstico", "smoker")]
    [True, True, False, True, False]
    """
    words = set(re.findall(r"[a-z]+", plain_text(column)))
    return (bare(column) in _LABEL_COLUMNS or bool(words & _LABEL_WORDS)) and not is_of_others(column)


def side_of(text: str) -> str | None:
    """The side of the body that a text names, in whatever view.

    >>> [side_of(text) for text in ("Left", "Mama direita", "oblleft", "R", "front")]
    ['left', 'right', 'left', 'right', None]
    """
    view = view_in_name(text) or ""
    return next((side for side in ("left", "right") if view.startswith(side.capitalize())), None)


def is_of_others(column: str) -> bool:
    """Does a column tell of the family, or of the past?"""
    return bool(set(re.findall(r"[a-z]+", plain_text(column))) & _OF_OTHERS)


def positive_of(one: str, other: str) -> str | None:
    """Which of two class names is the finding that is looked for, by their words; None where they do not say.

    >>> [positive_of(*pair) for pair in (("abnormal", "normal"), ("no_gad", "with_gad"), ("Pre", "Post"), ("a", "b"))]
    ['abnormal', 'with_gad', 'Post', None]
    """
    pair = {one: _bare_words(one), other: _bare_words(other)}
    signs = {name: {LABELS[1]: 1, LABELS[0]: -1, None: 0}[polarity(name)] for name in pair}
    if not any(signs.values()):  # the same words, one of them with a "no"
        kept = {name: (words - _NOT - {"with"}, len(words & _NOT) % 2 == 1) for name, words in pair.items()}
        if kept[one][0] == kept[other][0] and kept[one][1] != kept[other][1]:
            signs = {name: -1 if negated else 1 for name, (_, negated) in kept.items()}
    for known, unknown in ((YES, NO), (_WITH_CONTRAST, _WITHOUT_CONTRAST)):
        if not any(signs.values()):
            signs = {name: bool(words & known) - bool(words & unknown) for name, words in pair.items()}
    return None if signs[one] == signs[other] else max(signs, key=lambda name: signs[name])


def _bare_words(name: str) -> set[str]:
    """Its words and numbers in small letters; ``NoGad`` and ``nogad`` are ``no gad``."""
    words = re.findall(r"[a-z][a-z\d]*|\d+", plain_text(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)))
    apart = [(re.match(r"(no|non|sem|sin)(?=gad|contrast|ce$|finding|tumou?r|cancer)", word), word) for word in words]
    return {part for found, word in apart for part in ([found[0], word[found.end() :]] if found else [word])}
