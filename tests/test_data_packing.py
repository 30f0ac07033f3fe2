"""Reading ahead on several threads: in order, only a few ahead, and a failed task is a result."""

from __future__ import annotations

import threading

import pytest

from thermocancer.data.store_packing import in_order
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
        taken.append((task, result))
        assert len(begun) - len(taken) <= threads + 1, "memory must not grow with the number of exams"
    assert taken == [(task, task * task) for task in range(50)]


def test_a_data_error_is_a_result_and_a_bug_is_raised() -> None:
    def work(task: int) -> int:
        if task == 2:
            raise DataError("broken")
        if task == 4:
            raise ZeroDivisionError
        return task

    found = []
    with pytest.raises(ZeroDivisionError):
        found.extend(in_order(work, range(9), 2))
    assert [task for task, _ in found] == [0, 1, 2, 3]
    assert isinstance(found[2][1], DataError)


def test_nothing_to_do() -> None:
    assert list(in_order(abs, [], 2)) == []
