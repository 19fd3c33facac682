"""`encode_images`: latents of many images, batched, cached, resumable."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from captum_shared.checks import check_choice, check_encoded, check_images, check_integer, is_finite, network_refusals
from captum_shared.encoder.cache import LatentCache
from captum_shared.encoder.passes import ImagePass
from captum_shared.files import sha256
from captum_shared.identity import ImageTransform, as_tensor, identify
from captum_shared.images import READING, decode_rgb, open_rgb, reason_of

Images = Sequence[str | Path] | Dataset[object] | Tensor


def encode_images(
    encoder: nn.Module,
    images: Images,
    transform: ImageTransform | None = None,
    batch_size: int = 32,
    device: str | torch.device | None = None,
    progress: bool = False,
    cache: str | Path | None = None,
    *,
    autocast: torch.dtype | None = None,
    num_workers: int = 0,
    unreadable: str = "warn",
) -> Tensor:
    """Encode many images, in evaluation mode and without gradients.

    Batches are spread over the workers that ``joblib.parallel_config`` names, with the same latents as in one process.

    Parameters
    ----------
    encoder : nn.Module
        (N, C, H, W) -> (N, D), such as a `LatentEncoder`. Its training modes are restored afterwards.
    images : sequence of paths, Dataset or Tensor (n, C, H, W)
        A dataset returns an image (PIL or tensor) per index, or a tuple that starts with one. Paths are read as RGB.
    transform : callable, optional
        Applied to each image, such as the one that `load_encoder` returns. Without one, paths are scaled to [0, 1].
    batch_size : int, default 32
        Images per forward pass.
    device : str or torch.device, optional
        Where to compute; the encoder is moved there. Default: the encoder's device. Images follow batch by batch.
    progress : bool, default False
        Whether to show a progress bar.
    cache : path, optional
        A folder that keeps latents between runs, keyed by everything that determines them: the image's content, and
        what the encoder and the transforms do, which takes six forward passes of one fixed image each. A run that was
        interrupted can be resumed.
    autocast : torch.dtype, optional
        Mixed precision, such as ``torch.bfloat16``.
    num_workers : int, default 0
        Processes that read and transform images. With 0, a thread reads files while the network computes; the images of
        datasets are read between batches.
    unreadable : {"warn", "raise"}, default "warn"
        All images that cannot be read are named at the end, in a warning, with NaN in their rows, or in an error.

    Returns
    -------
    Tensor (n, D)
        On the CPU, in the order of `images`, in the encoder's dtype (float32 under autocast).

    Raises
    ------
    TypeError, ValueError
        If there are no images, all are unreadable, their sizes differ, latents are not finite, or an argument is out of
        range; with `cache`, if the encoder or the transform is random.

    Examples
    --------
    >>> encoder = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 5), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    >>> encode_images(encoder, torch.rand(100, 3, 32, 32), batch_size=16).shape
    torch.Size([100, 8])
    """
    check_source(images, batch_size, unreadable, autocast)
    device = device_of(encoder, device)
    source = ImageSource(images, transform)
    rows: dict[int, Tensor] = {}
    failures: dict[int, str] = {}
    with evaluating(encoder), torch.no_grad():
        store = None if cache is None else _open_cache(cache, encoder, source, autocast)
        encode = partial(_encode_batch, encoder, source, store, device, autocast)
        batches = ImagePass(encode, source, batch_size, num_workers, source.of_paths).results()
        with closing(batches), tqdm(total=len(source), disable=not progress, unit="image") as bar:
            for new, failed in batches:
                _check_finite(new, images)
                rows.update(new)
                failures.update(failed)
                bar.update(len(new) + len(failed))
    report_unreadable(failures, images, unreadable)
    return _stacked(rows, len(source))


@dataclass
class ImageItem:
    """One image: its tensor and digest, or what went wrong; its digest alone if its latents are kept."""

    index: int
    image: Tensor | None = None
    digest: str = ""
    failure: str = ""


class ImageSource(Dataset[ImageItem]):
    """Images of any of the three kinds, item by item; never raises for a bad image file."""

    def __init__(self, images: Images, transform: ImageTransform | None) -> None:
        self.images = images
        self.transform = transform
        self.digested = False  # whether items have a digest
        self.kept: set[str] = set()  # digests of files whose latents are kept: they are not decoded

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    @property
    def of_paths(self) -> bool:
        """Whether they are files; a dataset's code may not be meant to run in another thread."""
        return isinstance(self.images, Sequence) and isinstance(self.images[0], (str, Path))

    def example(self) -> object:
        """The first image that can be read, as passed to the transform; None if there is none."""
        for index in range(len(self)):
            item = self.images[index]
            try:
                return open_rgb(item) if isinstance(item, (str, Path)) else _image_of(item)
            except (OSError, ValueError):
                continue
        return None

    def __getitem__(self, index: int) -> ImageItem:
        item = self.images[index]
        if isinstance(item, (str, Path)):
            return self._from_path(index, Path(item))
        image = _image_of(item)
        return ImageItem(index, self._tensor(image), content_digest(image) if self.digested else "")

    def _from_path(self, index: int, path: Path) -> ImageItem:
        try:
            data = path.read_bytes()
            digest = sha256(READING, data) if self.digested else ""
            if digest in self.kept:
                return ImageItem(index, digest=digest)
            image = decode_rgb(data)
        except (OSError, ValueError) as error:
            return ImageItem(index, failure=reason_of(error))
        return ImageItem(index, self._tensor(image), digest)

    def _tensor(self, image: object) -> Tensor:
        return as_tensor(self.transform(image) if self.transform else image)


