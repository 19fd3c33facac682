"""The synthetic game: settings, neurons, and the images that each neuron is explained on."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.rows import Neuron, Problem
from captum_shared.encoder import LatentEncoder, encode_images
from captum_shared.readout import fit_readout
from captum_shared.synthetic import (
    DEMO_LAYER,
    KINDS,
    PART_KINDS,
    PLANTED_KINDS,
    PLANTED_LAYER,
    AdmissionCounts,
    FactorialPair,
    PairCondition,
    Rotation,
    Scene,
    Thresholds,
    admitted_pairs,
    basis_rotation,
    compose_gallery,
    compose_pair,
    demo_network,
    planted_colors,
    planted_network,
    render,
    render_scenes,
    sample_gallery,
    sample_pair,
)

Masks = dict[str, np.ndarray]

BASELINE = 0.8  # mean brightness of the images; black would put heat on every bright background
DRIVING_KINDS = {"planted": PLANTED_KINDS, "trained": ("head", "ear", "limb", "tail", "wing", "wheel", "post")}
"""Kinds that P and Q are drawn from; of the trained network those that it detects well."""
THRESHOLDS = {"planted": Thresholds(), "trained": Thresholds(shared=0.10)}
"""The trained network's detectors overlap: at a tolerance of 5 % hardly a pair is admitted."""
LEAST_DROP_OFF_BALANCE = 0.12
"""Removing a part with a quarter of the other's weight cannot lower the response by 30 %, but by 20 % at most."""
GALLERY = 200


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
    all_rows : bool
        Whether all methods run, or the most important only.
    """

    name: str
    network: str
    condition: PairCondition = field(default_factory=PairCondition)
    ratio: float = 1.0
    cells: int = 1
    degrees: float = 0.0
    ceiling: float | None = None
    all_rows: bool = False


def settings() -> list[Setting]:
    """All conditions: both networks as they are, then one axis at a time."""
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
        both += [Setting(f"rotation {a:g} degrees", network, degrees=a) for a in (15, 30, 45, 90)]
        both += [Setting(f"readout refitted at ceiling {c:g}", network, ceiling=c) for c in (0.9, 0.6)]
    trained = [Setting(f"weight ratio Q/P {r:g}", "trained", ratio=r) for r in (0.5, 2.0)]
    base = [Setting("base", network, all_rows=True) for network in ("planted", "trained")]
    return base + planted + both + trained


@dataclass(frozen=True)
class Case:
    """An admitted pair, rendered: a problem for each reference, with the masks of all images."""

    problems: tuple[Problem, Problem]
    masks: Masks
    reference_masks: tuple[Masks, Masks]


def make_neuron(
    setting: Setting, index: int, n_cases: int, seed: int, device: str
) -> tuple[Neuron, list[Case], AdmissionCounts]:
    """The `index`-th neuron of a setting, its admitted cases and how many pairs were rejected.

    The random numbers depend on the seed and the index only: conditions differ in what they vary, not in the draw.
    """
    drawn = _draw(replace(setting, name="", degrees=0.0, ceiling=None, all_rows=False), index, n_cases, seed)
    encoder, _ = _network(setting)
    latents, weight, other = drawn.latents, drawn.weight, drawn.other_weight
    if setting.ceiling is not None:
        weight = _refitted(latents, weight, setting.ceiling, np.random.default_rng([seed, index, 3]))
    if setting.degrees:
        rotation = basis_rotation(latents.shape[1], setting.degrees, seed=index)
        encoder.transform = Rotation(rotation)
        latents, weight, other = latents @ rotation.T, rotation @ weight, rotation @ other
    random = deepcopy(encoder)
    _randomise(random, seed + index)
    layer = encoder.body.get_submodule(f"extractor.{encoder.layer}")
    values = (encoder.to(device), layer, weight.to(device), other.to(device), latents.to(device), random.to(device))
    cases = _cases(drawn.pairs, np.random.default_rng([seed, index, 4]), device)
    return Neuron(*values, BASELINE), cases, drawn.counts


@dataclass(frozen=True)
class _Drawn:
    """What rotations and refitted readouts have in common with the neuron as it is."""

    latents: Tensor
    weight: Tensor
    other_weight: Tensor
    pairs: list[FactorialPair]
    counts: AdmissionCounts


@lru_cache(maxsize=256)
def _draw(setting: Setting, index: int, n_cases: int, seed: int) -> _Drawn:
    rng = np.random.default_rng([seed, index])
    p, q, r, s = (str(kind) for kind in rng.permutation(DRIVING_KINDS[setting.network])[:4])
    encoder, kinds = _network(setting)
    scenes = _gallery(setting, GALLERY, (p, q), np.random.default_rng([seed, index, 1]), kinds)
    gallery = render_scenes(scenes)
    latents = encode_images(encoder, gallery.images)
    gains = _gains(latents, gallery.presence(), setting)
    weight = _readout({p: 1.0, q: setting.ratio}, gains, setting)

    def draw(k: int) -> FactorialPair:
        return _pair(setting, p, q, np.random.default_rng([seed, index, 2, k]), kinds)

    pairs, counts = admitted_pairs(draw, n_cases, encoder, weight, thresholds=_thresholds(setting))
    return _Drawn(latents, weight, _readout({r: 1.0, s: 1.0}, gains, setting), pairs, counts)


def _network(setting: Setting) -> tuple[LatentEncoder, Sequence[str]]:
    pool = "avg" if setting.cells == 1 else setting.cells
    if setting.network == "planted":
        network = planted_network().requires_grad_(False)
        return LatentEncoder(network, PLANTED_LAYER, pool), PLANTED_KINDS
    network = demo_network().requires_grad_(False)
    return LatentEncoder(network, DEMO_LAYER, pool), PART_KINDS


def _pair(setting: Setting, p: str, q: str, rng: np.random.Generator, kinds: Sequence[str]) -> FactorialPair:
    if setting.network == "trained":
        return compose_pair(p, q, rng, kinds=kinds)
    return sample_pair(p, q, rng, condition=setting.condition, kinds=kinds, colors=planted_colors())


def _gallery(
    setting: Setting, n: int, preferred: Sequence[str], rng: np.random.Generator, kinds: Sequence[str]
) -> list[Scene]:
    if setting.network == "trained":
        return compose_gallery(n, preferred, rng, kinds=kinds)
    return sample_gallery(n, preferred, rng, condition=setting.condition, kinds=kinds, colors=planted_colors())


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


def _refitted(latents: Tensor, weight: Tensor, ceiling: float, rng: np.random.Generator) -> Tensor:
    """The readout that the library's default fit finds from noisy responses to the gallery."""
    response = (latents @ weight).double().numpy()
    noise = rng.standard_normal(len(response)) * response.std() * np.sqrt(1 / ceiling**2 - 1)
    return fit_readout(latents, response + noise).readout.weight[0].detach().to(weight)


