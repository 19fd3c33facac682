"""The synthetic game: settings, neurons, and the images that each neuron is explained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from benchmarks.common.basis import Rotation, basis_rotation
from benchmarks.common.methods import Neuron, Problem, randomized
from benchmarks.synthetic_game.admission import AdmissionCounts, Thresholds, admitted_pairs
from benchmarks.synthetic_game.pairs import (
    PART_KINDS,
    FactorialPair,
    PairCondition,
    compose_gallery,
    compose_pair,
    sample_gallery,
    sample_pair,
)
from benchmarks.synthetic_game.planted import PLANTED_KINDS, PLANTED_LAYER, planted_colors, planted_network
from captum_shared.encoder import LatentEncoder, encode_images
from captum_shared.readout import fit_readout
from captum_shared.synthetic import DEMO_LAYER, KINDS, Scene, demo_network, render, render_scenes

Masks = dict[str, np.ndarray]

BASELINE = 0.8  # mean brightness of the images; black would put heat on every bright background
DRIVING_KINDS = {"planted": PLANTED_KINDS, "trained": ("head", "ear", "limb", "tail", "wing", "wheel", "post")}
"""Kinds that P, Q, D and N are drawn from; of the trained network those that it detects well."""
THRESHOLDS = {"planted": Thresholds(), "trained": Thresholds(shared=0.10)}
"""The trained network's detectors overlap: at a tolerance of 5 % hardly a pair is admitted."""
LEAST_DROP_OFF_BALANCE = 0.12
"""Removing a part with a quarter of the other's weight cannot lower the response by 30 %, but by 20 % at most."""
GALLERY = 200
MAX_TRIES = 250
"""Pairs drawn for each one needed."""


@dataclass(frozen=True)
class Setting:
    """A condition of the benchmark.

    Attributes
    ----------
    name : str
    network : {"planted", "trained"}
    condition : PairCondition
        Of the planted network's images. The trained network has its own kind of images, with parts on bodies.
    ratio : float
        Effect of Q over the effect of P on the response, on average over images.
    cells : int
        1: latents pooled over all positions; g: over a g x g grid, flattened.
    degrees : float
        Rotation of the latent basis.
    ceiling : float, optional
        Correlation of the noisy responses that the readout is fitted to with the true ones. Default: the true readout.
    by_similarity : bool
        Whether pairs are admitted by the dot similarity, too, and not by responses alone.
    methods : {"few", "rules", "grid", "all"}
        Which methods run.
    """

    name: str
    network: str
    condition: PairCondition = field(default_factory=PairCondition)
    ratio: float = 1.0
    cells: int = 1
    degrees: float = 0.0
    ceiling: float | None = None
    by_similarity: bool = False
    methods: str = "few"


def settings(cells: int = 1) -> list[Setting]:
    """All conditions: both networks as they are, then one axis at a time; or those of latents that are a grid."""
    if cells == 1:
        return _settings()
    grid, turned = f"grid {cells}x{cells}", ", rotation 90 degrees"
    kept = PairCondition(position="same")
    return [
        *(Setting(f"{grid}{name}", network, cells=cells, degrees=degrees, methods="grid")
          for network in ("planted", "trained") for name, degrees in (("", 0.0), (turned, 90.0))),
        Setting(f"{grid}, positions kept", "planted", kept, cells=cells, methods="grid"),
        Setting(f"{grid}, positions kept{turned}", "planted", kept, cells=cells, degrees=90.0, methods="grid"),
    ]  # fmt: skip


def _settings() -> list[Setting]:
    planted = [
        *(Setting(f"weight ratio Q/P {r:g}", "planted", ratio=r) for r in (0.25, 0.5, 2.0, 4.0)),
        *(Setting(f"part size Q/P {s:g}", "planted", PairCondition(size_ratio=s)) for s in (0.7, 1.4)),
        Setting("positions kept", "planted", PairCondition(position="same")),
        *(Setting(f"scale of references {s:g}", "planted", PairCondition(scale=s)) for s in (0.7, 1.3)),
        *(Setting(f"occlusion {o:g}", "planted", PairCondition(occlusion=o)) for o in (0.3, 0.5)),
        *(Setting(f"clutter {c}", "planted", PairCondition(clutter=c)) for c in (0, 24)),
        Setting("spatial pooling 2x2, positions kept", "planted", PairCondition(position="same"), cells=2),
    ]
    both = []
    for network in ("planted", "trained"):
        both += [Setting(f"rotation {a:g} degrees", network, degrees=a, methods="rules") for a in (30, 90)]
        both.append(Setting("admitted by similarity, too", network, by_similarity=True, methods="rules"))
        both += [Setting(f"readout refitted at ceiling {c:g}", network, ceiling=c) for c in (0.9, 0.6)]
    trained = [Setting(f"weight ratio Q/P {r:g}", "trained", ratio=r) for r in (0.5, 2.0)]
    base = [Setting("base", network, methods="all") for network in ("planted", "trained")]
    return base + planted + both + trained


