"""`moment_rule`: what two images share for a neuron, whatever the basis of the latents."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from captum_shared.checks import check_finite, check_integer, check_number, check_tensor

# Bytes of latents that are read at once: small enough to stay in a cache between the two products with them.
_BLOCK = 4 * 2**20
FEW_IMAGES = 200


def moment_rule(
    gallery_latents: Tensor | np.ndarray,
    contrast: float = 0.5,
    *,
    ridges: float | tuple[float, float] = (0.3, 3.0),
    cells: int = 1,
) -> MomentRule:
    """Make a rule that does not depend on the basis: shared weights from the third moments of a gallery's latents.

    The paper's product w z z_ref depends on the axes of the latents: if they are rotated, it changes. Here the gallery
    determines which latents go together instead. With zeta the latents minus the gallery's mean, S their covariance
    plus a ridge (one for the image, another for the reference), and for each gallery image g its drive r = w . zeta_g
    and its likeness to an image, k(x) = zeta_g . S^-1 zeta(x), what two images share for the neuron is

        T(x, y) = E[r k(x) k(y)] - contrast / 2 (d(x) E[r k(y)] + d(y) E[r k(x)]),

    where d(x) = E[max(r, 0) k(x)] / E[max(r, 0)] is the likeness to the neuron's drivers. The shared weights for x are
    the gradient of T in z(x), which depends only on y, and vice versa: with ``constants="crossed"``, both maps
    decompose T. If latents and readout are rotated, so are the shared weights; for independent latents and no contrast
    they are the product times the latents' skewness; they are linear in zeta(y), and need neither labels nor recorded
    responses. Ours. Evidence: ``benchmarks.photo_game``.

    Parameters
    ----------
    gallery_latents : Tensor or array (G, D)
        Latents of several hundred images or more, of any kind. They are kept, not copied, and read in blocks of a few
        megabytes, so that a memory-mapped array works, too.
    contrast : float, default 0.5
        How much of what is shared with every driver of the neuron is removed, from 0 to 1; the larger, the more closely
        the map follows the reference, and the less the neuron.
    ridges : float or (float, float), default (0.3, 3.0)
        In units of the mean eigenvalue of the covariance: the first for the reference, the second for the image; a
        single number is for both. T is symmetric only if they are equal.
    cells : int, default 1
        Number of cells if the latents are a grid of K channels, channels first: 16 for pool=4. Each cell is treated as
        a separate neuron, with its part of w and of z, and the moments are taken over all cells of all images.

    Returns
    -------
    MomentRule
        Callable (z, z_ref, weight) -> (N, D), for ``rule=`` anywhere. It computes on the gallery's device, in at least
        single precision, and returns the dtype and device of z. `ReferenceMatcher` can use its `similarity`.

    Raises
    ------
    TypeError, ValueError
        If the gallery is not (G, D) with G >= 2, is not finite or does not vary, or an option is out of range.

    Warns
    -----
    UserWarning
        If the gallery has fewer than 200 images.

    Examples
    --------
    >>> gallery = torch.rand(500, 8)
    >>> rule = moment_rule(gallery, contrast=0.0)
    >>> rule(gallery[:2], gallery[2:4], torch.ones(8)).shape
    torch.Size([2, 8])
    >>> rule
    moment_rule(gallery of 500 images, 8 latents, contrast=0.0, ridges=(0.3, 3.0), cells=1)
    """
    gallery = _checked_gallery(gallery_latents)
    return MomentRule(gallery, _checked_contrast(contrast), _checked_ridges(ridges), _checked_cells(cells, gallery))


class MomentRule:
    """The rule that `moment_rule` makes.

    Attributes
    ----------
    gallery : Tensor (G, D)
        The latents as they were given.
    mean : Tensor (K,)
        Their mean, K = D / cells; over all cells if there are several.
    contrast, ridges, cells
        As given.
    """

    def __init__(self, gallery: Tensor, contrast: float, ridges: tuple[float, float], cells: int) -> None:
        self.gallery = gallery
        self.contrast = contrast
        self.ridges = ridges
        self.cells = cells
        mean, covariance = _mean_and_covariance(gallery, cells)
        self.mean = mean.to(torch.promote_types(gallery.dtype, torch.float32)).to(gallery.device)
        spread = float(covariance.trace()) / len(covariance)
        if not spread > 0:
            raise ValueError("`gallery_latents` must vary between images, got the same latents for all")
        self._covariance = covariance.to(self.mean)
        self._likeness = _regular_inverse(covariance, ridges[0] * spread).to(self.mean)
        same = ridges[0] == ridges[1]
        self._front = self._likeness if same else _regular_inverse(covariance, ridges[1] * spread).to(self.mean)

    def __call__(self, z: Tensor, z_ref: Tensor, weight: Tensor, center: Tensor | None = None) -> Tensor:
        """Shared weights (N, D) of images and references with latents `z` and `z_ref`, (N, D) or (D,) for the second.

        Raises
        ------
        ValueError
            If a `center` is given, or the number of latents is not the gallery's.
        """
        _check_no_center(center)
        return self._to_latents(self._constant(weight, z_ref, self._likeness, self._front), z).expand_as(z)

    def transposed(self, z: Tensor, z_ref: Tensor, weight: Tensor, center: Tensor | None = None) -> Tensor:
        """The same for the reference, made from the image (`z_ref` here): with one ridge it is the rule itself."""
        _check_no_center(center)
        return self._to_latents(self._constant(weight, z_ref, self._front, self._likeness), z).expand_as(z)

    def similarity(self, query: Tensor, gallery: Tensor, weight: Tensor) -> Tensor:
        """T(x, y), which the maps of both images decompose: (Q, G), or (K, Q, G) for weights (K, D).

        Parameters
        ----------
        query : Tensor (Q, D)
        gallery : Tensor (G, D)
            Latents of candidates for the reference, often not those of the moments' gallery.
        weight : Tensor (D,) or (K, D)
        """
        weights = weight.reshape(-1, weight.shape[-1])
        pairs = weights.repeat_interleave(len(query), 0), query.repeat(len(weights), 1)
        constants = self._to_latents(self._constant(*pairs, self._front, self._likeness), query)
        mean = self.origin.to(gallery)
        return (constants @ (gallery - mean).T).reshape(*weight.shape[:-1], len(query), len(gallery))

    @property
    def origin(self) -> Tensor:
        """The latents that count as zero, (D,): the gallery's mean."""
        return self.mean.repeat_interleave(self.cells)

    def to(self, device: torch.device | str) -> MomentRule:
        """A copy whose gallery and moments are on `device`."""
        copy = object.__new__(type(self))
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        copy.__dict__.update({**vars(self), **moved})
        return copy

    def __repr__(self) -> str:
        n, d = self.gallery.shape
        ridges = self.ridges[0] if self.ridges[0] == self.ridges[1] else self.ridges
        return (
            f"moment_rule(gallery of {n} images, {d} latents, contrast={self.contrast}, ridges={ridges}, "
            f"cells={self.cells})"
        )

    def _constant(self, weight: Tensor, z: Tensor, near: Tensor, front: Tensor) -> Tensor:
        """front (E[r zeta zeta^T] - contrast / 2 (v d^T + d v^T)) near zeta(z), (N, cells, K).

        `near` and `front` are inverses of the covariance plus a ridge, v = E[r zeta], and d is the mean driver.
        """
        w, likeness = self._by_cell(weight), (self._by_cell(z) - self.mean) @ near
        third, driver = self._contract(w, likeness)
        if self.contrast:
            drive = w @ self._covariance
            both = _inner(driver, likeness) * drive + _inner(drive, likeness) * driver
            third = third - self.contrast / 2 * both
        return third @ front

    def _contract(self, weight: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        """E[r (direction . zeta) zeta] and the mean driver E[max(r, 0) zeta] / E[max(r, 0)], both (N, cells, K).

        `weight` and `direction` are (N, cells, K) or (1, cells, K). One pass over the gallery.
        """
        third = driver = drive = self.mean.new_zeros(())
        for block in _samples(self.gallery, self.cells):
            zeta = block.to(self.mean) - self.mean
            r, k = (zeta @ rows.flatten(0, 1).T for rows in (weight, direction))
            both = (r.unflatten(1, weight.shape[:2]) * k.unflatten(1, direction.shape[:2])).flatten(1)
            third = third + both.T @ zeta
            if self.contrast:
                positive = r.clamp(min=0)
                driver, drive = driver + positive.T @ zeta, drive + positive.sum(0).unsqueeze(1)
        third = third.unflatten(0, (-1, self.cells)) / (len(self.gallery) * self.cells)
        if not self.contrast:
            return third, torch.zeros_like(third)
        mean = torch.where(drive > 0, driver / drive, torch.zeros_like(driver))
        return third, mean.unflatten(0, (-1, self.cells))

    def _by_cell(self, latents: Tensor) -> Tensor:
        """Latents (n, D) or (D,) as (n, cells, K), where and as precise as the computation."""
        if latents.shape[-1] != self.gallery.shape[1]:
            raise ValueError(f"moment_rule was made for {self.gallery.shape[1]} latents, got {latents.shape[-1]}")
        return _by_cell(latents.reshape(-1, latents.shape[-1]).to(self.mean), self.cells)

    def _to_latents(self, constant: Tensor, like: Tensor) -> Tensor:
        return constant.mT.flatten(1).to(like)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1, keepdim=True)


