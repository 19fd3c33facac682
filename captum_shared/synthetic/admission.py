"""Causal admission: a factorial pair counts only if removing its parts shows that they play their roles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from captum_shared.synthetic.images import SIZE, render
from captum_shared.synthetic.pairs import FactorialPair, without_parts

LatentFunction = Callable[[Tensor], Tensor]
"""Images (n, 3, size, size) to latents (n, D)."""

REASONS = (
    "part invisible", "no response", "P does not drive", "Q does not drive", "D drives",
    "P not shared with A", "Q shared with A", "Q not shared with B", "P shared with B",
)  # fmt: skip


@dataclass(frozen=True)
class Thresholds:
    """When removals count as having, or not having, an effect; all are shares of the whole.

    Attributes
    ----------
    drives : float
        Removing P, or Q, lowers the response by at least this share of the response to all parts.
    silent : float
        Removing D changes the response by at most this share.
    shared : float
        Removing P lowers the similarity to A by more than this share, removing Q by no more; likewise for B.
    """

    drives: float = 0.30
    silent: float = 0.05
    shared: float = 0.05


@dataclass
class AdmissionCounts:
    """How many pairs were tried and admitted, and how many failed for each reason (a pair may fail for several)."""

    tried: int = 0
    admitted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, reasons: Sequence[str]) -> None:
        """Count one pair that failed for these reasons, or for none."""
        self.tried += 1
        self.admitted += not reasons
        self.rejected.update(reasons)


@torch.no_grad()
def rejection_reasons(
    pair: FactorialPair,
    latent_fn: LatentFunction,
    weight: Tensor,
    *,
    thresholds: Thresholds | None = None,
    size: int = SIZE,
) -> list[str]:
    """Why a pair is not admitted, after the causal validation of FunnyBirds (Hesse et al., ICCV 2023).

    Every part is removed from the image, all else the same. Responses are measured from that to the image without any
    of the parts (its body and background), so that a readout's bias plays no role. The similarity is the
    neuron's, sum_k w_k z_k(x) z_k(y), to the first reference of each family.

    Parameters
    ----------
    pair : FactorialPair
    latent_fn : callable
        Images (n, 3, size, size) to latents (n, D).
    weight : Tensor (D,)
        The neuron's readout.
    thresholds : Thresholds, optional
    size : int
        Side of the images in pixels.

    Returns
    -------
    list of str
        Names in :data:`REASONS`; empty if the pair is admitted.
    """
    limits = thresholds or Thresholds()
    if not _all_visible(pair, size):
        return ["part invisible"]
    drops, to_a, to_b = _drops(pair, latent_fn, weight, size)
    if drops is None:
        return ["no response"]
    failures = {
        "P does not drive": drops["p"] < limits.drives,
        "Q does not drive": drops["q"] < limits.drives,
        "D drives": abs(drops["d"]) > limits.silent,
        "P not shared with A": to_a["p"] <= limits.shared,
        "Q shared with A": to_a["q"] > limits.shared,
        "Q not shared with B": to_b["q"] <= limits.shared,
        "P shared with B": to_b["p"] > limits.shared,
    }
    return [reason for reason, failed in failures.items() if failed]


def admitted_pairs(
    draw: Callable[[int], FactorialPair],
    n: int,
    latent_fn: LatentFunction,
    weight: Tensor,
    *,
    thresholds: Thresholds | None = None,
    max_tries: int = 50,
    size: int = SIZE,
) -> tuple[list[FactorialPair], AdmissionCounts]:
    """The first `n` pairs that are admitted, and the counts of those that were not.

    Parameters
    ----------
    draw : callable
        0, 1, 2 ... to a pair.
    n : int
        How many are wanted; fewer are returned if `max_tries` times `n` draws do not suffice.
    latent_fn, weight, thresholds, size
        As in `rejection_reasons`.
    """
    pairs: list[FactorialPair] = []
    counts = AdmissionCounts()
    while len(pairs) < n and counts.tried < n * max_tries:
        pair = draw(counts.tried)
        reasons = rejection_reasons(pair, latent_fn, weight, thresholds=thresholds, size=size)
        counts.add(reasons)
        if not reasons:
            pairs.append(pair)
    return pairs, counts


def _all_visible(pair: FactorialPair, size: int) -> bool:
    wanted = ((pair.query, (pair.p, pair.q, pair.d, pair.n)), (pair.references_a[0], (pair.p, pair.d)),
              (pair.references_b[0], (pair.q, pair.d)))  # fmt: skip
    return all(set(kinds) <= set(render(scene, size)[1]) for scene, kinds in wanted)


def _drops(
    pair: FactorialPair, latent_fn: LatentFunction, weight: Tensor, size: int
) -> tuple[dict[str, float] | None, dict[str, float], dict[str, float]]:
    """Drops of the response, of the similarity to A and to B when P, Q or D is removed, as shares of the whole."""
    query = pair.query
    scenes = [query, without_parts(query), *(query.without(kind) for kind in (pair.p, pair.q, pair.d))]
    scenes += [pair.references_a[0], pair.references_b[0]]
    z = latent_fn(torch.stack([render(scene, size)[0] for scene in scenes]))
    response, similarity_a, similarity_b = (z[:5] @ (weight.to(z) * y) for y in (torch.ones_like(z[0]), z[5], z[6]))
    whole = response[0] - response[1]
    if not bool(whole > 0):
        return None, {}, {}
    return (
        _shares(response, float(whole)),
        _shares(similarity_a, float(similarity_a[0].abs())),
        _shares(similarity_b, float(similarity_b[0].abs())),
    )


def _shares(values: Tensor, whole: float) -> dict[str, float]:
    return {name: float(values[0] - values[i]) / max(whole, 1e-12) for name, i in (("p", 2), ("q", 3), ("d", 4))}
