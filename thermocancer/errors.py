"""The errors the library raises. Only ``cli/`` prints them and turns them into exit codes.

Every error says what went wrong and, where they are known, four more things: where, what was
expected, what was found, and what to type next.
"""

from __future__ import annotations

import importlib.util
import re

_ACCOUNT = re.compile(r"://[^\s@]*@")


def _without_account(text: str) -> str:
    """An address as it may be shown: ``https://me:letters@host`` holds a password that no message repeats."""
    return _ACCOUNT.sub("://***@", text)


def visible(text: str) -> str:
    """``text`` on one line, with what would move a terminal's cursor or turn its letters around spelt out.

    Names of files come from anybody: an escape code or a newline in one could fake a line of the program's own.

    >>> visible("a\\x1b[2Jb\\nerror: none")
    'a\\\\x1b[2Jb\\\\nerror: none'
    """
    return _UNSEEN.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


_UNSEEN = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class ThermocancerError(Exception):
    """A failure a user can act on.

    ``what`` is one sentence; ``where`` a file (and line), a config key or an address.
    ``exit_code`` is what the command line ends with.
    """

    exit_code = 1

    def __init__(
        self, what: str, *, where: object = None, expected: object = None, found: object = None, hint: str | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = None if where is None else _without_account(str(where))
        self.expected = None if expected is None else str(expected)
        self.found = None if found is None else _without_account(str(found))
        self.hint = hint

    def fields(self) -> dict[str, str]:
        """The parts that are known, in the order in which they are shown."""
        parts = {
            "what": self.what,
            "where": self.where,
            "expected": self.expected,
            "found": self.found,
            "hint": self.hint,
        }
        return {name: text for name, text in parts.items() if text is not None}

    def __str__(self) -> str:
        return "; ".join(text if name == "what" else f"{name}: {text}" for name, text in self.fields().items())


class RunError(ThermocancerError):
    """The work itself failed (exit 1)."""


class ConfigError(ThermocancerError):
    """The command line or the configuration is wrong (exit 2)."""

    exit_code = 2


def install_hint(extra: str) -> str:
    """The pip command for what an extra of ours brings, package by package: no index need have ours."""
    from importlib.metadata import PackageNotFoundError, requires

    marker = re.compile(rf"""extra\s*==\s*['"]{extra}['"]""")
    try:
        found = [text.split(";")[0].strip() for text in requires("thermocancer") or () if marker.search(text)]
    except PackageNotFoundError:  # run from a checkout that is not installed
        found = []
    return "pip install " + (" ".join(f"'{each}'" for each in found) or f"'.[{extra}]' in the checkout")


def check_installed(package: str, what: str, *, extra: str, where: object, otherwise: str = "") -> None:
    """Raise ConfigError that ``what`` is not to be had without ``package``, which ``extra`` brings."""
    if importlib.util.find_spec(package) is None:
        hint = install_hint(extra) + (f", or {otherwise}" if otherwise else "")
        raise ConfigError(what, where=where, found=f"{package} is not installed", hint=hint)


class DataError(ThermocancerError):
    """The input data cannot be used (exit 3)."""

    exit_code = 3


class RemoteError(ThermocancerError):
    """The remote site, the login or the network failed (exit 4)."""

    exit_code = 4


class LockedError(ThermocancerError):
    """Another process is writing the same stage (exit 75)."""

    exit_code = 75


class Interrupted(ThermocancerError):
    """SIGINT or SIGTERM arrived; what was finished is kept and the same command resumes (exit 130)."""

    exit_code = 130
