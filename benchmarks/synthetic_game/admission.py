"""Causal admission: a factorial pair counts only if removing its parts shows that they play their roles."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.synthetic_game.pairs import FactorialPair, without_parts
from captum_shared.synthetic.images import render

LatentFunction = Callable[[Tensor], Tensor]
"""Images (n, 3, size, size) to latents (n, D)."""


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


def rejection_reasons(
    pair: FactorialPair,
    latent_fn: LatentFunction,
    weight: Tensor,
    *,
    other_weight: Tensor | None = None,
    thresholds: Thresholds | None = None,
    by_similarity: bool = False,
) -> list[str]:
    """Why a pair is not admitted, after the causal validation of FunnyBirds (Hesse et al., ICCV 2023).

    Every part is removed from the image, all else the same. Responses are measured from that to the image without any
    of the parts (its body and background), so that a readout's bias plays no role. That P is shared with A and Q with B
    is so by construction: they are of one kind, and visible in both.

    Parameters
    ----------
    pair : FactorialPair
    latent_fn : callable
        Images (n, 3, size, size) to latents (n, D).
    weight : Tensor (D,)
        The neuron's readout.
    other_weight : Tensor (D,), optional
        The readout of another neuron, for the readout swap: on the same image, against the same references, its heat
        must lie on D. Admitted by the same thresholds with the roles exchanged: D drives it; P and Q do not.
    thresholds : Thresholds, optional
    by_similarity : bool, default False
        Whether what is shared must show in the dot similarity sum_k w_k z_k(x) z_k(y) to the first reference of each
        family, too: removing P lowers that to A and not that to B, and so on. It favours rules that are made of this
        similarity, such as the paper's product.

    Returns
    -------
    list of str
        Such as "Q does not drive", or "other: P drives" of the other neuron; empty if the pair is admitted.
    """
    limits = thresholds or Thresholds()
    latents = _latents(pair, latent_fn)
    if latents is None:
        return ["part invisible"]
    neurons = [(weight, _NEURON)] + ([] if other_weight is None else [(other_weight, _OTHER)])
    return [reason for own, roles in neurons for reason in _reasons(_drops(latents, own), limits, roles, by_similarity)]


def admitted_pairs(
    draw: Callable[[int], FactorialPair],
    n: int,
    latent_fn: LatentFunction,
    weight: Tensor,
    *,
    other_weight: Callable[[FactorialPair], Tensor] | None = None,
    thresholds: Thresholds | None = None,
    by_similarity: bool = False,
    max_tries: int = 50,
) -> tuple[list[FactorialPair], AdmissionCounts]:
    """The first `n` pairs that are admitted, and the counts of those that were not.

    Parameters
    ----------
    draw : callable
        0, 1, 2 ... to a pair.
    n : int
        How many to find; fewer are returned if `max_tries` times `n` draws do not suffice.
    other_weight : callable, optional
        A pair to the other neuron's readout (D,), for the readout swap.
    latent_fn, weight, thresholds, by_similarity
        As in `rejection_reasons`.
    """
    pairs: list[FactorialPair] = []
    counts = AdmissionCounts()
    while len(pairs) < n and counts.tried < n * max_tries:
        pair = draw(counts.tried)
        other = None if other_weight is None else other_weight(pair)
        reasons = rejection_reasons(
            pair, latent_fn, weight, other_weight=other, thresholds=thresholds, by_similarity=by_similarity
        )
        counts.tried += 1
        counts.rejected.update(reasons)
        if not reasons:
            pairs.append(pair)
    counts.admitted = len(pairs)
    return pairs, counts


Drops = tuple[dict[str, float], dict[str, float], dict[str, float]]
"""Drops of the response, of the similarity to A and of that to B, by the part that is removed."""


@dataclass(frozen=True)
class _Roles:
    """Which parts drive a neuron and which do not; for each reference, the part shared with it and the one not."""

    drives: str
    silent: str
    a: tuple[str, str]
    b: tuple[str, str]
    prefix: str = ""


_NEURON = _Roles(drives="pq", silent="d", a=("p", "q"), b=("q", "p"))
_OTHER = _Roles(drives="d", silent="pq", a=("d", "p"), b=("d", "q"), prefix="other: ")


def _reasons(drops: Drops | None, limits: Thresholds, roles: _Roles, by_similarity: bool) -> list[str]:
    if drops is None:
        return [f"{roles.prefix}no response"]
    response, to_a, to_b = drops
    failures = {f"{part.upper()} does not drive": response[part] < limits.drives for part in roles.drives}
    failures |= {f"{part.upper()} drives": abs(response[part]) > limits.silent for part in roles.silent}
    for name, drop, (shared, other) in (("A", to_a, roles.a), ("B", to_b, roles.b)) if by_similarity else ():
        failures[f"{shared.upper()} not shared with {name}"] = drop[shared] <= limits.shared
        failures[f"{other.upper()} shared with {name}"] = drop[other] > limits.shared
    return [f"{roles.prefix}{reason}" for reason, failed in failures.items() if failed]


@torch.no_grad()
def _latents(pair: FactorialPair, latent_fn: LatentFunction) -> Tensor | None:
    """Latents (7, D): the image, without parts, without P, Q and D, and both references; None if a part is hidden."""
    query = pair.query
    drawn = [render(scene) for scene in (query, pair.references_a[0], pair.references_b[0])]
    wanted = ((pair.p, pair.q, pair.d, pair.n), (pair.p, pair.d), (pair.q, pair.d))
    if not all(set(kinds) <= set(masks) for kinds, (_, masks) in zip(wanted, drawn, strict=True)):
        return None
    removed = [without_parts(query), *(query.without(kind) for kind in (pair.p, pair.q, pair.d))]
    image, *references = (image for image, _ in drawn)
    return latent_fn(torch.stack([image, *(render(scene)[0] for scene in removed), *references]))


def _drops(z: Tensor, weight: Tensor) -> Drops | None:
    """When P, Q or D is removed, as shares of the whole; None if the parts do not raise the response."""
    response, to_a, to_b = (z[:5] @ (weight.to(z) * y) for y in (torch.ones_like(z[0]), z[5], z[6]))
    whole = float(response[0] - response[1])
    if not whole > 0:
        return None
    return _shares(response, whole), _shares(to_a, float(to_a[0].abs())), _shares(to_b, float(to_b[0].abs()))


def _shares(values: Tensor, whole: float) -> dict[str, float]:
    return {name: float(values[0] - values[i]) / max(whole, 1e-12) for name, i in (("p", 2), ("q", 3), ("d", 4))}
