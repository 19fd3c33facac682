"""Explain a category neuron on labelled photographs: which parts of other images excite it, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from captum_shared.attribution import ParallelBackprop
from captum_shared.checks import check_choice, check_integer
from captum_shared.encoder import LatentEncoder, encode_images, load_encoder
from captum_shared.images import open_rgb
from captum_shared.labels import read_labels
from captum_shared.readout import fit_readout, latent_transform
from captum_shared.report.device import find_device
from captum_shared.report.files import output_folder, write_csv, write_figure, write_json, write_text
from captum_shared.report.html import Picture, gallery, page, table
from captum_shared.selection import REFERENCES, find_drivers, find_pairs
from captum_shared.visualization import pair_figure

FOLDS = 5

ImageTransform = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Pair:
    """A driver outside the category, with its reference."""

    image: Path
    reference: Path
    similarity: float
    response: float


def run_category(
    *,
    model: str,
    layer: str,
    weights: str | Path | None = "DEFAULT",
    pool: str | int = "avg",
    image_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: str | None = None,
    **options: Any,
) -> dict[str, Any]:
    """`load_encoder`, then `explain_category` with the rest of the options."""
    encoder, transform = load_encoder(model, layer, pool, weights, image_size=image_size, mean=mean, std=std)
    encoder.to(find_device(device))
    network = {"model": model, "weights": str(weights), "layer": layer, "pool": pool}
    return explain_category(encoder=encoder, transform=transform, about=network, **options)


def explain_category(
    images: str | Path,
    labels: str | Path,
    preferred: str,
    encoder: LatentEncoder,
    transform: ImageTransform,
    *,
    top: int = 12,
    references: str = "drivers",
    similarity: str = "dot",
    standardize: bool = True,
    n_steps: int = 32,
    seed: int = 0,
    batch_size: int = 32,
    progress: bool = True,
    about: dict[str, Any] | None = None,
    out: str | Path = "category",
) -> dict[str, Any]:
    """Fit a readout for a category, and draw what its strongest out-of-category images share with the category.

    The neuron is a ridge regression of membership (1 or 0) on the latents. Responses are out-of-fold predictions: an
    image's response comes from a readout that has not seen it. Latents are standardised over all images unless told
    otherwise, since similarity and shared weights are products that depend on their scale.

    Parameters
    ----------
    images, labels : path
        A folder, and a CSV file with the columns `file` and `category`.
    preferred : str
        The neuron's category.
    encoder, transform
        As `load_encoder` returns them. Standardising becomes the encoder's `transform`.
    top : int, default 12
        How many out-of-category images to explain, the strongest first.
    references : {"drivers", "category"}, default "drivers"
        Where references are sought: among the images of the category that drive the neuron, as `find_drivers` says, or
        in the whole category. The paper takes drivers.
    similarity : str, default "dot"
        A name in `SIMILARITIES`.
    standardize : bool, default True
    n_steps : int, default 32
        Steps of integrated gradients.
    seed : int, default 0
        Of the folds.
    batch_size, progress
        As in `encode_images`.
    about : dict, optional
        What to note about the network.
    out : path
        Gets ``pairs.csv``, ``pair_*.png``, ``index.html``, ``summary.json``, and ``.cache`` with the latents, from
        which an interrupted run goes on.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If an argument is wrong, files are missing, or the categories do not suffice.
    """
    _check_choices(top, references, n_steps)
    paths, categories = read_labels(images, labels)
    check_membership(categories, preferred)
    folder = output_folder(out)
    latents = encode_images(encoder, paths, transform, batch_size, progress=progress, cache=folder / ".cache")
    readable = ~latents.isnan().any(1).numpy()
    unreadable = [path.name for path, good in zip(paths, readable, strict=True) if not good]
    paths = [path for path, good in zip(paths, readable, strict=True) if good]
    check_membership([name for name, good in zip(categories, readable, strict=True) if good], preferred)
    member = np.array([category == preferred for category in categories])[readable]
    latents = standardized(encoder, latents[readable]) if standardize else latents[readable]

    fit = fit_readout(latents, member.astype(float), cv=FOLDS, seed=seed)
    weight, response = fit.readout.weight[0], fit.predictions[:, 0]
    drivers = find_drivers(response, member, top=top, references=references)
    matched = find_pairs(latents, drivers, weight, similarity=similarity)
    pairs = [
        Pair(paths[i], paths[j], float(s), float(response[i]))
        for i, j, s in zip(matched.images, matched.references[:, 0], matched.similarity[:, 0], strict=True)
    ]
    pictures = _draw_pairs(encoder, transform, weight, pairs, preferred, n_steps, progress, folder)
    summary = {
        "command": "category", "preferred": preferred, "cv_auc": area_under_curve(member, response),
        "n_images": len(paths), "n_preferred": int(member.sum()), **(about or {}),
        "n_latents": latents.shape[1], "standardized": standardize, "references": references,
        "n_candidates": len(drivers.candidates), "similarity": similarity, "rule": "product",
        "engine": "IntegratedGradients", "n_steps": n_steps, "folds": FOLDS, "seed": seed, "unreadable": unreadable,
        "reference_counts": dict(Counter(pair.reference.name for pair in pairs).most_common()),
    }  # fmt: skip
    _write_report(folder, summary, pairs, pictures)
    return summary


def standardized(encoder: LatentEncoder, latents: Tensor) -> Tensor:
    """Standardise latents (n, D) over all n, and make the encoder do the same from now on."""
    from sklearn.preprocessing import StandardScaler

    scale = latent_transform(StandardScaler().fit(latents.double().numpy()))
    standard = scale(latents)  # where they are: the encoder's copy may move elsewhere
    encoder.transform = scale.to(next(encoder.parameters()).device)
    return standard


def area_under_curve(member: np.ndarray, response: np.ndarray) -> float:
    """Area under the ROC curve of responses (n,) for membership (n,)."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(member, response))


