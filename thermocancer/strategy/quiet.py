"""Imports that write to standard error from C++, before any log level is read."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quietly(*descriptors: int) -> Iterator[None]:
    """Hold back what is written to file descriptors (2, standard error, if none is named).

    It is shown after all when the block raises. TensorFlow 2.21 announces oneDNN and missing CUDA
    drivers whatever ``TF_CPP_MIN_LOG_LEVEL`` says, and Gloo its peers; a cron job or ``--json -`` must
    stay silent.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    held = {each: os.dup(each) for each in descriptors or (2,)}
    with tempfile.TemporaryFile() as aside:
        for each in held:
            os.dup2(aside.fileno(), each)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(held.get(2, next(iter(held.values()))), aside.read())
            raise
        finally:
            for each, kept in held.items():
                os.dup2(kept, each)
                os.close(kept)


def import_quietly(name: str) -> None:
    """Import a module whose import talks."""
    if name not in sys.modules:
        with quietly():
            importlib.import_module(name)
