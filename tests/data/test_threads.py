"""Reading in several threads."""

import multiprocessing
import sys
import threading

import numpy as np
import pytest
import torch

from matey.data import threads


@pytest.fixture
def four(monkeypatch):
    """Torch may use four threads, of which each is worth four bytes."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(threads, "LEAST", 4)


def shared_out(items, size):
    """The parts that were worked on, and the threads that did."""
    done, names = [], set()

    def work(part):
        done.append(part)
        names.add(threading.current_thread().name)

    threads.spread(work, items, size)
    return sorted(done), names


@pytest.mark.usefixtures("four")
def test_there_are_no_more_parts_than_threads_items_and_bytes_worth_it():
    assert shared_out([0, 1, 2, 3, 4, 5], 100)[0] == [[0, 4], [1, 5], [2], [3]]
    assert shared_out([0, 1], 100)[0] == [[0], [1]]
    assert shared_out([0, 1, 2, 3], 11)[0] == [[0, 2], [1, 3]]
    assert shared_out([0, 1], 7) == ([[0, 1]], {threading.current_thread().name})
    assert shared_out([], 0)[0] == [[]]
    assert all(name.startswith("matey-read") for name in shared_out([0, 1], 8)[1])


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_is_found_in_any_part(bad):
    values = np.ones((5, 3), np.float32)
    assert threads.is_finite_sum(values)
    for i in range(5):
        spoilt = values.copy()
        spoilt[i, 1] = bad
        assert not threads.is_finite_sum(spoilt)


def summed():
    return threads.is_finite_sum(np.ones((4, 3), np.float32))


@pytest.mark.usefixtures("four")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are forked on Linux")
def test_a_forked_process_has_threads_of_its_own():
    assert summed()
    with multiprocessing.get_context("fork").Pool(1) as processes:
        assert processes.apply_async(summed).get(timeout=30)