def black_and_white(transform: ImageTransform) -> tuple[Tensor, Tensor]:
    """What the transform makes of black and of white, (3, 1, 1) each: which tells how it normalises."""
    black, white = (transform(Image.new("RGB", (256, 256), name)).mean((1, 2)) for name in ("black", "white"))
    return black[:, None, None], white[:, None, None]


def pictures_of(x: Tensor, ends: tuple[Tensor, Tensor]) -> Tensor:
    """Images as the network sees them, (..., 3, H, W), back in [0, 1], by its `black_and_white`."""
    black, white = ends
    return ((x - black) / (white - black)).clamp(0, 1)


def _draw_pairs(
    encoder: LatentEncoder,
    transform: ImageTransform,
    weight: Tensor,
    pairs: Sequence[Pair],
    preferred: str,
    n_steps: int,
    progress: bool,
    folder: Path,
) -> list[Picture]:
    """Explain pair by pair, writing each picture as soon as it is there."""
    method = ParallelBackprop(encoder)
    device = next(encoder.parameters()).device
    ends = black_and_white(transform)
    pictures = []
    for rank, pair in enumerate(tqdm(pairs, disable=not progress, unit="pair"), start=1):
        x, x_ref = (transform(open_rgb(path))[None] for path in (pair.image, pair.reference))
        maps = method.attribute((x.to(device), x_ref.to(device)), readout=weight, n_steps=n_steps)
        figure = pair_figure(
            [pictures_of(image[0], ends) for image in (x, x_ref)],
            [heat[0].cpu() for heat in maps],
            titles=(pair.image.stem, f"reference: {pair.reference.stem}"),
            neuron=preferred,
            similarity=pair.similarity,
            response=pair.response,
        )
        png = write_figure(folder / f"pair_{rank:02d}.png", figure)
        caption = f"{rank}. {pair.image.name}, response {pair.response:.2f}; reference {pair.reference.name}"
        alt = f"Heat on {pair.image.name} and {pair.reference.name} where they share what drives the {preferred} neuron"
        pictures.append(Picture(png, caption, alt))
    return pictures


def _write_report(folder: Path, summary: dict[str, Any], pairs: Sequence[Pair], pictures: Sequence[Picture]) -> None:
    header = ("image", "reference", "similarity", "response")
    rows = [(pair.image.name, pair.reference.name, pair.similarity, pair.response) for pair in pairs]
    write_csv(folder / "pairs.csv", header, rows)
    sections = [
        gallery("The strongest images outside the category, each with its reference", pictures),
        table("Pairs", header, rows),
        table("How often each reference was chosen", ("reference", "pairs"), list(summary["reference_counts"].items())),
        table("Settings", ("setting", "value"), [(key, str(value)) for key, value in summary.items()]),
    ]
    title = f"What other images share with {summary['preferred']}, for a {summary['preferred']} neuron"
    write_text(folder / "index.html", page(title, _methods(summary), sections))
    write_json(folder / "summary.json", summary)


def _methods(s: dict[str, Any]) -> list[str]:
    scaled = "standardised over all images" if s["standardized"] else "as the network gives them, not standardised"
    drivers = "those that respond at least as much as the weakest image explained, and at least half of them"
    gallery_text = drivers if s["references"] == "drivers" else "all of them"
    return [
        "Heat marks what an image and its reference share for the neuron: the latents that both have and the neuron "
        "reads are backpropagated to the pixels of both (Lappe et al., NeurIPS 2024; integrated gradients, "
        f"{s['n_steps']} steps, from the mean colour). Where there is no heat, nothing is said: the neuron may still "
        "respond to it.",
        f"The neuron is a ridge regression of '{s['preferred']}' (1 or 0) on {s['n_latents']} latents, {scaled}; "
        f"cross-validated over {s['folds']} folds, its area under the ROC curve is {s['cv_auc']:.3f} over "
        f"{s['n_images']} images ({s['n_preferred']} of {s['preferred']}). Responses are predictions for images that "
        "the readout has not seen.",
        f"References are the most similar images of the category by the {s['similarity']} similarity, among "
        f"{s['n_candidates']}: {gallery_text}.",
        *([f"Unreadable and left out: {', '.join(s['unreadable'])}."] if s["unreadable"] else []),
    ]


def check_membership(categories: Sequence[str], preferred: str) -> None:
    counts = Counter(categories)
    if preferred not in counts:
        raise ValueError(
            f"`preferred` must be a category of the label file, got {preferred!r}; expected one of {sorted(counts)}"
        )
    if counts[preferred] < FOLDS or len(categories) - counts[preferred] < FOLDS:
        raise ValueError(
            f"`preferred` must have at least {FOLDS} images, and so must the rest, for {FOLDS}-fold cross-validation; "
            f"got {counts[preferred]} of {preferred!r} and {len(categories) - counts[preferred]} others"
        )


def _check_choices(top: Any, references: Any, n_steps: Any) -> None:
    check_integer("top", top)
    check_integer("n_steps", n_steps)
    check_choice("references", references, REFERENCES)
