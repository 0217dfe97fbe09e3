from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Any, final

from torch import nn

from tune.errors import ConfigError, Problem
from tune.losses.interface import Loss, SeveralTerms, loss_terms
from tune.ranges import Range

if TYPE_CHECKING:
    from torch import Tensor

    from tune.batch import Batch, Output


@final
class Mixture(SeveralTerms, nn.Module):
    """Several losses, each times a factor. Terms of the same name are added up.

    Args:
        parts: name → a loss of its own; what embedding losses have of cross-entropy is switched off by
            ``cross_entropy: 0`` in the part.
        factors: name of a part → factor; 1 where there is none.

    Raises:
        ConfigError: if there is no part, a factor has no part, or two parts ask for different batches.
    """

    def __init__(
        self, parts: dict[str, Any], factors: dict[str, Annotated[float, Range("(0, inf)")]] | None = None
    ) -> None:
        super().__init__()
        factors = factors or {}
        unknown = [Problem(f"loss.factors.{name}", f"no part is called so: {', '.join(parts)}") for name in factors]
        if problems := [problem for name, problem in zip(factors, unknown, strict=True) if name not in parts]:
            raise ConfigError(*problems)
        if not parts:
            raise ConfigError("loss.parts: a mixture needs a loss at least.")
        self.parts: list[tuple[float, Loss]] = [(factors.get(name, 1.0), part) for name, part in parts.items()]
        self.modules_of_parts = nn.ModuleList([part for part in parts.values() if isinstance(part, nn.Module)])
        several = [part for part in parts.values() if isinstance(part, SeveralTerms)]
        self.shapes_embedding = any(part.shapes_embedding for part in several)
        asked = {part.rows_per_class for part in several if part.rows_per_class}
        if len(asked) > 1:
            raise ConfigError(f"loss.parts: ask for {' and '.join(map(str, sorted(asked)))} rows per class; take one.")
        self.rows_per_class = max(asked, default=0)

    def terms(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Terms of all parts, each times its factor. What the parts read: labels, or batch.label_probs."""
        found: dict[str, Any] = defaultdict(float)
        for factor, part in self.parts:
            for name, value in loss_terms(part, output, batch).items():
                found[name] = found[name] + factor * value
        return dict(found)
