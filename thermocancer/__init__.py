"""thermocancer: breast thermograms from download to a report a reviewer can trust."""

import importlib

__version__ = "0.1.0"
__all__ = ("audit", "evaluate", "open_workspace", "show")


def __getattr__(name: str) -> object:
    """What ``thermocancer.api`` offers, loaded when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module 'thermocancer' has no attribute {name!r}")
    return getattr(importlib.import_module("thermocancer.api"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
