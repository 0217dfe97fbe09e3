from __future__ import annotations

import numpy as np
import pytest
import torch

from tune.data.samplers import BatchRows, SeveralOrders, each_once
from tune.data.seeds import keyed, seed_of
from tune.errors import ConfigError


def batches(count: int, batch_rows: int, **arguments) -> list[tuple[int, ...]]:
    sampler = BatchRows(np.arange(count) + 100, batch_rows, **arguments)
    result = [rows.indices for rows in sampler]
    assert len(sampler) == len(result)
    return result


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("count", [6, 7, 24, 25, 26, 29, 30, 31, 47])
def test_all_processes_together_see_each_row_once_in_equally_many_batches(count, world):
    each = [batches(count, 12, rank=rank, world=world) for rank in range(world)]
    assert len({len(rank) for rank in each}) == 1
    seen = [row for rank in each for batch in rank for row in batch]
    assert sorted(seen) == list(range(100, 100 + count))
    assert all(len(batch) >= 1 for rank in each for batch in rank)


@pytest.mark.parametrize("count", range(12, 50))
def test_no_batch_of_two_processes_has_less_than_two_rows(count):
    for rank in range(2):
        assert min(map(len, batches(count, 12, rank=rank, world=2))) >= 2


def test_only_a_last_batch_that_is_too_small_joins_the_one_before():
    assert [len(batch) for batch in batches(10, 4)] == [4, 4, 2]
    assert [len(batch) for batch in batches(9, 4)] == [4, 5]
    assert [len(batch) for batch in batches(3, 1)] == [1, 1, 1]
    assert [len(batch) for batch in batches(1, 4)] == [1]
    assert batches(0, 4) == []


def test_a_process_takes_every_so_many_rows_of_a_batch():
    assert batches(8, 4, rank=1, world=2) == [(101, 103), (105, 107)]


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = BatchRows(np.arange(50), 8, draw=each_once(np.arange(50)), seed=seed)
        sampler.set_epoch(epoch)
        list(sampler)  # a second walk through the same epoch is the same
        return [row for rows in sampler for row in rows.indices]

    state = torch.get_rng_state()
    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert sorted(order(0, 0)) == list(range(50))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_batch_knows_its_epoch_and_number():
    sampler = BatchRows(np.arange(5), 2, draw=each_once(np.arange(5)))
    sampler.set_epoch(7)
    assert [(rows.epoch, rows.number) for rows in sampler] == [(7, 0), (7, 1)]


def test_less_rows_than_processes_is_an_error():
    with pytest.raises(ConfigError, match="1 rows cannot be shared by 2 processes"):
        BatchRows(np.arange(1), 4, world=2)


def test_keyed_draws_depend_on_the_key_alone_and_leave_the_generator_alone():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    with keyed("augment", 0, 1, 2):
        first = torch.rand(3)
    torch.manual_seed(2)
    with keyed("augment", 0, 1, 2):
        assert torch.equal(torch.rand(3), first)
    with keyed("augment", 0, 12):
        assert not torch.equal(torch.rand(3), first)
    torch.manual_seed(1)
    with pytest.raises(ZeroDivisionError), keyed(0):
        torch.rand(1).div_(1 // 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_fit_torch_and_differ():
    seeds = {seed_of(seed, epoch, row) for seed in range(3) for epoch in range(30) for row in range(100)}
    assert len(seeds) == 9000
    assert min(seeds) >= 0
    assert max(seeds) < 2**63


def test_several_seeds_side_by_side_are_each_as_alone():
    orders = [BatchRows(np.arange(10), 4, draw=each_once(np.arange(10)), seed=seed) for seed in (0, 1, 2)]
    several = SeveralOrders(orders)
    several.set_epoch(3)
    for number, together in enumerate(several):
        alone = [list(order)[number].indices for order in orders]
        assert together.indices == sum(alone, ())
        assert (together.epoch, together.number) == (3, number)
    assert len(several) == len(orders[0])
