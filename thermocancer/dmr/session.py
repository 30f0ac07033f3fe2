"""A logged-in visit to the site: pages by name, files as streams, a new login when the session has expired."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator, Mapping

import mechanicalsoup
import requests
from bs4 import BeautifulSoup, MarkupResemblesLocatorWarning, XMLParsedAsHTMLWarning
from bs4.exceptions import ParserRejectedMarkup
from urllib3.exceptions import HTTPError

from thermocancer.config.sources import FetchSection
from thermocancer.dmr.address import SiteAddress
from thermocancer.dmr.credentials import Credentials
from thermocancer.dmr.pages import ListPage, PatientPage, has_login_form, parse_list, parse_patient
from thermocancer.dmr.transport import (
    VALIDATORS,
    AnswerRefused,
    Meter,
    RequestRefused,
    check_long_pause,
    check_password_is_safe,
    explain,
    prepare_session,
)
from thermocancer.errors import RemoteError

MOST_LIST_PAGES = 1000
DEEPEST_TAG = 200
"""Reading a page takes time and stack by the depth of its tags; the known pages stay below 20."""

PARSER = "lxml"


class PageFailed(RemoteError):
    """One page could not be had after every try; others may still answer."""


class Site:
    """The site as a program sees it. Use as a context manager: connections are closed at the end.

    ``settings`` say how politely to ask, ``meter`` holds the counts of the visit. Methods raise RemoteError
    when the login is refused, PageFailed when a page cannot be had, ConfigError when the password would
    travel unprotected, RequestCapReached when the run has used up its requests.
    """

    def __init__(self, address: SiteAddress, settings: FetchSection, credentials: Credentials) -> None:
        check_password_is_safe(address.base, settings)
        self.address, self.settings = address, settings
        self.meter = Meter(settings.max_requests)
        self._credentials = credentials
        self._session = prepare_session(address, settings, self.meter)
        self._browser = mechanicalsoup.StatefulBrowser(
            session=self._session, soup_config={"features": PARSER}, user_agent=self._session.headers["User-Agent"]
        )
        # odd pages are expected here, and a cron job should hear of them only through the report
        for odd in (XMLParsedAsHTMLWarning, MarkupResemblesLocatorWarning):
            warnings.simplefilter("ignore", odd)
        self._login_lock = threading.Lock()
        self.logins = 0

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *error: object) -> None:
        self._browser.close()

    def log_in(self) -> None:
        """Log in through the form of the home page; where there is none, post the two fields as the form would.

        Raises RemoteError when the site refuses, or when its form would put the password into an address.
        """
        fields = {"usuario": self._credentials.user.reveal(), "password": self._credentials.password.reveal()}
        with self._explained(self.address.login):
            self._browser.open(self.address.base)
            try:
                form = self._browser.select_form('form[action*="login.php"]')
                if str(form.form.get("method", "get")).strip().lower() == "get":
                    raise RemoteError(
                        "the site's login form would put the password into the address, where logs keep it",
                        where=self.address.base,
                        expected="a form with method=post",
                        hint="nothing was sent; if the site has changed, please report it",
                    )
                for name, value in fields.items():
                    self._browser[name] = value
                response: requests.Response = self._browser.submit_selected()
            except (mechanicalsoup.LinkNotFoundError, mechanicalsoup.InvalidFormMethod):
                response = self._browser.post(self.address.login, data=fields)
        if response.status_code != 200:
            raise RemoteError(
                "the login page does not work",
                where=self.address.login,
                found=f"the site answered {response.status_code}",
                hint="try again later; if it lasts, open the address in a browser",
            )
        soup = _soup_of(response, self.address.login)
        # a warning box is a refusal, but for one on the page that only a login leads to
        is_home = response.url.partition("?")[0].endswith("/home.php")
        warned = not is_home and soup.find(class_="alert-warning") is not None
        if has_login_form(soup) or self.address.is_login_page(response.url) or warned:
            raise RemoteError(
                "the site refused the login",
                where=self.address.login,
                expected="the account name and password that work in a browser",
                hint="check THERMOCANCER_USER and THERMOCANCER_PASSWORD; recover the password on the site",
            )
        self.logins += 1

    def renew_login(self, logins_before: int) -> None:
        """Log in again, unless another thread has done so since ``logins_before`` was read."""
        with self._login_lock:
            if self.logins == logins_before:
                self.log_in()

    def patients_listed(self, diagnosis: str) -> Iterator[ListPage]:
        """Walk the list of one diagnosis (healthy, sick or all), page by page, as far as it goes."""
        before = None
        for number in range(1, MOST_LIST_PAGES + 1):
            where = self.address.patient_list(diagnosis, number)
            page = parse_list(self._page(where), where)
            # some lists answer any number with their last page: the same ids again are the end
            if not page.patients or page.patients == before:
                break
            yield page
            if not page.has_next and number >= page.last_page:
                break
            before = page.patients

    def patient(self, patient: int) -> PatientPage:
        """Read one patient's page. Raises PageFailed when it shows somebody else."""
        where = self.address.patient(patient)
        page = parse_patient(self._page(where))
        if page.patient not in (None, patient):
            raise PageFailed("the page shows another patient", where=where, expected=patient, found=page.patient)
        return page

    def _page(self, url: str) -> BeautifulSoup:
        """Open a page; when it turns out to be the login form, log in once more and open it again."""
        for last_try in (False, True):
            before = self.logins
            with self._explained(url):
                response = self._browser.open(url)
            soup = _soup_of(response, url)
            if not (has_login_form(soup) or response.url.partition("?")[0].endswith("/login.php")):
                break
            if last_try:
                raise RemoteError(
                    "the site asks for the login again right after one",
                    where=url,
                    hint="open the site in a browser with this account; it may have been suspended",
                )
            self.renew_login(before)
        if response.status_code != 200:
            check_long_pause(response)
            raise PageFailed("a page could not be read", where=url, found=f"the site answered {response.status_code}")
        return soup

    def open_file(self, url: str, validators: Mapping[str, str]) -> requests.Response:
        """Start one file's transfer; the body is not read yet, and the caller closes the response.

        ``validators`` make it conditional: status 304 means unchanged.
        Raises requests' own exceptions and RequestRefused.
        """
        headers = {VALIDATORS[name][1]: value for name, value in validators.items()}
        return self._session.get(url, headers=headers, stream=True)

    @contextlib.contextmanager
    def _explained(self, url: str) -> Iterator[None]:
        """Turn what requests raises into one clear RemoteError, with no secret in it."""
        try:
            yield
        # from None: the chained exception repeats request objects and helps nobody
        except requests.exceptions.SSLError as error:
            problem = str(error).rpartition("certificate verify failed: ")[2].split(" (_ssl")[0].strip("')")
            raise RemoteError(
                "the site's certificate cannot be verified",
                where=url,
                found=self._credentials.scrub(problem or "certificate verify failed"),
                hint="an incomplete chain is cured with --ca-bundle FILE; --insecure turns verification off",
            ) from None
        except AnswerRefused as error:
            raise PageFailed("a page could not be read", where=url, found=error) from None
        except ParserRejectedMarkup:
            raise PageFailed("a page could not be read", where=url, found="it is no HTML") from None
        except (requests.RequestException, HTTPError, RequestRefused, ValueError) as error:
            raise PageFailed(
                "the site could not be reached",
                where=url,
                found=self._credentials.scrub(explain(error, self.settings.timeout_s)),
                hint="check the connection and try again later; the same command goes on where it stopped",
            ) from None


def _soup_of(response: requests.Response, where: str) -> BeautifulSoup:
    """The page, parsed; MechanicalSoup parses only what says it is HTML. Raises PageFailed when it is nested deeply."""
    soup: BeautifulSoup = getattr(response, "soup", None) or BeautifulSoup(response.content, PARSER)
    depths = {id(soup): 0}
    for tag in soup.find_all(True):
        depths[id(tag)] = depths[id(tag.parent)] + 1
    if max(depths.values()) > DEEPEST_TAG:
        raise PageFailed(
            "a page could not be read", where=where, expected=f"tags at most {DEEPEST_TAG} deep", found="deeper nesting"
        )
    return soup
