"""What the site asks of those who use its data: printed once, and written beside the data."""

from __future__ import annotations

CITATION = """\
Work that uses thermograms of DMR-IR must cite the database:

Silva, L. F.; Saade, D. C. M.; Sequeiros, G. O.; Silva, A. C.; Paiva, A. C.; Bravo, R. S.; Conci, A.:
A New Database for Breast Research with Infrared Image.
Journal of Medical Imaging and Health Informatics, 4(1):92-100, 2014.
(Sources disagree on the DOI; look it up by the title.)
"""

TERMS = """\
Terms of use of the DMR-IR site, in short; the text shown at registration is what binds you:

- research use only;
- cite at least one paper of the group that made the database;
- the account is personal and is not shared;
- the material is not sold and not passed on to third parties.

These files are therefore for you alone: do not commit, upload or forward them, nor pictures made from them.
"""

BOTH = f"{CITATION}\n{TERMS}"
FILES = {"CITATION.txt": CITATION, "TERMS.txt": TERMS}