def _randomise(encoder: nn.Module, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in encoder.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()


def _cases(pairs: Sequence[FactorialPair], rng: np.random.Generator, device: str) -> list[Case]:
    references = [[_images(family, device) for family in (pair.references_a, pair.references_b)] for pair in pairs]
    cases = []
    for k, pair in enumerate(pairs):
        image, masks = render(pair.query)
        others = [other for j, own in enumerate(references) if j != k for other in own] or references[k]
        problems = [
            Problem(image[None].to(device), own, others[int(rng.integers(len(others)))]) for own in references[k]
        ]
        own = tuple(_reference_masks(scenes[0], role, pair.d)
                    for scenes, role in ((pair.references_a, pair.p), (pair.references_b, pair.q)))  # fmt: skip
        query_masks = {role: masks[getattr(pair, role)] for role in "pqdn"}
        cases.append(Case((problems[0], problems[1]), query_masks, (own[0], own[1])))
    return cases


def _images(scenes: Sequence[Scene], device: str) -> Tensor:
    return torch.stack([render(scene)[0] for scene in scenes]).to(device)


def _reference_masks(scene: Scene, target: str, d: str) -> Masks:
    masks = render(scene)[1]
    other = [masks[kind] for kind in masks if kind in PART_KINDS and kind not in (target, d)]
    return {"target": masks[target], "d": masks[d]} | ({"other": other[0]} if other else {})