def content_digest(image: object) -> str:
    """Hash of an image: a tensor, an array or a PIL image."""
    array = image.detach().cpu().numpy() if isinstance(image, Tensor) else np.asarray(image)
    return sha256(f"{array.dtype} {array.shape}".encode(), np.ascontiguousarray(array).tobytes())


def _image_of(item: object) -> object:
    """The image of a dataset's item, which may be followed by a label and others."""
    return item[0] if isinstance(item, (tuple, list)) else item


def _encode_batch(
    encoder: nn.Module,
    source: ImageSource,
    store: LatentCache | None,
    device: torch.device,
    autocast: torch.dtype | None,
    batch: list[ImageItem],
) -> tuple[dict[int, Tensor], dict[int, str]]:
    """The latents of a batch's images, and why some could not be read; both by the image's index."""
    known = store.get([item.digest for item in batch if item.digest]) if store else {}
    rows = {item.index: known[item.digest] for item in batch if item.digest in known}
    others = [_decoded(item, source) for item in batch if item.index not in rows]
    items = [item for item in others if not item.failure]
    if items:
        with torch.autocast(device.type, dtype=autocast) if autocast else nullcontext():
            latents = _latents(encoder, stack_images(items).to(device))
        latents = latents.float().cpu() if autocast else latents.cpu()
        rows.update({item.index: row for item, row in zip(items, latents, strict=True)})
        if store:
            store.put({item.digest: row for item, row in zip(items, latents, strict=True)})
    return rows, {item.index: item.failure for item in others if item.failure}


def _decoded(item: ImageItem, source: ImageSource) -> ImageItem:
    """An item with its image, also if its latents were thought to be kept but are damaged."""
    if item.image is not None or item.failure:
        return item
    source.kept.discard(item.digest)
    return source[item.index]


def _latents(encoder: nn.Module, x: Tensor) -> Tensor:
    with network_refusals(x, encoder, "the encoder"):
        return check_encoded(encoder(x), len(x))


def _check_finite(rows: dict[int, Tensor], images: Images) -> None:
    """Unreadable images get NaN; an encoder that gives NaN must not be mistaken for them."""
    for index, row in rows.items():
        if not is_finite(row):
            name = images[index] if isinstance(images[index], (str, Path)) else f"image {index}"
            raise ValueError(f"the encoder gives NaN or infinite latents for {name}")


