"""Which batch sizes are tried, and how many batches make a step, for machines of known memory."""

from __future__ import annotations

import pytest

from tune.train.probe.batch_size import Size, accumulation, advice, expected, sizes


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


@pytest.mark.parametrize("now", [1, 4])
@pytest.mark.parametrize("largest", [8, 32, 64])
@pytest.mark.parametrize("is_full", [True, False])
@pytest.mark.parametrize("grow", [True, False])
@pytest.mark.parametrize("batch_size", [8, 32, 64, 100])
def test_a_step_of_other_rows_is_called_another_training_and_no_other_is(batch_size, now, largest, is_full, grow):
    paste, told = advice(batch_size, now, largest, is_full=is_full, grow=grow)
    pasted = dict(word.split("=") for word in paste)
    rows = int(pasted.get("batch_size", batch_size))
    parts = int(pasted.get("trainer.accumulate_grad_batches", now))
    assert ("another training" in told) == (rows != batch_size)
    assert grow or rows == batch_size
    assert not is_full or -(-rows // parts) <= largest  # it fits
    if grow and is_full:
        assert (rows, parts) == (largest, 1)
    if not is_full:
        assert rows >= batch_size  # whatever fits, nothing has to shrink
    assert bool(paste) == (rows != batch_size or parts != now)


def test_growing_to_the_batch_that_there_is_changes_nothing():
    assert advice(32, 1, 32, is_full=False, grow=True) == ([], ": batch_size=32 does, leave it as it is")
