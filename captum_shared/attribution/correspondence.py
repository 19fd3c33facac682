"""`LayerCorrespondence`: which part of an image corresponds to which part of the reference."""

from __future__ import annotations

import torch
from captum.attr import GradientAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_shared.attribution.inputs import Pair, Readout, Target, check_pair, resolve_weight
from captum_shared.attribution.layer import LayerOutput, check_map_encoder, see_layer
from captum_shared.attribution.shares import Shares, position_shares
from captum_shared.checks import describe
from captum_shared.similarity import MomentRule, shared_weights

# Values of latents that are held for the positions of a reference at once.
_MOST_VALUES = 2**24


class LayerCorrespondence(GradientAttribution):
    """How much each position of an image and each position of its reference jointly contribute to what they share.

    The latents of an image are sums over the positions p of the layer's map, z(x) = sum_p a(x, p). A similarity that is
    linear in both images' latents is then a sum over pairs of positions,

        R(p, q) = a(x, p) . G a(y, q),    sum_pq R(p, q) = z(x) . G z(y),

    with G = diag(w) for the dot similarity and the gallery's third moments for `moment_rule`. Its sums over q and over
    p are the maps of `LayerParallelBackprop` with ``constants="crossed"`` and the rule "dot", or that of `moment_rule`.
    It takes one forward pass for each image and no backward pass.

    These are the interactions of BiLRP (Eberle et al. 2020, "Building and interpreting deep similarity models"), exCLIP
    and xsbert (Moeller et al.), for the similarity of a single neuron; at the layer they are exact.

    Parameters
    ----------
    encoder : LatentEncoder
        With pool="avg", "flatten" or a grid, and no transform or an affine one.
    similarity : {"dot"} or rule of `moment_rule`, default "dot"
        The similarity to split up among pairs of positions.
    center : Tensor (D,), optional
        For "dot": subtracted from the latents of both images, such as the gallery's mean. A rule of `moment_rule`
        subtracts the mean of its gallery instead.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of the above.

    Notes
    -----
    Offsets are split among the positions, so that the sums hold: in each cell of the grid, the center, the mean of a
    fitted scaler and the like are subtracted from each position in proportion to its pooling weight. With pool="avg", a
    position's share is what the latents would be if it filled the image, divided by the number of positions.

    Examples
    --------
    >>> from captum_shared import LatentEncoder
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5, stride=4), torch.nn.ReLU())
    >>> lc = LayerCorrespondence(LatentEncoder(model, "1"))
    >>> part = lc.attribute((torch.rand(1, 3, 33, 33), torch.rand(1, 3, 21, 33)), readout=torch.rand(8))
    >>> part.shape
    torch.Size([1, 8, 8, 5, 8])
    """

    def __init__(self, encoder: nn.Module, similarity: str | MomentRule = "dot", center: Tensor | None = None) -> None:
        self.encoder = encoder
        self._maps = check_map_encoder(encoder)
        self.similarity = _check_similarity(similarity, center)
        self.center = center
        super().__init__(encoder)

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: the contributions contain the layer's outputs as factors."""
        return True

    @log_usage(part_of_slo=True)
    def attribute(self, inputs: Pair, target: Target | None = None, *, readout: Readout | None = None) -> Tensor:
        """Compute the joint contributions of positions of both images.

        Parameters
        ----------
        inputs : tuple of two Tensors
            Images and references, (N, C, H, W) each; their sizes may differ if both give the same number of latents.
        target, readout
            As in `ParallelBackprop.attribute`.

        Returns
        -------
        Tensor (N, h, w, h', w')
            The contribution of position (i, j) of the image together with position (i', j') of its reference.

        Raises
        ------
        TypeError, ValueError
            If an argument is malformed, or the latents are not a sum over positions.
        """
        with torch.inference_mode(mode=False), torch.no_grad():
            x, x_ref = check_pair(inputs, self.encoder)
            shares, shares_ref = (self.shares(see_layer(self._maps, image)) for image in (x, x_ref))
            weight = resolve_weight(readout, target, shares.rest)
            weights = weight.expand_as(shares.rest)
            return torch.stack([self._of_pair(n, shares, shares_ref, w) for n, w in enumerate(weights)])

    def attribute_future(self) -> None:
        """Not implemented, as for most of Captum's methods."""
        raise NotImplementedError(f"attribute_future is not implemented for {type(self).__name__}")

    def of_parts(self, parts: Tensor, parts_ref: Tensor, weight: Tensor) -> Tensor:
        """The same for parts (h, w, D) and (h', w', D) of two images' latents, as `Shares.parts` gives them.

        Returns
        -------
        Tensor (h, w, h', w')
            Sums of what `attribute` gives over the positions of each part.
        """
        columns = self._constants(parts_ref.flatten(0, 1), weight.to(parts_ref))
        return (parts.flatten(0, 1) @ columns.T).reshape(*parts.shape[:2], *parts_ref.shape[:2])

    def shares(self, seen: LayerOutput) -> Shares:
        """What each position contributes to the latents of images whose layer's output is known."""
        origin = self.center if isinstance(self.similarity, str) else self.similarity.origin
        return position_shares(self._maps, self._maps.as_map(seen.output, seen.size), origin)

    def _of_pair(self, n: int, shares: Shares, shares_ref: Shares, weight: Tensor) -> Tensor:
        """R (h, w, h', w') of pair n: for some positions of the reference at a time."""
        sides = shares_ref.features.shape[2:]
        positions = torch.arange(sides.numel(), device=weight.device)
        some = max(1, _MOST_VALUES // max(len(weight), shares_ref.shift[0].numel()))
        own = shares.of(n)
        columns = [own.heat(self._constants(shares_ref.at(n, q), weight)[None])[0] for q in positions.split(some)]
        result: Tensor = torch.cat(columns).permute(1, 2, 0).unflatten(2, sides)
        return result

    def _constants(self, parts: Tensor, weight: Tensor) -> Tensor:
        """G a (P, D) for parts a (P, D) of latents."""
        if isinstance(self.similarity, str):
            return shared_weights(parts, parts, weight, "dot")
        return shared_weights(parts, parts + self.similarity.origin.to(parts), weight, self.similarity)


def _check_similarity(similarity: object, center: object) -> str | MomentRule:
    if isinstance(similarity, MomentRule):
        if center is not None:
            raise ValueError("moment_rule subtracts the mean of its own gallery; expected no `center`")
        return similarity
    if similarity != "dot":
        name = repr(similarity) if isinstance(similarity, str) else describe(similarity)
        raise ValueError(f"`similarity` must be 'dot' or a rule of moment_rule, got {name}")
    return "dot"
