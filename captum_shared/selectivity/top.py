"""`top_activations`: one streaming pass over the images, for every unit of several layers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict, overload

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_shared.encoder.images import (
    ImageItem,
    Images,
    ImageSource,
    check_source,
    device_of,
    evaluating,
    report_unreadable,
    stack_images,
)
from captum_shared.encoder.passes import ImagePass
from captum_shared.identity import ImageTransform
from captum_shared.selectivity.checkpoint import PassState, open_checkpoint
from captum_shared.selectivity.layers import LayerReader
from captum_shared.selectivity.ranking import PARTS, RunningTop, TopActivations

if TYPE_CHECKING:
    from typing_extensions import Unpack


class PassOptions(TypedDict, total=False):
    """What `top_activations` takes by name."""

    transform: ImageTransform | None
    batch_size: int
    device: str | torch.device | None
    progress: bool
    checkpoint: str | Path | None
    num_workers: int
    unreadable: str


@overload
def top_activations(
    model: nn.Module, layers: str, images: Images, k: int = ..., **options: Unpack[PassOptions]
) -> TopActivations: ...
@overload
def top_activations(
    model: nn.Module, layers: list[str] | tuple[str, ...], images: Images, k: int = ..., **options: Unpack[PassOptions]
) -> dict[str, TopActivations]: ...
def top_activations(
    model: nn.Module,
    layers: str | Sequence[str],
    images: Images,
    k: int = 100,
    *,
    transform: ImageTransform | None = None,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    progress: bool = False,
    checkpoint: str | Path | None = None,
    num_workers: int = 0,
    unreadable: str = "warn",
) -> TopActivations | dict[str, TopActivations]:
    """Find the k images that activate each unit most, at one position per image, in one pass over the images.

    Memory does not grow with the number of images: only the activations, image indices and positions of the k best so
    far are kept, on the device, not images or maps. The network is run no further than the last of the layers. Batches
    are spread over the workers that ``joblib.parallel_config`` names, with the same result as in one process.

    Parameters
    ----------
    model : nn.Module
        Any network, a `LatentEncoder`, or readout neurons: in ``torch.nn.Sequential(encoder, readout)`` the layer
        ``""``, the model's output, has one unit per neuron.
    layers : str or sequence of str
        Names from ``model.named_modules()``. Units are the channels of convolutional maps, the dimensions of vectors
        and of tokens in a grid.
    images : sequence of paths, Dataset or Tensor (n, C, H, W)
        As in `encode_images`; all of the same size after `transform`.
    k : int, default 100
        As in the paper. If there are fewer readable images, all of them.
    transform : callable, optional
        As in `encode_images`, such as the one that `load_encoder` returns.
    batch_size, device, progress, num_workers, unreadable
        As in `encode_images`. Images that cannot be read are named at the end and left out.
    checkpoint : path, optional
        A folder in which the pass is saved, on the way too, under a name made from everything that determines it: what
        model and transform do, the layers, k, and the images (of a Dataset, its length and 16 of its items). The same
        call then resumes where it stopped, with the same result if the batch size is the same, to the last bit if the
        network's sums are repeatable. A damaged checkpoint is named in a warning, and the pass starts over.

    Returns
    -------
    TopActivations, or dict of layer to TopActivations if `layers` is a sequence

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, a layer is unknown, all images are unreadable, or activations are not finite;
        with `checkpoint`, if the model or the transform is random.

    References
    ----------
    Rafegas et al. (2020), Pattern Recognition Letters 136, section 2.

    Examples
    --------
    >>> model, images = torch.nn.Conv2d(3, 8, 5), torch.rand(20, 3, 32, 32)
    >>> top = top_activations(model, "", images, k=10)
    >>> top.activations.shape, top.map_size
    (torch.Size([8, 10]), (28, 28))
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    check_source(images, batch_size, unreadable)
    reader = LayerReader(model, names)
    device, source = device_of(model, device), ImageSource(images, transform)
    scan = _Scan(names, k, device)
    with evaluating(model), torch.no_grad():
        store = open_checkpoint(checkpoint, reader, source, k)
    scan.load(store.read() if store else None)
    image_pass = ImagePass(partial(_read, reader, device), source, batch_size, num_workers, source.of_paths)
    with (
        evaluating(model),
        torch.no_grad(),
        closing(image_pass.results(scan.next)) as results,
        tqdm(total=len(source), initial=scan.next, disable=not progress, unit="image") as bar,
    ):
        for result in results:
            bar.update(scan.take(result))
            if store and (store.due() or scan.next == len(source)):
                store.write(scan.state())
    report_unreadable(scan.failures, images, unreadable, "They are left out.")
    tops = scan.result(len(source))
    return tops[names[0]] if isinstance(layers, str) else tops


