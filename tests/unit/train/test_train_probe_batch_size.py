"""Which batch sizes are tried, and how many batches make a step, for machines of known memory."""

from __future__ import annotations

import pytest

from tune.train.probe.batch_size import Size, accumulation, expected, sizes


def machine(limit):
    """A step that takes 100 bytes and 7 more for each row, on a machine with so many."""

    def one(rows):
        taken = 100 + 7 * rows
        return Size(rows, 0.1, taken) if taken <= limit else Size(rows, trouble="out of memory")

    return one


@pytest.mark.parametrize("limit", [107, 120, 160, 300, 1000, 5000])
def test_the_largest_power_of_two_that_fits_is_found(limit):
    tried = list(sizes({}, 10**6, "cuda", machine(limit)))
    fitting = [size.rows for size in tried if not size.trouble]
    assert max(fitting) == max(2**k for k in range(20) if 100 + 7 * 2**k <= limit)
    assert sum(bool(size.trouble) for size in tried) <= 4


def test_nothing_fits():
    assert [size.rows for size in sizes({}, 100, "cuda", machine(50))] == [8, 4, 2, 1]


def test_no_size_has_more_rows_than_there_are():
    assert [size.rows for size in sizes({}, 100, "cuda", machine(10**9))] == [8, 16, 32, 64]
    assert [size.rows for size in sizes({}, 5, "cuda", machine(10**9))] == [8]


def test_what_twice_the_rows_take_is_foreseen():
    assert expected([machine(10**9)(16), machine(10**9)(32)]) == 100 + 7 * 64


def test_a_cpu_is_never_asked_for_more_than_is_free():
    asked = []

    def one(rows):
        asked.append(rows)
        return Size(rows, 0.1, rows << 30)  # a GB for each row

    *fitting, last = sizes({}, 10**9, "cpu", one)
    assert "GB free" in last.trouble or "free" in last.trouble
    assert last.rows not in asked
    assert asked == [size.rows for size in fitting]


@pytest.mark.parametrize("batch_size", [1, 7, 32, 48, 96, 100])
@pytest.mark.parametrize("largest", [1, 2, 8, 32, 64])
def test_equal_parts_that_fit_make_the_same_step(batch_size, largest):
    parts = accumulation(batch_size, largest)
    assert batch_size % parts == 0
    assert batch_size // parts <= largest
    assert not any(batch_size % fewer == 0 and batch_size // fewer <= largest for fewer in range(1, parts))
