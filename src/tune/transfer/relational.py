from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, final

import torch
from torch.nn import functional as F

from tune.errors import ConfigError, Problem
from tune.losses.interface import loss_terms
from tune.ranges import Range
from tune.transfer.distill import refuse_mixed
from tune.transfer.interface import Transfer, labelled
from tune.transfer.teacher import by_row, find_teacher

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch
    from tune.data.module import ImageData
    from tune.models.interface import Backbone
    from tune.models.network import Network
    from tune.transfer.interface import Sight

_NO_DIRECTION = 1e-4  # rows nearer to each other, in mean distances, are the same but for rounding


@final
class Relational(Transfer):
    """The run's loss, and beside it how far apart, and in which directions, a teacher sees the rows of a batch.

    Terms: those of ``loss``, "distance" and "angle", each its strength times the mean of Huber's loss of student minus
    teacher: half the square of differences up to 1, linear beyond. "distance" compares the distances of all pairs of
    rows, each over the batch's mean distance; "angle" the cosines of the angles at b between a and c, of all triplets.
    Neither changes when an embedding is moved, turned or scaled, so teacher and student may differ in dimension, and a
    run that teaches may tell other classes. ``batch.weights`` and labels reach ``loss`` alone.

    They read the student's embedding (what its last linear layer sees), and the teacher's; of a backbone alone its
    features. Angles take B³ numbers of a batch, and B² · E to get there: fine up to a batch_size of about 128.
    A batch of one row has no distance, one of two no angle. Angles of rows that coincide are left out.

    The teacher is asked once, of the plain images (see `tune.transfer.teacher`).

    Source: Park et al. 2019, "Relational Knowledge Distillation", section 3.2. We take means over pairs and triplets of
    different rows, they sums; their code takes means over rows paired with themselves too. The strengths are those with
    which classifiers are commonly distilled so, as in Tian et al. 2020, "Contrastive Representation Distillation".

    Args:
        teacher: ``run:ID``, or a backbone: ``backbone@transfer.teacher=efficientnet_lite2``.
        distance: strength of the distances.
        angle: strength of the angles.
        output: folder below which runs are looked for.

    Raises:
        ConfigError: if both strengths are 0; by `refuse`, if there is no such teacher, or images are mixed.
    """

    shapes_embedding = True

    def __init__(
        self,
        teacher: str | Backbone,
        distance: Annotated[float, Range("[0, inf)")] = 25.0,
        angle: Annotated[float, Range("[0, inf)")] = 50.0,
        output: str = "outputs",
    ) -> None:
        if not distance and not angle:
            raise ConfigError(Problem("transfer", "distance and angle are both 0: nothing is learned from the teacher"))
        self.named: Any = teacher
        self.distance, self.angle, self.output = distance, angle, output

    def refuse(self, network: Network, loss: Any, data: ImageData) -> None:
        """Find the teacher."""
        super().refuse(network, loss, data)
        refuse_mixed(data)
        self.teacher = find_teacher(self.named, data, self.output)

    def prepare(self, sight: Sight) -> list[str]:
        """Ask the teacher of every training row."""
        index, said = self.teacher.ask(sight)
        if self.teacher.network is not None:
            said = self.teacher.judge(said).embedding.float()
        self.said = by_row(index, said, len(sight.data.table))
        return [f"teacher   {self.teacher.about}: {said.shape[1]:,} dimensions", *self.teacher.notes(sight.data)]

    def terms(self, network: Network, batches: dict[str, Batch], progress: float) -> dict[str, Tensor]:
        batch = labelled(batches)
        output = network(batch.images)
        self.said = self.said.to(output.embedding.device)
        terms = loss_terms(self.loss, output, batch)
        with torch.autocast(output.embedding.device.type, enabled=False):  # angles are matrix products
            student, teacher = output.embedding.float(), self.said[batch.index]
            if self.distance:
                terms["distance"] = self.distance * between_distances(student, teacher)
            if self.angle:
                terms["angle"] = self.angle * between_angles(student, teacher)
        return terms


def between_distances(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over pairs of rows of Huber's loss between distances, each over its mean; of (B, E) and (B, any)."""
    (ours, _), (theirs, _) = _apart(student), _apart(teacher)
    return _mean(F.huber_loss(ours, theirs, reduction="none"), _others(student))


def between_angles(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over triplets of rows of Huber's loss between cosines of angles, of (B, E) and (B, any)."""
    (ours, unit), (theirs, their_unit) = _apart(student), _apart(teacher)
    turned = (ours > _NO_DIRECTION) & (theirs > _NO_DIRECTION)  # (B, B); no row has a direction from itself
    triplets = turned[:, :, None] & turned[:, None, :] & _others(student)  # (B, B, B), the first is the vertex
    cosines = (each @ each.transpose(1, 2) for each in (unit, their_unit))
    return _mean(F.huber_loss(*cosines, reduction="none"), triplets)


def _apart(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (B, B) over their mean, and directions (B, B, E), from the first row to the second, of rows (B, E)."""
    differences = rows[None] - rows[:, None]
    lengths = torch.linalg.vector_norm(differences, dim=2)  # its gradient at 0 is 0, that of a root is not
    mean = lengths.sum() / max(1, len(rows) * (len(rows) - 1))
    distances = lengths / mean.clamp_min(torch.finfo(rows.dtype).tiny)
    safe = lengths.where(distances > _NO_DIRECTION, torch.ones_like(lengths))
    return distances, differences / safe[:, :, None]


def _others(rows: Tensor) -> Tensor:
    """(B, B), whether two rows are different ones."""
    return ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)


def _mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of those that count; 0 if none does."""
    return (values * counted).sum() / counted.sum().clamp_min(1)
