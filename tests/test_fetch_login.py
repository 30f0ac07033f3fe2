"""Accounts and TLS: refused logins, expired sessions, certificates, and no secret anywhere."""

from __future__ import annotations

import itertools
import pickle
import shutil
import subprocess
from pathlib import Path

import pytest
import requests
from dmr_replica import PASSWORD, USER, Faults, Replica
from dmr_replica_content import cohort
from fetch_fixtures import SHAPE, Client
from typer.testing import CliRunner

from thermocancer import __version__
from thermocancer.cli import register
from thermocancer.config.sources import FetchSection
from thermocancer.dmr import credentials
from thermocancer.dmr.credentials import Credentials, Secret, find_credentials
from thermocancer.dmr.transport import check_password_is_safe
from thermocancer.errors import ConfigError, RemoteError


def small(faults: Faults | None = None, **more: object) -> Replica:
    return Replica(cohort(2, SHAPE, dynamic_exams=False), faults, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("style", ["alert", "login", "home"])
def test_every_style_of_refused_login_is_one_clear_error(tmp_path: Path, style: str) -> None:
    with small(Faults(login_failure=style)).running() as replica:
        client = Client(replica, tmp_path / "study", password="wrong-letters")
        with pytest.raises(RemoteError, match="refused the login") as caught:
            client.fetch()
        assert caught.value.exit_code == 4
        assert len(replica.requests("login.php")) == 1, "a refused login is not repeated: accounts get locked"
    assert "wrong-letters" not in str(caught.value)
    assert not client.workspace.raw.exists()


@pytest.mark.parametrize("expired", ["form", "login", "index"])
def test_an_expired_session_is_renewed_once_each_time(tmp_path: Path, expired: str) -> None:
    with small(Faults(expire_after=3, expired=expired)).running() as replica:
        report = Client(replica, tmp_path / "study").fetch()
        logins = [each for each in replica.seen if each.method == "POST"]
    assert report.figures["new"] == 10
    assert 1 < len(logins) <= 4


def test_a_session_that_dies_at_once_is_an_error_not_a_loop(tmp_path: Path) -> None:
    with small(Faults(expire_after=1)).running() as replica:
        with pytest.raises(RemoteError, match="asks for the login again"):
            Client(replica, tmp_path / "study").fetch()
        assert len(replica.seen) < 20


def test_a_site_without_the_form_gets_the_two_fields_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dmr_replica_pages

    monkeypatch.setattr(dmr_replica_pages, "login_page", lambda: dmr_replica_pages.page("<p>Welcome</p>"))
    with small().running() as replica:
        assert Client(replica, tmp_path / "study").fetch().figures["new"] == 10


def test_the_client_is_honest_and_asks_for_english(tmp_path: Path) -> None:
    with small().running() as replica:
        Client(replica, tmp_path / "study").fetch()
        for seen in replica.seen:
            assert seen.headers["user-agent"].startswith(f"thermocancer/{__version__} ")
            assert seen.headers["accept-language"] == "en"
            assert "authorization" not in seen.headers


@pytest.mark.parametrize("connections", [1, 3])
def test_requests_keep_their_distance(tmp_path: Path, connections: int) -> None:
    with small().running() as replica:
        Client(replica, tmp_path / "study").fetch(patients=[1], interval_s=0.05, connections=connections)
        times = sorted(each.at for each in replica.seen)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert sum(gaps) / len(gaps) >= 0.05
    assert min(gaps) > 0.02, "a late arrival may follow an early one, but there are no bursts"


def test_a_long_retry_after_ends_the_run_and_keeps_what_is_there(tmp_path: Path) -> None:
    content = cohort(2, SHAPE, dynamic_exams=False)
    with Replica(content, Faults(unavailable={"T0002.1.1.S": 9}, retry_after="7200")).running() as replica:
        client = Client(replica, tmp_path / "study")
        with pytest.raises(RemoteError, match="long pause") as caught:
            client.fetch()
        assert caught.value.found == "Retry-After: 7200 s"
        assert len([each for each in client.catalog() if each.status == "ok"]) == 5
        replica.faults.unavailable.clear()
        assert client.fetch().figures["new"] == 5


def test_a_site_that_falls_silent_ends_the_run_and_the_next_one_goes_on(tmp_path: Path) -> None:
    with small(Faults(unavailable={"T0002": 999})).running() as replica:
        client = Client(replica, tmp_path / "study")
        with pytest.raises(RemoteError, match="5 files in a row"):
            client.fetch(retries=0)
        replica.faults.unavailable = {"T0002.1.4": 999}
        report = client.fetch(retries=0)
        assert [each.reason for each in report.failed] == ["the site answered 503"]
        assert report.figures["new"] == 4
        replica.faults.unavailable = {}
        assert client.fetch().figures["new"] == 1, "what was only out of reach is asked for again"


def test_a_page_out_of_reach_is_one_failure_and_three_end_the_run(tmp_path: Path) -> None:
    content = cohort(4, SHAPE, dynamic_exams=False)
    with Replica(content, Faults(unavailable={"id=2": 99})).running() as replica:
        client = Client(replica, tmp_path / "study")
        report = client.fetch(retries=1)
        assert [(each.item, each.reason) for each in report.failed] == [("patient 2", "the site answered 503")]
        replica.faults.unavailable = {"details": 99}
        with pytest.raises(RemoteError, match="3 patient pages in a row"):
            client.fetch(retries=0)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, made for this run of the tests only."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("the openssl command, which makes the test's certificate, is not installed")
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", files[1], "-out", files[0]],
        check=True, capture_output=True,
    )  # fmt: skip
    return files


