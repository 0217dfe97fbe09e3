"""Whether labels of the validation rows look wrong: some of them against what the network is sure of, however sure.

Two models of what the network says, each with a temperature T, since networks are more or less sure than they should
be (Guo et al. 2017):

    clean    p(label) = softmax(log p / T)
    flipped  p(label) = (1 - e) softmax(log p / T) + e / K       a share of the labels is drawn at random

A network that is merely too sure is made right by T: the surest rows are still the rightest. Wrong labels are as
frequent among the surest rows as anywhere, which only e can explain. Twice the difference of log-likelihoods says how
much better it does.
"""

from __future__ import annotations

from dataclasses import dataclass

from tune.report.story import Predicted

_CELLS = 400_000
"""Numbers that are looked at; of more rows, every second, third …: 0.3 s."""


@dataclass(frozen=True)
class Flipped:
    """What speaks for wrong labels.

    Args:
        errors: by how many standard errors the second model is the better one, ``sqrt(2 Δ log-likelihood)``.
        share: of the labels that are wrong, by it.
        wrong: share of the rows whose label the network does not predict.
        names: rows whose labels most probably are, the likeliest first.
    """

    errors: float
    share: float
    wrong: float
    names: list[str]


def look_for_flips(val: Predicted, count: int = 5) -> Flipped:
    """Fit both models.

    Args:
        val: rows with their labels; at least one.
        count: number of rows that are named.
    """
    import numpy as np

    step = -(-len(val.labels) * len(val.probs[0]) // _CELLS)
    probs, labels = np.array(val.probs[::step]), np.array(val.labels[::step])  # (N, K), (N,)
    logits = np.log(probs.clip(5e-7))
    rows, classes = np.arange(len(labels)), logits.shape[1]
    temperatures, shares = np.geomspace(0.25, 20, 30), np.linspace(0, 0.6, 61)
    likelihood = np.empty((len(temperatures), len(shares)))
    own = np.empty((len(temperatures), len(labels)))
    for i, temperature in enumerate(temperatures):
        q = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
        own[i] = (q / q.sum(axis=1, keepdims=True))[rows, labels]
        for j, e in enumerate(shares):
            likelihood[i, j] = np.log((1 - e) * own[i] + e / classes + 1e-12).sum()
    i, j = np.unravel_index(likelihood.argmax(), likelihood.shape)
    gain = 2 * (likelihood[i, j] - likelihood[:, 0].max())
    e, wrong = shares[j], probs.argmax(axis=1) != labels
    doubt = np.where(wrong, (e / classes) / ((1 - e) * own[i] + e / classes + 1e-12), 0.0)
    likeliest = doubt.argsort(kind="stable")[::-1][: min(count, int(wrong.sum()))]
    names = [val.names[int(row) * step] for row in likeliest]
    return Flipped(float(gain) ** 0.5, float(e) * (1 - 1 / classes), float(wrong.mean()), names)
