"""Imports that write to standard error from C++, before any log level is read."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quietly() -> Iterator[None]:
    """Hold back what is written to file descriptor 2; show it after all when the block raises.

    TensorFlow 2.21 announces oneDNN and missing CUDA drivers whatever ``TF_CPP_MIN_LOG_LEVEL``
    says; a cron job or ``--json -`` must stay silent.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            aside.seek(0)
            os.write(2, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def import_quietly(name: str) -> None:
    """Import a module whose import talks."""
    if name not in sys.modules:
        with quietly():
            importlib.import_module(name)
