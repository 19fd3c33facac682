"""Category neurons on synthetic images, and which parts of a pair drive them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from captum_shared.synthetic.images import SIZE, SyntheticImages, make_images, render
from captum_shared.synthetic.layout import CATEGORIES
from captum_shared.synthetic.network import LABELS, DemoNetwork
from captum_shared.synthetic.scene import Scene

ResponseFunction = Callable[[Tensor], Tensor]
"""Images (n, 3, size, size) to responses (n,): of a neuron, or any other score of an image."""


@dataclass(frozen=True)
class CategoryNeuron:
    """A linear readout of latents: ``response = latents @ weight + bias``.

    Attributes
    ----------
    preferred : str
        The category it prefers.
    weight : torch.Tensor
        (D,), in the basis and scale of the latents that it was fitted on.
    bias : float
    """

    preferred: str
    weight: Tensor
    bias: float

    def __call__(self, latents: Tensor) -> Tensor:
        """Latents (n, D) to responses (n,)."""
        return latents @ self.weight.to(latents) + self.bias


def category_neuron(
    latents: Tensor, categories: Sequence[str], preferred: str, *, alpha: float = 1.0
) -> CategoryNeuron:
    """Fit a readout to membership of one category: ridge regression on 1 (preferred) and 0 (others).

    Both sides count equally, however many images they have. The latents are used as they are: to work with
    standardized latents, standardize them first, and use the weight only with standardized latents.

    Parameters
    ----------
    latents : torch.Tensor
        (n, D), finite.
    categories : sequence of str
        One per row of `latents`.
    preferred : str
        The category to respond to; at least one other must be among `categories`.
    alpha : float
        Ridge penalty, in units of the sum of squares of n equally weighted latents.

    Returns
    -------
    CategoryNeuron

    Raises
    ------
    ValueError
        If shapes disagree, a latent is not finite, or the preferred or the other categories are missing.

    Examples
    --------
    >>> latents = torch.tensor([[1.0, 0.2], [0.9, 0.1], [0.1, 0.3], [0.0, 0.2]])
    >>> neuron = category_neuron(latents, ["creature", "creature", "tool", "tool"], "creature", alpha=0.01)
    >>> (neuron(latents) > 0.5).tolist()
    [True, True, False, False]
    """
    from sklearn.linear_model import Ridge

    if latents.ndim != 2 or len(latents) != len(categories):
        raise ValueError(
            "`latents` must be (n, D) with one category per row, "
            f"got {tuple(latents.shape)} and {len(categories)} categories"
        )
    if not torch.isfinite(latents).all():
        raise ValueError("`latents` must be finite, got NaN or infinity")
    member = np.asarray([category == preferred for category in categories], dtype=np.float64)
    if member.sum() in (0, len(member)):
        raise ValueError(f"`categories` must hold {preferred!r} and others, got {', '.join(sorted(set(categories)))}")
    balance = np.where(member == 1, 0.5 / member.mean(), 0.5 / (1 - member.mean()))
    fit = Ridge(alpha=alpha).fit(latents.detach().cpu().double().numpy(), member, sample_weight=balance)
    return CategoryNeuron(preferred, torch.as_tensor(fit.coef_, dtype=latents.dtype), float(fit.intercept_))


def planted_neuron(network: DemoNetwork, kinds: Mapping[str, float]) -> CategoryNeuron:
    """Make a neuron that is known to respond to kinds of parts: a weighted sum of the network's detectors.

    Parameters
    ----------
    network : DemoNetwork
        Whose detectors to combine.
    kinds : mapping of str to float
        Kind (or category) -> weight.

    Returns
    -------
    CategoryNeuron
        On the network's raw average-pooled latents; its ``preferred`` names the kinds.

    Raises
    ------
    ValueError
        If no kind is given or one is unknown.

    Examples
    --------
    >>> from captum_shared.synthetic import demo_network
    >>> neuron = planted_neuron(demo_network(), {"wheel": 1.0, "lamp": 0.5})
    >>> neuron.preferred, neuron.weight.shape == (demo_network().classifier.in_features,)
    ('wheel+lamp', True)
    """
    if not kinds:
        raise ValueError("`kinds` must give at least one kind and its weight, got none")
    for kind in kinds:
        if kind not in LABELS:
            raise ValueError(f"`kinds` must be among {', '.join(LABELS)}, got {kind!r}")
    rows = [LABELS.index(kind) for kind in kinds]
    gains = torch.tensor(list(kinds.values()))
    weight = gains @ network.classifier.weight.detach()[rows]
    return CategoryNeuron("+".join(kinds), weight, float(gains @ network.classifier.bias.detach()[rows]))


@dataclass(frozen=True)
class DemoImages:
    """The demo's data: a gallery of the preferred category and images of all others.

    Attributes
    ----------
    preferred : str
    gallery, others : SyntheticImages
    """

    preferred: str
    gallery: SyntheticImages
    others: SyntheticImages

    @property
    def images(self) -> Tensor:
        """Gallery, then others, (n, 3, size, size)."""
        return torch.cat([self.gallery.images, self.others.images])

    @property
    def categories(self) -> list[str]:
        """One per image of ``images``."""
        return self.gallery.categories + self.others.categories


def demo_images(
    preferred: str = "creature", *, n_gallery: int = 120, n_others: int = 180, seed: int = 0, size: int = SIZE,
    typical: bool = False,
) -> DemoImages:  # fmt: skip
    """Make a gallery and out-of-category images, none of which the demo network with its default seed was trained on.

    Parameters
    ----------
    preferred : str, default "creature"
        One of ``CATEGORIES``.
    n_gallery, n_others : int
        How many images of the preferred category, and of all others.
    seed : int, default 0
        For the scenes.
    size : int, default 96
        Side of the images in pixels.
    typical : bool, default False
        Whether a person sees at once what each image shows, as in the demo: see :func:`typical_scene`.

    Returns
    -------
    DemoImages

    Raises
    ------
    ValueError
        If `preferred` is unknown or a number is not positive.

    Examples
    --------
    >>> data = demo_images("creature", n_gallery=2, n_others=3)
    >>> data.images.shape, data.categories[:2]
    (torch.Size([5, 3, 96, 96]), ['creature', 'creature'])
    """
    if preferred not in CATEGORIES:
        raise ValueError(f"`preferred` must be one of {', '.join(CATEGORIES)}, got {preferred!r}")
    others = [category for category in CATEGORIES if category != preferred]
    first, second = 1_000_000 + 2 * seed, 1_000_001 + 2 * seed
    gallery = make_images(n_gallery, preferred, seed=first, size=size, typical=typical)
    return DemoImages(preferred, gallery, make_images(n_others, others, seed=second, size=size, typical=typical))


@torch.no_grad()
def removal_effects(scene: Scene, response_fn: ResponseFunction, *, size: int = SIZE) -> dict[str, float]:
    """Measure what each visible kind of part adds to a response: response with it minus response without it.

    The scene is rendered again without the parts of one kind, everything else being equal.

    Parameters
    ----------
    scene : Scene
        The scene of the image.
    response_fn : callable
        Images (n, 3, size, size) to responses (n,).
    size : int
        Side of the images in pixels.

    Returns
    -------
    dict of str to float
        Kind -> drop of the response; positive if the part drives it.

    Raises
    ------
    ValueError
        If the responses are not (n,), or `size` is too small.

    Examples
    --------
    >>> from captum_shared.synthetic import sample_scene
    >>> scene = sample_scene("vehicle", 0)
    >>> effects = removal_effects(scene, lambda images: images.mean((1, 2, 3)))
    >>> set(effects) <= set(scene.kinds)
    True
    """
    image, masks = render(scene, size)
    images = [image] + [render(scene.without(kind), size)[0] for kind in masks]
    responses = response_fn(torch.stack(images))
    if responses.shape != (len(images),):
        raise ValueError(f"`response_fn` must return ({len(images)},) responses, got shape {tuple(responses.shape)}")
    return dict(zip(masks, (responses[0] - responses[1:]).tolist(), strict=True))


@dataclass(frozen=True)
class SharedParts:
    """What a pair of images truly shares for a neuron.

    Attributes
    ----------
    kinds : tuple of str
        Kinds that drive the neuron in both images.
    mask_x, mask_ref : numpy.ndarray
        (size, size) bool: their pixels in the image and in the reference.
    effects_x, effects_ref : dict of str to float
        Kind -> drop of the response when it is removed.
    """

    kinds: tuple[str, ...]
    mask_x: np.ndarray
    mask_ref: np.ndarray
    effects_x: dict[str, float]
    effects_ref: dict[str, float]


def shared_masks(
    scene_x: Scene, scene_ref: Scene, response_fn: ResponseFunction, *, min_drop: float = 0.1, size: int = SIZE
) -> SharedParts:
    """Find the parts that two scenes share and that drive the neuron, by removing them.

    Parameters
    ----------
    scene_x, scene_ref : Scene
        The image and its reference.
    response_fn : callable
        Images (n, 3, size, size) to responses (n,).
    min_drop : float
        How much the response must drop, in both images, when the parts of a kind are removed; in units of the
        response, which for a :func:`category_neuron` is about 1 for the preferred category and 0 for others.
    size : int
        Side of the images in pixels.

    Returns
    -------
    SharedParts

    Raises
    ------
    ValueError
        As `removal_effects`.

    Examples
    --------
    >>> from captum_shared.synthetic import sample_scene
    >>> x, ref = (sample_scene("vehicle", seed) for seed in (0, 1))
    >>> shared = shared_masks(x, ref, lambda images: images.mean((1, 2, 3)), min_drop=0.0)
    >>> set(shared.kinds) <= set(x.kinds) & set(ref.kinds), shared.mask_x.shape
    (True, (96, 96))
    """
    effects_x = removal_effects(scene_x, response_fn, size=size)
    effects_ref = removal_effects(scene_ref, response_fn, size=size)
    common = effects_x.keys() & effects_ref.keys()
    kinds = tuple(sorted(kind for kind in common if min(effects_x[kind], effects_ref[kind]) >= min_drop))
    mask_x = _union(render(scene_x, size)[1], kinds, size)
    mask_ref = _union(render(scene_ref, size)[1], kinds, size)
    return SharedParts(kinds, mask_x, mask_ref, effects_x, effects_ref)


def _union(masks: dict[str, np.ndarray], kinds: Sequence[str], size: int) -> np.ndarray:
    result: np.ndarray = np.logical_or.reduce([np.zeros((size, size), dtype=bool), *(masks[kind] for kind in kinds)])
    return result