def _check_no_center(center: object) -> None:
    if center is not None:
        raise ValueError("moment_rule compares with the mean of its own gallery; expected no `center`")


def _mean_and_covariance(gallery: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """(K,) and (K, K), in double precision on the CPU, which always has it. The gallery is read twice."""
    n = len(gallery) * cells
    mean = torch.stack([block.cpu().double().sum(0) for block in _samples(gallery, cells)]).sum(0) / n
    covariance = torch.zeros(len(mean), len(mean), dtype=mean.dtype)
    for block in _samples(gallery, cells):
        zeta = block.cpu().double() - mean
        covariance.addmm_(zeta.T, zeta)
    return mean, covariance / n


def _samples(gallery: Tensor, cells: int) -> Iterator[Tensor]:
    """The latents (n, K) of all cells of some images at a time."""
    rows = max(1, _BLOCK // (gallery.shape[1] * gallery.element_size()))
    for block in gallery.split(rows):
        yield _by_cell(block, cells).flatten(0, 1)


def _by_cell(latents: Tensor, cells: int) -> Tensor:
    """Latents (n, K cells), channels first, as (n, cells, K)."""
    result: Tensor = latents.unflatten(1, (-1, cells)).mT
    return result


def _regular_inverse(covariance: Tensor, ridge: float) -> Tensor:
    """(covariance + ridge I)^-1, by Cholesky's factors."""
    return torch.cholesky_inverse(torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance)).to(covariance)))


