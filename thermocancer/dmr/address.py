"""Addresses of the site, and which links may be followed."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlencode, urljoin, urlsplit

from thermocancer.errors import ConfigError

DIAGNOSIS_CODES = {"healthy": "S", "sick": "D", "all": ""}
"""``diag=`` of the patient list: Saudável, Doente, everyone (there is no known code for Unknown)."""


@dataclass(frozen=True)
class SiteAddress:
    """Where the site is; ``base`` ends with a slash."""

    base: str

    @classmethod
    def parse(cls, url: str) -> SiteAddress:
        """Raises ConfigError when ``url`` is no plain http(s) address (what it holds is not repeated)."""
        parts = urlsplit(url.strip())
        plain = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        if not plain or "@" in url:
            raise ConfigError(
                "fetch.url is no plain web address",
                where="fetch.url",
                expected="http(s)://host/path/, without an account, a question mark or a fragment",
                hint="the account belongs in THERMOCANCER_USER and THERMOCANCER_PASSWORD",
            )
        return cls(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}/")

    @property
    def login(self) -> str:
        return urljoin(self.base, "login.php")

    def patient_list(self, diagnosis: str, page: int) -> str:
        """Address of one page of the list; ``diagnosis`` is healthy, sick or all."""
        query = {"filtro": 0, "diag": DIAGNOSIS_CODES[diagnosis], "order": 1, "by": 1, "pagina": page}
        return urljoin(self.base, f"prontuario/index.php?{urlencode(query)}")

    def patient(self, patient: int) -> str:
        return urljoin(self.base, f"prontuario/details.php?id={patient}")

    def holds(self, url: str) -> bool:
        """Is ``url`` on this site's host and port, and no less protected than the site itself?"""
        here, there = urlsplit(self.base), urlsplit(url)
        schemes = ("https",) if here.scheme == "https" else ("http", "https")
        if there.scheme not in schemes or there.hostname != here.hostname:
            return False
        try:
            return there.port == here.port or {here.port, there.port} <= {None, 80, 443}
        except ValueError:  # a port that is no number
            return False

    def is_login_page(self, url: str) -> bool:
        """Does the path alone say 'log in first'? The patient list is also called index.php, elsewhere."""
        path = urlsplit(url).path
        home = urlsplit(self.base).path
        return path.endswith("/login.php") or path in (home, home.rstrip("/"), f"{home}index.php")

    def relative(self, url: str) -> str:
        """The path below the base, without the host: what a catalog keeps of an address."""
        path = urlsplit(url).path
        return path.removeprefix(urlsplit(self.base).path)


@dataclass(frozen=True)
class FileLink:
    """A link that was judged: the address to fetch and the bare file name, or why it is refused."""

    url: str = ""
    name: str = ""
    refusal: str = ""


def judge_link(href: str, page_url: str, address: SiteAddress) -> FileLink:
    """Resolve a link of a patient page, or say why it is refused.

    Refused are links that are empty, leave the host, climb out of their folder (as written or
    percent-encoded) or do not end in a matrix's name.
    """
    text = href.strip().strip("\"'").strip()
    if not text:
        return FileLink(refusal="the link is empty")
    try:
        url = urljoin(page_url, text)
        if address.base.startswith("https:") and url.startswith("http:"):
            url = f"https:{url.removeprefix('http:')}"  # some pages mix the two; the protected one is meant
        parts = urlsplit(url)
    except ValueError:
        return FileLink(refusal="the link is no address")
    if not address.holds(url):
        return FileLink(refusal="the link leaves the site")
    written = unquote(unquote(urlsplit(text).path)).replace("\\", "/")
    inside = written.lstrip("/").removeprefix("../")  # pages live in prontuario/, files beside it
    if "\x00" in written or ".." in inside.split("/") or not parts.path.startswith(urlsplit(address.base).path):
        return FileLink(refusal="the link climbs out of its folder")
    name = written.rsplit("/", 1)[-1].strip()
    if not name.lower().endswith(".txt"):
        return FileLink(refusal="the link does not end in a matrix (.txt)")
    return FileLink(url=url, name=name)