def test_a_certificate_nobody_vouches_for_is_refused_at_once(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    with small(tls=certificate).running() as replica:
        client = Client(replica, tmp_path / "study")
        with pytest.raises(RemoteError, match="certificate cannot be verified") as caught:
            client.fetch()
        assert "--ca-bundle" in str(caught.value)
        assert not replica.seen


def test_a_ca_bundle_makes_it_good(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    with small(tls=certificate).running() as replica:
        assert Client(replica, tmp_path / "study").fetch(ca_bundle=str(certificate[0])).figures["new"] == 10


def test_insecure_alone_does_not_send_the_password(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    with small(tls=certificate).running() as replica:
        client = Client(replica, tmp_path / "study")
        with pytest.raises(ConfigError, match="refusing to send the password") as caught:
            client.fetch(insecure=True)
        assert "--insecure-password" in str(caught.value)
        assert not replica.seen
        assert client.fetch(insecure=True, insecure_password=True).figures["new"] == 10


@pytest.mark.parametrize(
    ("url", "settings", "is_safe"),
    [
        ("https://site.example/dmi/", FetchSection(), True),
        ("https://site.example/dmi/", FetchSection(insecure=True), False),
        ("https://site.example/dmi/", FetchSection(insecure=True, insecure_password=True), True),
        ("http://site.example/dmi/", FetchSection(), False),
        ("http://site.example/dmi/", FetchSection(insecure_password=True), True),
        ("http://127.0.0.1:8425/dmi/", FetchSection(), True),
        ("http://127.evil.example/dmi/", FetchSection(), False),
    ],
)
def test_where_a_password_may_go(url: str, settings: FetchSection, is_safe: bool) -> None:
    if is_safe:
        check_password_is_safe(url, settings)
    else:
        with pytest.raises(ConfigError):
            check_password_is_safe(url, settings)


def test_a_login_form_that_points_elsewhere_gets_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dmr_replica_pages

    evil = dmr_replica_pages.login_page().replace('"login.php"', '"http://198.51.100.7/login.php"')
    monkeypatch.setattr(dmr_replica_pages, "login_page", lambda: evil)
    with small().running() as replica:
        with pytest.raises(RemoteError, match="could not be reached") as caught:
            Client(replica, tmp_path / "study").fetch()
        assert "off the site" in str(caught.value)
        assert [each.method for each in replica.seen] == ["GET"]


def test_a_missing_ca_bundle_is_a_config_error(tmp_path: Path) -> None:
    with small().running() as replica, pytest.raises(ConfigError, match="CA bundle"):
        Client(replica, tmp_path / "study").fetch(ca_bundle=str(tmp_path / "none.pem"))


def test_secrets_do_not_show() -> None:
    account = Credentials.of("some-body", "some-letters")
    for text in (
        repr(account),
        str(account),
        f"{account}",
        repr(account.password),
        f"{account.password}",
        repr([account]),
    ):
        assert "some" not in text
    assert account.scrub("no some-letters for some-body") == "no *** for ***"
    with pytest.raises(TypeError):
        pickle.dumps(account)
    assert not Secret("")


def test_credentials_come_from_the_environment_or_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"THERMOCANCER_USER": USER, "THERMOCANCER_PASSWORD": PASSWORD}
    assert find_credentials(both).password.reveal() == PASSWORD
    monkeypatch.setattr(credentials, "_asks", [lambda: Credentials.of("me", "typed")])
    assert find_credentials({}).password.reveal() == "typed"
    monkeypatch.setattr(credentials, "_asks", [lambda: None])
    with pytest.raises(ConfigError) as caught:
        find_credentials({"THERMOCANCER_USER": USER})
    assert caught.value.where == "THERMOCANCER_PASSWORD"
    assert USER not in str(caught.value)


def test_netrc_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert requests.utils.get_netrc_auth("http://127.0.0.1/") == ("someone", "else")
    with small().running() as replica:
        Client(replica, tmp_path / "study").fetch(patients=[1])
        assert not [each for each in replica.seen if "authorization" in each.headers]


@pytest.mark.parametrize(
    "url", ["https://me:zq=vx7@site.example/dmi/", "me:zq=vx7@site.example", "https://me:le/zq=vx7@h"]
)
@pytest.mark.parametrize("way", ["option", "set", "section", "file", "variable", "beside another mistake"])
@pytest.mark.parametrize("command", [["fetch"], ["config", "show"], ["simulate", "--dry-run"]], ids=" ".join)
def test_a_password_in_the_address_is_refused_and_shown_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, way: str, command: list[str]
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(f"fetch:\n  url: '{url}'\n")
    options = {
        "option": ["--url", url] if command == ["fetch"] else ["--set", f"fetch.url={url}"],
        "set": ["--set", f"fetch.url={url}"],
        "section": ["--set", f"fetch={{url: '{url}'}}"],
        "file": ["-c", str(file)],
        "variable": [],
        "beside another mistake": ["--set", f"fetch.url={url}", "--set", "fetch.timeout_s=oops"],
    }[way]
    if way == "variable":
        monkeypatch.setenv("THERMOCANCER_FETCH__URL", url)
    arguments = [*command, "-w", str(tmp_path / "study"), "--verbose", *options]
    done = CliRunner().invoke(register(), arguments)
    assert done.exit_code == 2
    assert "zq" not in done.output
    assert "vx7" not in done.output
    assert "THERMOCANCER_PASSWORD" in done.output
    assert not (tmp_path / "study").exists()


def test_a_password_in_the_address_is_not_in_a_notebooks_traceback_either() -> None:
    with pytest.raises(ValueError, match="THERMOCANCER_PASSWORD") as caught:
        FetchSection(url="https://me:letters@site.example/dmi/")
    assert "letters" not in str(caught.value)