def _checked_gallery(value: object) -> Tensor:
    if isinstance(value, np.ndarray):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*not writable.*")  # it is only read
            value = torch.as_tensor(value)
    gallery = check_tensor("gallery_latents", value)
    if gallery.ndim != 2 or len(gallery) < 2 or not gallery.is_floating_point():
        raise ValueError(
            f"`gallery_latents` must be floating point (G, D) with G >= 2, got {gallery.dtype} {tuple(gallery.shape)}"
        )
    if len(gallery) < FEW_IMAGES:
        warnings.warn(
            f"the third moments of {len(gallery)} images are mostly noise; expected at least {FEW_IMAGES} for "
            "moment_rule",
            stacklevel=3,
        )
    for block in gallery.split(4096):
        check_finite("gallery_latents", block)
    return gallery.detach()


def _checked_contrast(contrast: object) -> float:
    value = check_number("contrast", contrast)
    if not 0 <= value <= 1:
        raise ValueError(f"`contrast` must be a number from 0 to 1, got {contrast!r}")
    return value


def _checked_ridges(ridges: object) -> tuple[float, float]:
    pair = ridges if isinstance(ridges, tuple | list) else (ridges, ridges)
    values = [check_number("ridges", ridge) for ridge in pair] if len(pair) == 2 else []
    if not values or min(values) <= 0:
        raise ValueError(f"`ridges` must be a positive number or two, got {ridges!r}")
    return values[0], values[1]


def _checked_cells(cells: object, gallery: Tensor) -> int:
    number = check_integer("cells", cells)
    if gallery.shape[1] % number:
        raise ValueError(f"`cells` must divide the number of latents {gallery.shape[1]}, got {cells!r}")
    return number