class _Scan:
    """What is known after the first `next` images."""

    def __init__(self, layers: Sequence[str], k: int, device: torch.device) -> None:
        self.device = device
        self.next = 0
        self.tops = {layer: RunningTop(k) for layer in layers}
        self.map_sizes: dict[str, tuple[int, int]] = {}
        self.image_size = (0, 0)
        self.failures: dict[int, str] = {}

    def take(self, result: _Read) -> int:
        """Rank the images of a batch; how many there are."""
        self.failures.update(result.failures)
        if len(result.images):
            self._check_size(result.image_size)
            for layer, (size, *peaks) in result.peaks.items():
                values, positions, images = (part.to(self.device) for part in (*peaks, result.images))
                _check_finite(layer, values, images)
                self.map_sizes[layer] = size
                self.tops[layer].update(values, positions, images)
        before, self.next = self.next, result.stop
        return self.next - before

    def result(self, n: int) -> dict[str, TopActivations]:
        """The top activations among all `n` images."""
        return {
            layer: TopActivations(layer, *top.result(), self.map_sizes[layer], self.image_size, n, dict(self.failures))
            for layer, top in self.tops.items()
        }

    def state(self) -> PassState:
        """Everything, as tensors and as JSON types."""
        tensors = {
            f"{i}.{part}": value
            for i, top in enumerate(self.tops.values())
            if top.state is not None
            for part, value in zip(PARTS, top.result(), strict=True)
        }
        return tensors, {
            "next": self.next, "map_sizes": self.map_sizes, "image_size": self.image_size, "failures": self.failures,
        }  # fmt: skip

    def load(self, saved: PassState | None) -> None:
        """Resume from what `state` returned."""
        if saved is None:
            return
        tensors, notes = saved
        self.next = notes["next"]
        self.map_sizes = {layer: (h, w) for layer, (h, w) in notes["map_sizes"].items()}
        self.image_size = (notes["image_size"][0], notes["image_size"][1])
        self.failures = {int(index): reason for index, reason in notes["failures"].items()}
        for i, top in enumerate(self.tops.values()):
            if f"{i}.images" in tensors:
                values, images, positions = (tensors[f"{i}.{part}"].to(self.device) for part in PARTS)
                top.state = (values, images, positions)

    def _check_size(self, size: tuple[int, int]) -> None:
        if self.image_size not in ((0, 0), size):
            raise ValueError(
                f"images must have one size, got {self.image_size} and {size}; pass a `transform` that resizes them"
            )
        self.image_size = size


class _Read(NamedTuple):
    """What a pass reads of a batch: each layer's peaks (see `_peaks`) in the images that could be read."""

    stop: int  # behind the last image
    failures: dict[int, str]
    images: Tensor
    image_size: tuple[int, int]
    peaks: dict[str, tuple[tuple[int, int], Tensor, Tensor]]


def _read(reader: LayerReader, device: torch.device, batch: list[ImageItem]) -> _Read:
    items = [item for item in batch if not item.failure]
    failures = {item.index: item.failure for item in batch if item.failure}
    images = torch.tensor([item.index for item in items], dtype=torch.long, device=device)
    stop = batch[-1].index + 1
    if not items:
        return _Read(stop, failures, images, (0, 0), {})
    x = stack_images(items).to(device)
    return _Read(stop, failures, images, (x.shape[-2], x.shape[-1]), reader.read(x, _peaks))


def _peaks(layer: str, maps: Tensor) -> tuple[tuple[int, int], Tensor, Tensor]:
    """The map's size, and the largest activation (N, U) with its first position (N, U)."""
    values, positions = maps.flatten(2).max(dim=2)
    return (maps.shape[2], maps.shape[3]), values, positions


def _check_finite(layer: str, values: Tensor, images: Tensor) -> None:
    bad = torch.nonzero(~values.isfinite().all(1))[:, 0].tolist()
    if bad:
        raise ValueError(f"layer {layer!r} gives NaN or infinite activations for image {int(images[bad[0]])}")
