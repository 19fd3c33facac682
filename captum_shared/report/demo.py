"""The demo: a creature neuron, the objects that excite it, and what they share with creatures, known exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Saliency
from torch import Tensor, nn
from tqdm import tqdm

from captum_shared.attribution import ParallelBackprop
from captum_shared.checks import check_integer
from captum_shared.encoder import LatentEncoder, encode_images
from captum_shared.files import output_folder, write_csv, write_figure, write_json, write_text
from captum_shared.metrics import relevance_mass_accuracy
from captum_shared.readout import LinearReadout, fit_readout
from captum_shared.report.device import find_device
from captum_shared.report.html import Picture, gallery, page, table
from captum_shared.selection import find_drivers, find_pairs
from captum_shared.study.category import area_under_curve, standardized
from captum_shared.synthetic import DEMO_LAYER, DemoImages, SharedParts, demo_images, demo_network, shared_masks
from captum_shared.visualization import display_heat, pair_figure

BASELINE = 0.8  # the mean brightness of the images; black would put heat on every bright background
N_STEPS = 32
DRIVES = 0.05  # a part drives the neuron if the response falls by more than 5 % of the step from others to the category


@dataclass(frozen=True)
class Case:
    """An object that excites the neuron, its reference, and what they truly share."""

    name: str
    images: tuple[Tensor, Tensor]
    shared: SharedParts
    similarity: float
    response: float


def run_demo(
    *,
    out: str | Path = "demo",
    preferred: str = "creature",
    top: int = 6,
    standardize: bool = False,
    seed: int = 0,
    device: str | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> dict[str, Any]:
    """Explain the objects that excite a category neuron most, on synthetic images whose every part is known.

    The network ships with the package. For each of the strongest out-of-category images, in this order, the reference
    is found, and what both share is established by removing parts: the kinds of part that are in both images and
    without which the response falls by 0.05 or more in both (the category's being about 1, the others' 0). Images that
    share no such part with their reference are counted and passed over.

    Parameters
    ----------
    out : path
        Gets ``pair_*.png``, ``index.html``, ``summary.json`` and ``shares.csv``.
    preferred : str, default "creature"
        The neuron's category, one of ``captum_shared.synthetic.CATEGORIES``.
    top : int, default 6
        How many pairs to explain.
    standardize : bool, default False
        Whether to standardise the latents. The demo network's are zero where a kind of part is absent; centred, sharing
        an absence would count as sharing.
    seed : int, default 0
        Of the images and the folds.
    device, batch_size, progress
        As in `encode_images`.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """
    check_integer("top", top)
    data = demo_images(preferred, n_gallery=40, n_others=180, seed=seed)
    folder = output_folder(out)
    network = demo_network().to(find_device(device)).requires_grad_(False)
    encoder = LatentEncoder(network, DEMO_LAYER, pool="avg")
    latents = encode_images(encoder, data.images, batch_size=batch_size, progress=progress)
    latents = standardized(encoder, latents) if standardize else latents
    member = np.array([category == preferred for category in data.categories])
    fit = fit_readout(latents, member.astype(float), seed=seed)
    readout = fit.readout.to(next(network.parameters()).device)

    cases, passed_over = _find_cases(data, encoder, readout, latents, fit.predictions[:, 0], top, progress)
    methods = _methods(encoder, readout)
    shares, pictures = [], []
    for rank, case in enumerate(tqdm(cases, disable=not progress, unit="pair"), start=1):
        maps = {name: method(case.images) for name, method in methods.items()}
        shares.append({name: _share(pair, case.shared) for name, pair in maps.items()})
        pictures.append(_draw(folder / f"pair_{rank:02d}.png", case, maps["ParallelBackprop"], shares[-1], preferred))
    summary = {
        "command": "demo", "preferred": preferred, "cv_auc": area_under_curve(member, fit.predictions[:, 0]),
        "pairs": len(cases), "passed_over_without_shared_part": passed_over, "standardized": standardize,
        "mean_share": {name: float(np.mean([row[name] for row in shares])) for name in methods},
        "mean_area": float(np.mean([_area(case.shared) for case in cases])),
        "layer": DEMO_LAYER, "rule": "product", "similarity": "dot", "engine": "IntegratedGradients",
        "n_steps": N_STEPS, "baseline": BASELINE, "least_drop": DRIVES, "seed": seed,
    }  # fmt: skip
    _write_report(folder, summary, cases, shares, pictures)
    _print_table(cases, shares, summary)
    return summary


def _find_cases(
    data: DemoImages,
    encoder: LatentEncoder,
    readout: LinearReadout,
    latents: Tensor,
    response: np.ndarray,
    top: int,
    progress: bool,
) -> tuple[list[Case], int]:
    """The `top` strongest out-of-category images with a shared part, and how many were passed over."""
    n = len(data.gallery)
    drivers = find_drivers(response, np.arange(len(response)) < n, top=None, references="category")
    pairs = find_pairs(latents, drivers, readout.weight[0].to(latents))
    device = readout.weight.device

    def respond(images: Tensor) -> Tensor:
        return readout(encoder(images.to(device)))[:, 0]

    cases: list[Case] = []
    for tried, i in enumerate(pairs.images):
        if len(cases) == top:
            return cases, tried - top
        j, similarity = int(pairs.references[tried, 0]), float(pairs.similarity[tried, 0])
        shared = shared_masks(data.others.scenes[i - n], data.gallery.scenes[j], respond, min_drop=DRIVES)
        if shared.kinds:
            images = (data.images[i : i + 1].to(device), data.images[j : j + 1].to(device))
            cases.append(Case(data.categories[i], images, shared, similarity, float(response[i])))
    return cases, len(pairs.images) - len(cases)


def _methods(
    encoder: LatentEncoder, readout: LinearReadout
) -> dict[str, Callable[[tuple[Tensor, Tensor]], list[Tensor]]]:
    """ParallelBackprop, and Captum's methods on the readout alone: each takes a pair and gives two maps."""
    neuron = nn.Sequential(encoder, readout)
    parallel, integrated, saliency = ParallelBackprop(encoder), IntegratedGradients(neuron), Saliency(neuron)
    grad_cam = LayerGradCam(neuron, encoder.model.get_submodule(DEMO_LAYER))

    def coarse(x: Tensor) -> Tensor:
        heat = grad_cam.attribute(x, target=0, relu_attributions=True)
        return LayerAttribution.interpolate(heat, tuple(x.shape[-2:]), "bilinear")

    def both(method: Callable[[Tensor], Tensor]) -> Callable[[tuple[Tensor, Tensor]], list[Tensor]]:
        return lambda pair: [method(x)[0].detach() for x in pair]

    options: dict[str, Any] = {"baselines": BASELINE, "n_steps": N_STEPS}
    return {
        "ParallelBackprop": lambda pair: [m[0] for m in parallel.attribute(pair, readout=readout, target=0, **options)],
        "Saliency": both(lambda x: saliency.attribute(x.clone().requires_grad_(), target=0)),
        "IntegratedGradients": both(lambda x: integrated.attribute(x, target=0, **options)),
        "GradCAM": both(coarse),
    }