@dataclass(frozen=True)
class Case:
    """An admitted pair, rendered: a problem for each reference, with the masks of all images.

    `other` is the neuron of the readout swap: D and N drive it, P and Q do not.
    """

    other: Neuron
    problems: tuple[Problem, Problem]
    masks: Masks
    reference_masks: tuple[Masks, Masks]


def make_neuron(
    setting: Setting, index: int, n_cases: int, seed: int, device: str
) -> tuple[Neuron, list[Case], AdmissionCounts]:
    """The `index`-th neuron of a setting, its admitted cases and how many pairs were rejected.

    The random numbers depend on the seed and the index only: conditions differ in what they vary, not in the draw.
    """
    plain = replace(setting, name="", degrees=0.0, ceiling=None, methods="")
    latents, weights, pairs, counts = _draw(plain, index, n_cases, seed)
    encoder, _ = _network(setting)
    if setting.ceiling is not None:
        refitted = _refitted(latents, weights[:-1], setting.ceiling, np.random.default_rng([seed, index, 3]))
        weights = torch.cat([refitted, weights[-1:]])
    if setting.degrees:
        cells = setting.cells**2  # the channels turn, in each cell alike
        rotation = basis_rotation(latents.shape[1] // cells, setting.degrees, seed=index)
        rotation = torch.kron(rotation, torch.eye(cells))
        encoder.transform = Rotation(rotation)
        latents, weights = latents @ rotation.T, weights @ rotation.T
    weight, *others, stranger = weights.to(device)
    random = randomized(encoder, seed + index)
    neuron = Neuron(encoder.to(device), weight, stranger, latents.to(device), random.to(device), BASELINE)
    others = [replace(neuron, weight=own) for own in others]
    return neuron, _cases(pairs, others, np.random.default_rng([seed, index, 4]), device), counts


@lru_cache(maxsize=256)
def _draw(
    setting: Setting, index: int, n_cases: int, seed: int
) -> tuple[Tensor, Tensor, list[FactorialPair], AdmissionCounts]:
    """What rotations and refitted readouts have in common with the neuron as it is.

    Latents of the gallery; readouts of the neuron, of the other one of each pair, and of one that is driven by two
    further kinds; the admitted pairs and their counts.
    """
    rng = np.random.default_rng([seed, index])
    p, q, r, s = (str(kind) for kind in rng.permutation(DRIVING_KINDS[setting.network])[:4])
    encoder, kinds = _network(setting)
    plain = replace(setting, ratio=1.0, condition=PairCondition(clutter=setting.condition.clutter))
    latents, presence = _gallery(plain, (p, q), index, seed)
    gains = _gains(latents, presence, setting)
    weight = _readout({p: 1.0, q: setting.ratio}, gains, setting)

    def draw(k: int) -> FactorialPair:
        return _pair(setting, p, q, np.random.default_rng([seed, index, 2, k]), kinds)

    def other(pair: FactorialPair) -> Tensor:
        return _readout({pair.d: 1.0, pair.n: 1.0}, gains, setting)

    pairs, counts = admitted_pairs(
        draw, n_cases, encoder, weight, other_weight=other, thresholds=_thresholds(setting),
        by_similarity=setting.by_similarity, max_tries=MAX_TRIES,
    )  # fmt: skip
    weights = [weight, *(other(pair) for pair in pairs), _readout({r: 1.0, s: 1.0}, gains, setting)]
    return latents, torch.stack(weights), pairs, counts


def _network(setting: Setting) -> tuple[LatentEncoder, Sequence[str]]:
    pool = "avg" if setting.cells == 1 else setting.cells
    if setting.network == "planted":
        return LatentEncoder(planted_network().requires_grad_(False), PLANTED_LAYER, pool), PLANTED_KINDS
    return LatentEncoder(demo_network().requires_grad_(False), DEMO_LAYER, pool), PART_KINDS


def _pair(setting: Setting, p: str, q: str, rng: np.random.Generator, kinds: Sequence[str]) -> FactorialPair:
    if setting.network == "trained":
        return compose_pair(p, q, rng, kinds=DRIVING_KINDS["trained"])
    return sample_pair(p, q, rng, condition=setting.condition, kinds=kinds, colors=planted_colors())


@lru_cache(maxsize=256)
def _gallery(setting: Setting, preferred: tuple[str, str], index: int, seed: int) -> tuple[Tensor, Tensor]:
    """Latents (n, D) and presence of kinds of images that a neuron's responses are known for."""
    rng = np.random.default_rng([seed, index, 1])
    encoder, kinds = _network(setting)
    if setting.network == "trained":
        scenes = compose_gallery(GALLERY, preferred, rng, kinds=kinds)
    else:
        colors = planted_colors()
        scenes = sample_gallery(GALLERY, preferred, rng, condition=setting.condition, kinds=kinds, colors=colors)
    gallery = render_scenes(scenes)
    return encode_images(encoder, gallery.images), gallery.presence()


def _detectors(setting: Setting) -> dict[str, Tensor]:
    """Which latents stand for each kind, as weights (D,) that average them: known by construction, or by training."""
    names, channels = (PLANTED_KINDS, 1) if setting.network == "planted" else (tuple(KINDS), 3)
    cells = setting.cells**2
    rows = torch.eye(len(names)).repeat_interleave(channels * cells, dim=1) / (channels * cells)
    return dict(zip(names, rows, strict=True))


def _gains(latents: Tensor, presence: Tensor, setting: Setting) -> dict[str, float]:
    """How much each detector's output rises on average when its kind is in the image."""
    gains = {}
    for kind, row in _detectors(setting).items():
        present = presence[:, list(KINDS).index(kind)] > 0
        if present.any():
            gains[kind] = float((latents[present] @ row).mean() - (latents[~present] @ row).mean())
    return gains


def _readout(effects: dict[str, float], gains: dict[str, float], setting: Setting) -> Tensor:
    """A readout to which each kind adds its effect, on average."""
    rows = _detectors(setting)
    return torch.stack([effect / gains[kind] * rows[kind] for kind, effect in effects.items()]).sum(0)


def _thresholds(setting: Setting) -> Thresholds:
    limits = THRESHOLDS[setting.network]
    balanced = setting.ratio == 1 and setting.condition.size_ratio == 1
    return limits if balanced else Thresholds(LEAST_DROP_OFF_BALANCE, limits.silent, limits.shared)


def _refitted(latents: Tensor, weights: Tensor, ceiling: float, rng: np.random.Generator) -> Tensor:
    """The readouts (K, D) that the library's default fit finds from noisy responses to the gallery."""
    responses = (latents @ weights.T).double().numpy()
    noise = rng.standard_normal(responses.T.shape).T * responses.std(axis=0) * np.sqrt(1 / ceiling**2 - 1)
    return fit_readout(latents, responses + noise).readout.weight.detach().to(weights)


def _cases(
    pairs: Sequence[FactorialPair], others: Sequence[Neuron], rng: np.random.Generator, device: str
) -> list[Case]:
    references = [[_images(family, device) for family in (pair.references_a, pair.references_b)] for pair in pairs]
    cases = []
    for k, pair in enumerate(pairs):
        image, masks = render(pair.query)
        strangers = [family for j, own in enumerate(references) if j != k for family in own] or references[k]
        problems = [
            Problem(image[None].to(device), own, strangers[int(rng.integers(len(strangers)))]) for own in references[k]
        ]
        own = tuple(_reference_masks(scenes[0], role, pair.d)
                    for scenes, role in ((pair.references_a, pair.p), (pair.references_b, pair.q)))  # fmt: skip
        query_masks = {role: masks[getattr(pair, role)] for role in "pqdn"}
        cases.append(Case(others[k], (problems[0], problems[1]), query_masks, (own[0], own[1])))
    return cases


def _images(scenes: Sequence[Scene], device: str) -> Tensor:
    return torch.stack([render(scene)[0] for scene in scenes]).to(device)


def _reference_masks(scene: Scene, target: str, d: str) -> Masks:
    masks = render(scene)[1]
    other = [masks[kind] for kind in masks if kind in PART_KINDS and kind not in (target, d)]
    return {"target": masks[target], "d": masks[d]} | ({"other": other[0]} if other else {})