def stack_images(items: list[ImageItem]) -> Tensor:
    """The readable images of a batch, (N, C, H, W)."""
    images = [item.image for item in items if item.image is not None]
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        raise ValueError(
            f"images of a batch must have one size, got {sorted(shapes)[:3]}; pass a `transform` that resizes them"
        )
    return torch.stack(images)


def _stacked(rows: dict[int, Tensor], n: int) -> Tensor:
    example = next(iter(rows.values()))
    missing = torch.full_like(example, torch.nan)
    return torch.stack([rows.get(index, missing) for index in range(n)])


def report_unreadable(
    failures: dict[int, str], images: Images, unreadable: str, then: str = "Their latents are NaN."
) -> None:
    """Name all images that could not be read: in an error, or in a warning that ends with what became of them."""
    if not failures:
        return
    n = len(images)  # type: ignore[arg-type]
    lines = "".join(f"\n  {images[index]}: {reason}" for index, reason in sorted(failures.items()))
    message = f"{len(failures)} of {n} images cannot be read:{lines}"
    if unreadable == "raise" or len(failures) == n:
        raise ValueError(message)
    warnings.warn(f"{message}\n{then}", stacklevel=3)


def _open_cache(
    cache: str | Path, encoder: nn.Module, source: ImageSource, autocast: torch.dtype | None
) -> LatentCache | None:
    """The latents that are kept; None if no image can be read."""
    example = source.example()
    if example is None:
        return None
    identity = identify(encoder, source.transform, example, partial(_latents, encoder))
    store = LatentCache(cache, identity.extended(str(autocast)))
    source.digested, source.kept = True, store.images()
    return store


def device_of(encoder: nn.Module, device: str | torch.device | None) -> torch.device:
    """Where the encoder is, or `device`, to which it is moved."""
    if device is not None:
        encoder.to(device)
        return torch.device(device)
    tensors = [*encoder.parameters(), *encoder.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


_counting = threading.Lock()
_evaluated: WeakKeyDictionary[nn.Module, tuple[int, bool]] = WeakKeyDictionary()  # how many want it, and its mode


@contextmanager
def evaluating(encoder: nn.Module) -> Iterator[None]:
    """Evaluation mode, until no thread wants it any more; then every module returns to the mode it was in."""
    modules = list(encoder.modules())
    with _counting:
        for module in modules:
            others, before = _evaluated.get(module, (0, module.training))
            _evaluated[module] = others + 1, before
        encoder.eval()
    try:
        yield
    finally:
        with _counting:
            for module in modules:
                wanted, before = _evaluated.pop(module)
                if wanted > 1:
                    _evaluated[module] = wanted - 1, before
                else:
                    module.training = before


def check_source(images: object, batch_size: object, unreadable: str, autocast: object = None) -> None:
    """Refuse what `encode_images` cannot take."""
    expected = "`images` must be a sequence of paths, a Dataset or a tensor"
    if isinstance(images, (str, Path)):
        raise TypeError(f"{expected}, got the single path {images!r}")
    if isinstance(images, np.ndarray):
        raise TypeError(f"{expected}, got an array; use torch.from_numpy")
    if not hasattr(images, "__getitem__") or not hasattr(images, "__len__"):
        raise TypeError(f"{expected}, got {type(images).__name__}")
    if len(images) == 0:
        raise ValueError("`images` is empty; expected at least one image")
    if isinstance(images, Tensor):
        check_images(images, "`images`")
    check_integer("batch_size", batch_size)
    check_choice("unreadable", unreadable, ("warn", "raise"))
    if autocast is not None and autocast not in (torch.float16, torch.bfloat16):
        raise ValueError(f"`autocast` must be torch.float16, torch.bfloat16 or None, got {autocast!r}")
