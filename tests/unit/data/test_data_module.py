from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.testing import assert_close

from tune.batch import Batch
from tune.data.augment import Augment
from tune.data.loading.batches import ImageBatches
from tune.data.loading.orders import labelled_counts
from tune.data.module import ImageData
from tune.data.options import DataOptions, separate
from tune.data.readers.synthetic import Synthetic
from tune.data.samplers import Rows
from tune.data.splits import Split, split_rows
from tune.data.transforms import InputTransform
from tune.errors import ConfigError

TABLE = Synthetic(rows=60, size=16).read()
PARTS = split_rows(TABLE, Split())
STRONG = {"crop": 0.4, "flip_horizontal": 0.5, "rotate": 20.0, "brightness": 0.3, "noise": 0.05, "erase": 0.5}


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def data(table=TABLE, **arguments) -> ImageData:
    arguments = {"input_size": (16, 16), "mean": (0.5,) * 3, "std": (0.5,) * 3, "batch_size": 8, **arguments}
    return ImageData(table, PARTS, **arguments)


def epoch_of(module: ImageData, epoch: int = 0) -> list[Batch]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]
    return [batch["target"] for batch in loader]


def by_row(batches: list[Batch]) -> dict[int, torch.Tensor]:
    return {int(row): image for batch in batches for row, image in zip(batch.index, batch.images, strict=True)}


