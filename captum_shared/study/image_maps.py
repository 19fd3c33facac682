"""All maps of some images: what a worker does, from the images' files to packed arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import captum.attr
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from captum_shared.attribution import ParallelBackprop
from captum_shared.attribution.layer import layer_maps, see_layers
from captum_shared.attribution.neurons import neuron_maps
from captum_shared.encoder import LatentEncoder
from captum_shared.encoder.layers import SharedPass
from captum_shared.identity import ImageTransform
from captum_shared.networks.survey import frozen
from captum_shared.study.network import device_of, transform_image
from captum_shared.study.run import array_bytes
from captum_shared.study.settings import RecordingSettings

Maps = Iterator[tuple[int, Tensor]]
_MOST_BYTES = 2**28  # of the maps of one image that share its forward passes


def explain_images(
    encoders: Mapping[int, LatentEncoder],
    transform: ImageTransform,
    images: Sequence[Path],
    shared: Sequence[Mapping[int, np.ndarray]],
    settings: RecordingSettings,
    origins: Mapping[int, Tensor | None],
) -> list[bytes]:
    """Maps of each image for the shared weights (m, D) of each candidate, encoded as the files of a job hold them.

    In the order of the candidates, and for each kind: values (sum of m, h, w), and their scales. `origins` are the
    latents (D,) that each candidate's rule takes as nothing; None for zero.
    """
    candidates, kinds = sorted({c for each in shared for c in each}), settings.maps
    maps: dict[tuple[int, str], list[np.ndarray]] = {(c, kind): [] for c in candidates for kind in kinds}
    chosen = {candidate: encoders[candidate] for candidate in candidates}
    with frozen(chosen[candidates[0]]):
        makers: dict[str, _PixelMaps | _LayerMaps] = {
            "pixel": _PixelMaps(chosen, settings), "layer": _LayerMaps(chosen, origins),
        }  # fmt: skip
        for image, weights in zip(images, shared, strict=True):
            x = transform_image(transform, image)[None].to(device_of(chosen[candidates[0]]))
            constants = {candidate: torch.from_numpy(rows).to(x) for candidate, rows in weights.items()}
            for kind in kinds:
                for candidate, found in makers[kind].maps(x, constants):
                    maps[candidate, kind].append(found.cpu().numpy())
    packed = (pack(np.concatenate(each), settings.map_bits) for each in maps.values())
    return [array_bytes(array) for pair in packed for array in pair]


def pack(maps: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Maps (m, h, w) in few bits, and what to multiply them with, (m, 1, 1) float32: each map has its own scale.

    With 8 bits they are whole numbers from -127 to 127; with 16 half precision, the largest value being 1; with 32 they
    stay as they are.
    """
    largest = np.abs(maps).max(axis=(1, 2), keepdims=True).astype(np.float32)
    scale = np.where((largest > 0) & (bits < 32), largest, np.float32(1)).astype(np.float32)
    if bits == 8:
        scale = (scale / 127).astype(np.float32)
        return np.rint(maps / scale).clip(-127, 127).astype(np.int8), scale
    return (maps / scale).astype(np.float16 if bits == 16 else np.float32), scale


class _PixelMaps:
    """Maps of an image's pixels, summed over colour channels and small blocks.

    Sums, not means, so that a map's sum stays what is attributed.
    """

    def __init__(self, encoders: Mapping[int, LatentEncoder], settings: RecordingSettings) -> None:
        engine = getattr(captum.attr, settings.engine)
        self.settings = settings
        self.methods = {candidate: ParallelBackprop(encoder, engine=engine) for candidate, encoder in encoders.items()}

    def maps(self, x: Tensor, constants: Mapping[int, Tensor]) -> Maps:
        """Maps (k, H, W) of an image (1, C, H, W) for each candidate's constants (k, D), some at a time."""
        for candidate, rows in constants.items():
            for some in rows.split(max(1, _MOST_BYTES // x.nbytes)):
                yield candidate, self._some(self.methods[candidate], x, some)

    def _some(self, method: ParallelBackprop, x: Tensor, some: Tensor) -> Tensor:
        arguments = self.settings.engine_arguments
        heat = neuron_maps(method.engine, method.forward_module, x, some[None], arguments)[0].sum(1)
        side = self.settings.map_reduction
        return heat if side == 1 else avg_pool2d(heat[None], side, ceil_mode=True, divisor_override=1)[0]


class _LayerMaps:
    """Maps of an image's positions at each candidate's layer: one forward pass for all."""

    def __init__(self, encoders: Mapping[int, LatentEncoder], origins: Mapping[int, Tensor | None]) -> None:
        self.encoders, self.origins = encoders, origins
        self.together = SharedPass(list(encoders.values()))

    def maps(self, x: Tensor, constants: Mapping[int, Tensor]) -> Maps:
        """Maps (k, h, w) of an image (1, C, H, W) for each candidate's constants (k, D)."""
        outputs = dict(zip(self.encoders, see_layers(self.together, x), strict=True))
        for candidate, rows in constants.items():
            origin = self.origins[candidate]
            origin = None if origin is None else origin.to(x)
            yield candidate, layer_maps(self.encoders[candidate], outputs[candidate], rows, origin)