def _share(maps: Sequence[Tensor], shared: SharedParts) -> float:
    """Share of the heat on the truly shared parts, mean of both images."""
    masks = (shared.mask_x, shared.mask_ref)
    each = [relevance_mass_accuracy(display_heat(m.cpu()), mask) for m, mask in zip(maps, masks, strict=True)]
    return float(torch.stack(each).mean())


def _area(shared: SharedParts) -> float:
    return float(np.mean([shared.mask_x.mean(), shared.mask_ref.mean()]))


def _draw(path: Path, case: Case, maps: Sequence[Tensor], shares: dict[str, float], preferred: str) -> Picture:
    figure = pair_figure(
        [x[0].cpu() for x in case.images],
        [m.cpu() for m in maps],
        titles=(f"{case.name} that excites the neuron", f"{preferred} most similar for it"),
        neuron=preferred,
        similarity=case.similarity,
        response=case.response,
        show_images=True,
    )
    truth = ", ".join(case.shared.kinds)
    caption = f"Truly shared: {truth}. Share of heat on it: {shares['ParallelBackprop']:.2f}"
    alt = f"A {case.name} and a {preferred} that share {truth}, plain above, with heat on what they share below"
    return Picture(write_figure(path, figure), caption, alt)


def _rows(cases: Sequence[Case], shares: Sequence[dict[str, float]]) -> Iterator[list[Any]]:
    for rank, (case, row) in enumerate(zip(cases, shares, strict=True), start=1):
        yield [f"pair_{rank:02d}", case.name, ", ".join(case.shared.kinds), _area(case.shared), *row.values()]


def _header(shares: Sequence[dict[str, float]]) -> list[str]:
    return ["pair", "image", "truly shared", "area", *(shares[0] if shares else ())]


def _print_table(cases: Sequence[Case], shares: Sequence[dict[str, float]], summary: dict[str, Any]) -> None:
    mean = ["mean", "", "", summary["mean_area"], *summary["mean_share"].values()]
    rows = [_header(shares), *_rows(cases, shares), mean]
    text = [[f"{value:.2f}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    print("Share of heat on the truly shared part, mean of both images:")
    for row in text:
        print("  ".join(value.ljust(width) for value, width in zip(row, widths, strict=True)).rstrip())


def _write_report(
    folder: Path,
    summary: dict[str, Any],
    cases: Sequence[Case],
    shares: Sequence[dict[str, float]],
    pictures: Sequence[Picture],
) -> None:
    header, rows = _header(shares), list(_rows(cases, shares))
    sections = [
        gallery("Pairs", pictures),
        table("Share of heat on the truly shared part, mean of both images", header, rows),
        table("Settings", ("setting", "value"), [(key, str(value)) for key, value in summary.items()]),
    ]
    write_csv(folder / "shares.csv", header, rows)
    write_text(
        folder / "index.html", page(f"What excites a {summary['preferred']} neuron?", _methods_text(summary), sections)
    )
    write_json(folder / "summary.json", summary)


def _methods_text(s: dict[str, Any]) -> list[str]:
    scaled = "standardised over all images" if s["standardized"] else "as the network gives them, not standardised"
    return [
        f"A linear neuron on the latents of a small network prefers the category '{s['preferred']}' (cross-validated "
        f"area under the ROC curve {s['cv_auc']:.2f}). These are the other images that excite it most, each with the "
        f"{s['preferred']} that is most similar for this neuron. Heat marks what the two share and the neuron reads.",
        "The images are composed of parts, so the truth is known: a part is truly shared if it is in both images and "
        f"the response falls by at least {s['least_drop']} without it in both. "
        f"{s['passed_over_without_shared_part']} images without such a part were passed over. The methods that see the "
        "readout alone cannot know the reference.",
        f"Latents are {scaled}. The network was trained so that a few of its channels stand for each kind of part, "
        "which suits a product channel by channel; ordinary networks are not so kind.",
    ]