def assert_same(one: list[Batch], two: list[Batch]) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        for name in ("images", "labels", "label_probs", "weights", "index"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name


def test_a_batch_has_the_promised_shapes_and_values():
    for module_batches in (epoch_of(data()), [b["target"] for b in data().val_dataloader()]):
        for batch in module_batches:
            rows = len(batch.index)
            assert batch.images.shape == (rows, 3, 16, 16)
            assert batch.images.dtype == torch.float32
            assert batch.labels.tolist() == TABLE.labels[batch.index.numpy()].tolist()
            assert batch.label_probs.tolist() == np.eye(3)[batch.labels].tolist()
            assert batch.weights.tolist() == [1.0] * rows
            for image, row in zip(batch.images, batch.index, strict=True):
                pixels = torch.from_numpy(np.asarray(TABLE.images[int(row)])).permute(2, 0, 1)
                assert_close(image, (pixels / 255 - 0.5) / 0.5)


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_eval_rows_show_a_part_in_order_and_unchanged(part):
    module = data(augment=Augment(**STRONG, mixup=1.0), label_smoothing=0.1)
    batches = [batch["target"] for batch in module.eval_rows(part)]
    assert [int(row) for batch in batches for row in batch.index] == PARTS.rows(part).tolist()
    assert {value for batch in batches for value in batch.label_probs.unique().tolist()} == {0.0, 1.0}
    assert_same(batches, [batch["target"] for batch in data().eval_rows(part)])


def test_validation_is_never_augmented():
    module = data(augment=Augment(**STRONG, mixup=1.0), label_smoothing=0.1)
    assert_same([b["target"] for b in module.val_dataloader()], [b["target"] for b in data().val_dataloader()])
    assert_same([b["target"] for b in module.test_dataloader()], [b["target"] for b in data().test_dataloader()])


def test_workers_change_nothing():
    augment = Augment(**STRONG, mixup=0.4, cutmix=1.0)
    alone = data(augment=augment, seed=5)
    expected = [epoch_of(alone, epoch) for epoch in (0, 1)]
    helped = data(augment=augment, seed=5, workers=2)
    loader = helped.train_dataloader()
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        assert_same([batch["target"] for batch in loader], expected[epoch])


def test_a_row_is_augmented_the_same_in_any_batch_and_differently_in_any_epoch():
    augment = Augment(**STRONG)
    eight, five = data(augment=augment), data(augment=augment, batch_size=5)
    one, two = by_row(epoch_of(eight, 3)), by_row(epoch_of(five, 3))
    assert one.keys() == two.keys() == set(PARTS.train.tolist())
    assert all(torch.equal(one[row], two[row]) for row in one)
    other_epoch, other_seed = by_row(epoch_of(eight, 4)), by_row(epoch_of(data(augment=augment, seed=1), 3))
    assert not any(torch.equal(one[row], other_epoch[row]) for row in one)
    assert not any(torch.equal(one[row], other_seed[row]) for row in one)


def test_making_batches_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    epoch_of(data(augment=Augment(**STRONG, mixup=0.4)))
    assert torch.equal(torch.get_rng_state(), state)


def test_mixing_depends_on_seed_epoch_and_number_of_the_batch():
    def batch(seed: int, epoch: int, number: int) -> Batch:
        batches = ImageBatches(TABLE, InputTransform((16, 16)), seed=seed, augment=Augment(mixup=1.0))
        return batches.batch(Rows(epoch, number, (0, 1, 2, 3), epoch))

    assert torch.equal(batch(0, 1, 2).images, batch(0, 1, 2).images)
    for other in (batch(1, 1, 2), batch(0, 2, 2), batch(0, 1, 3)):
        assert not torch.equal(batch(0, 1, 2).images, other.images)


def test_labels_are_smoothed_by_the_formula():
    for batch in epoch_of(data(label_smoothing=0.3)):
        for probs, label in zip(batch.label_probs.tolist(), batch.labels.tolist(), strict=True):
            assert probs == pytest.approx([0.7 * (k == label) + 0.1 for k in range(3)])


def test_two_processes_together_see_what_one_sees():
    alone = epoch_of(data(), 2)
    ranks = [epoch_of(data(rank=rank, world=2), 2) for rank in range(2)]
    for number, batch in enumerate(alone):
        together = [row for rank in ranks for row in rank[number].index.tolist()]
        assert sorted(together) == sorted(batch.index.tolist())


def test_accumulated_batches_are_shares_of_a_step():
    module = data(batch_size=12, accumulate=3)
    sizes = [len(batch.index) for batch in epoch_of(module)]
    assert sizes[:-1] == [4] * (len(sizes) - 1)
    assert module.steps_per_epoch == -(-len(sizes) // 3)
    assert data().steps_per_epoch == len(data().train_dataloader())


def test_a_batch_size_that_cannot_be_shared_is_an_error():
    with pytest.raises(ConfigError, match=r"batch_size: 8 rows.*multiple of 6"):
        data(world=2, accumulate=3)


def test_weights_and_class_counts_come_from_the_table():
    weights = np.linspace(0, 1, 60, dtype=np.float32)
    module = data(replace(TABLE, weights=weights))
    for batch in epoch_of(module):
        assert batch.weights.tolist() == weights[batch.index.numpy()].tolist()
    assert labelled_counts(TABLE, PARTS) == [int((TABLE.labels[PARTS.train] == k).sum()) for k in range(3)]


class Seen(pl.LightningModule):
    """Notes the rows of each training batch, by epoch."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: dict[int, list[int]] = {}

    def training_step(self, batch: dict[str, Batch], batch_idx: int) -> Any:
        self.seen.setdefault(self.current_epoch, []).extend(batch["target"].index.tolist())
        return self.layer(batch["target"].images.mean().view(1, 1)).sum()

    def validation_step(self, batch: dict[str, Batch], batch_idx: int) -> None:
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings("ignore::pytorch_lightning.utilities.warnings.PossibleUserWarning")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_lightning_sets_the_epoch_from_the_start_and_after_a_resume(tmp_path, workers):
    def run(epochs: int, resume: str | None = None) -> Seen:
        torch.manual_seed(0)
        model = Seen()
        trainer = pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            use_distributed_sampler=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(model, datamodule=data(workers=workers), ckpt_path=resume, weights_only=True)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")
        return model

    whole = run(3).seen
    assert all(sorted(rows) == PARTS.train.tolist() for rows in whole.values())
    assert whole[0] != whole[1] != whole[2]
    assert run(1).seen == {0: whole[0]}
    assert run(3, str(tmp_path / "1.ckpt")).seen == {1: whole[1], 2: whole[2]}


def test_shared_keys_are_taken_out_of_the_node():
    options, reader = separate({"_target_": "x.Y", "rows": 5, "workers": 2, "split": {"test": 0.5}})
    assert options == DataOptions(split=Split(test=0.5), workers=2)
    assert reader == {"_target_": "x.Y", "rows": 5}
