"""SIGINT and SIGTERM while training: finish the step, write a checkpoint, stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopping:
    """Within the block, the first signal only sets ``asked``; a second one interrupts at once.

    An exception thrown into the middle of a step could leave half of the weights updated. In any
    thread but the main one signals cannot be caught, and nothing changes.
    """

    def __init__(self) -> None:
        self.asked = False
        self.name = ""
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            self._previous = {each: signal.signal(each, self._note) for each in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each, handler in self._previous.items():
            signal.signal(each, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked, self.name = True, signal.Signals(number).name
