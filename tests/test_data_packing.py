"""Reading ahead on several threads: in order, only a few ahead, and a failed task is a result."""

from __future__ import annotations

import threading

import pytest

from thermocancer.data.store.packing import in_order
from thermocancer.errors import DataError


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_and_never_far_ahead(threads: int) -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def work(task: int) -> int:
        with lock:
            begun.append(task)
        return task * task

    taken = []
    for task, result in in_order(work, range(50), threads):
        taken.append((task, result()))
        assert len(begun) - len(taken) <= threads + 1, "memory must not grow with the number of exams"
    assert taken == [(task, task * task) for task in range(50)]


def test_a_failed_task_raises_when_its_result_is_taken_and_the_rest_goes_on() -> None:
    def work(task: int) -> int:
        if task == 2:
            raise DataError("broken")
        return task

    found, failed = [], []
    for task, result in in_order(work, range(6), 2):
        try:
            found.append(result())
        except DataError:
            failed.append(task)
    assert (found, failed) == ([0, 1, 3, 4, 5], [2])


def test_nothing_to_do() -> None:
    assert list(in_order(abs, [], 2)) == []
