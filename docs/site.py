"""A hook of mkdocs: a link that leaves ``docs/`` (README, notebook, ``deploy/``) is its words on the site."""

from __future__ import annotations

import re


def on_page_markdown(markdown: str, **_: object) -> str:
    """The page's text without such links."""
    return re.sub(r"\[([^\]]*)\]\(\.\./[^)]*\)", r"\1", markdown)
