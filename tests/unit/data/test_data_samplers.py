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


@pytest.mark.parametrize("stretch", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("world", [1, 2])
def test_stretches_one_after_another_are_the_passes_cut_elsewhere(stretch, world):
    rows = np.arange(21)
    whole = BatchRows(rows, 4, draw=each_once(rows), seed=5, world=world)
    cut = BatchRows(rows, 4, draw=each_once(rows), seed=5, world=world, stretch=stretch)
    expected, found = [], []
    for turn in range(7):
        whole.set_epoch(turn)
        expected += [batch.indices for batch in whole]
    for epoch in reversed(range(len(expected) // stretch)):  # each can be begun without those before it
        cut.set_epoch(epoch)
        found[:0] = [(batch.epoch, batch.turn, batch.indices) for batch in cut]
        assert len(cut) == stretch
    number = len(found)
    assert [indices for _, _, indices in found] == expected[:number]
    assert [turn for _, turn, _ in found] == [place // whole.per_pass for place in range(number)]
    assert [epoch for epoch, _, _ in found] == [place // stretch for place in range(number)]


def test_a_whole_pass_of_stretches_has_each_row_once():
    rows = np.arange(30)
    sampler = BatchRows(rows, 7, draw=each_once(rows), stretch=2)  # passes of 5 batches
    seen: dict[int, list[int]] = {}
    for epoch in range(5):
        sampler.set_epoch(epoch)
        for batch in sampler:
            seen.setdefault(batch.turn, []).extend(batch.indices)
    assert [sorted(each) for each in seen.values()] == [list(range(30))] * 2
    assert seen[0] != seen[1]


def test_epochs_know_their_passes():
    sampler = BatchRows(np.arange(10), 2, stretch=3)  # passes of 5 batches
    for start in range(4):
        for end in range(start + 1, 6):
            turns = {batch // 5 for batch in range(3 * start, 3 * end)}
            assert list(sampler.turns(start, end)) == sorted(turns)
    assert list(BatchRows(np.arange(10), 2).turns(2, 5)) == [2, 3, 4]
