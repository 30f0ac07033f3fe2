"""The user's own account: read from the environment or asked for, and never shown again."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from thermocancer.errors import ConfigError

USER_VARIABLE = "THERMOCANCER_USER"
PASSWORD_VARIABLE = "THERMOCANCER_PASSWORD"
REDACTED = "***"


class Secret:
    """A text that appears in no repr, no format, no pickle.

    >>> Secret("letters")
    Secret(***)
    >>> f"{Secret('letters')}"
    'Secret(***)'
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself; for the login form and for scrubbing, nothing else."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


@dataclass(frozen=True)
class Credentials:
    """Account name and password of the DMR-IR site."""

    user: Secret
    password: Secret

    @classmethod
    def of(cls, user: str, password: str) -> Credentials:
        return cls(Secret(user), Secret(password))

    def scrub(self, text: str) -> str:
        """``text`` without the account name and the password, should a page or an error echo them."""
        for secret in (self.password, self.user):
            if secret:
                text = text.replace(secret.reveal(), REDACTED)
        return text


Ask = Callable[[], Credentials | None]
_asks: list[Ask] = []


def ask_with(ask: Ask) -> None:
    """Let ``ask`` supply credentials that the environment lacks; it returns None when nobody can be asked.

    The command line registers its terminal prompt here: the library itself never prompts.
    """
    _asks[:] = [ask]


def find_credentials(environment: Mapping[str, str] | None = None) -> Credentials:
    """The account from the environment, else from the registered prompt.

    Raises ConfigError naming the missing variables when there is neither.
    """
    variables = os.environ if environment is None else environment
    user, password = variables.get(USER_VARIABLE, ""), variables.get(PASSWORD_VARIABLE, "")
    if user and password:
        return Credentials.of(user, password)
    asked = _asks[0]() if _asks else None
    if asked is not None and asked.user and asked.password:
        return asked
    missing = [name for name, text in ((USER_VARIABLE, user), (PASSWORD_VARIABLE, password)) if not text]
    raise ConfigError(
        "the site needs your own account, and there is no terminal to ask on",
        where=" and ".join(missing),
        expected="environment variables with the account's name and password",
        found="not set",
        hint=f"set {USER_VARIABLE} and {PASSWORD_VARIABLE}, or call fetch from a terminal",
    )
