"""How many gradients does integrated gradients need? Rules of quadrature on pairs of photographs, at equal error.

``python -m benchmarks.steps --images DIR --labels CSV --model NAME --weights PATH --layer NAME --categories A,B,...
--out DIR`` explains the strongest out-of-category images of category neurons, as ``captum-shared category`` does.
Each path is recorded on a fine grid, from which every rule's error is known: of completeness (the sum of the map),
of the map itself (relative L2 to the finest, channels summed), and of the heat that is drawn. ``n_steps="auto"`` runs
as it is. Writes ``steps.csv`` (image, rule, tolerance, gradients, completeness, map, heat), ``steps.json``,
``table.md`` and ``steps.png``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.common.results import finish
from benchmarks.quadrature.rules import FINE, RULES, Array, Recorded, Rule, bisected, graded_grid, rescaled
from captum_shared.attribution import quadrature
from captum_shared.encoder import LatentEncoder, encode_images
from captum_shared.files import output_folder, write_csv, write_figure, write_json
from captum_shared.images import open_rgb
from captum_shared.labels import read_labels
from captum_shared.networks import load_encoder
from captum_shared.readout import fit_readout
from captum_shared.selection import find_drivers, find_pairs
from captum_shared.similarity import shared_weights
from captum_shared.study.category import standardized
from captum_shared.visualization import display_heat

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MEASURES = ("completeness", "map", "heat")
TOLERANCES = (0.05, 0.03, 0.025, 0.02, 0.015, 0.01, 0.005)
AUTO, YARDSTICK = 'n_steps="auto"', ("Gauss-Legendre", 50)
LOCAL = (16, 24, 36, 50, 72)
CHUNK = 8


@dataclass(frozen=True)
class PathErrors:
    """Errors of a rule on one image, all relative; `tolerance` is that of n_steps="auto", 0 for the other rules."""

    image: str
    rule: str
    tolerance: float
    gradients: int
    completeness: float
    map: float
    heat: float


@dataclass(frozen=True)
class Explained:
    """An image (1, C, H, W) with its shared weights (1, D)."""

    name: str
    x: Tensor
    shared: Tensor


def run(
    *, model: str, weights: str, layer: str, images: str | Path, labels: str | Path, categories: str, out: str | Path,
    pairs: int = 2, image_size: int | None = None, baseline: float = 0.0, seed: int = 0, device: str = "cpu",
    progress: bool = True,
) -> list[PathErrors]:  # fmt: skip
    """Explain `pairs` images of each category's neuron, and write the files."""
    folder = output_folder(out)
    encoder, transform = load_encoder(model, layer, "avg", weights, image_size=image_size)
    encoder = encoder.to(device).eval().requires_grad_(False)
    labelled = read_labels(images, labels)
    explained = category_pairs((encoder, transform), *labelled, categories.split(","), pairs, seed)
    rows = [row for one in tqdm(explained, "images", disable=not progress) for row in measure(encoder, one, baseline)]
    header = list(asdict(rows[0]))
    write_csv(folder / "steps.csv", header, [[getattr(row, name) for name in header] for row in rows])
    summary = summarize(rows)
    about = {"model": model, "layer": layer, "image_size": image_size, "baseline": baseline, "images": len(explained)}
    write_json(folder / "steps.json", {**about, "seed": seed, "rules": summary, "equal": equal_error(summary)})
    (folder / "table.md").write_text(table(summary))
    draw(folder / "steps.png", summary)
    return rows


def category_pairs(
    network: tuple[LatentEncoder, Callable[..., Tensor]], paths: Sequence[Path], names: Sequence[str],
    categories: Sequence[str], pairs: int, seed: int,
) -> list[Explained]:  # fmt: skip
    """The strongest images outside each category, and their references, for ridge readouts of membership."""
    encoder, transform = network
    for name in set(categories) - set(names):
        raise ValueError(f"`categories` must be of the label file, got {name!r}; expected some of {sorted(set(names))}")
    latents = standardized(encoder, encode_images(encoder, paths, transform, progress=False))
    found = []
    for category in categories:
        member = np.array([name == category for name in names])
        fit = fit_readout(latents, member.astype(float), cv=5, seed=seed)
        weight = fit.readout.weight[0]
        drivers = find_drivers(fit.predictions[:, 0], member, top=pairs)
        chosen = find_pairs(latents, drivers, weight)
        for i, j in zip(chosen.images, chosen.references[:, 0], strict=True):
            shared = shared_weights(latents[i : i + 1], latents[j : j + 1], weight)
            found += [Explained(paths[k].name, transform(open_rgb(paths[k]))[None], shared) for k in (i, j)]
    return found


def measure(encoder: nn.Module, one: Explained, baseline: float = 0.0) -> list[PathErrors]:
    """All rules on one image."""
    device = next(encoder.parameters()).device
    x, shared = one.x.to(device), one.shared.to(device)
    start = torch.full_like(x, baseline)
    grid = graded_grid(FINE)
    fixed = {(name, n): make(n) for name, (make, sizes) in RULES.items() for n in sizes}
    path = record(encoder, x, start, shared, np.concatenate([grid, *(alphas for alphas, _ in fixed.values())]))
    exact = path.reference()
    heat = display_heat(exact)

    def row(rule: str, gradients: int, total: float, found: Array, tolerance: float = 0.0) -> PathErrors:
        errors = (
            abs(total - path.gain) / abs(path.gain),
            _distance(found, exact),
            _distance(display_heat(found), heat),
        )
        return PathErrors(one.name, rule, tolerance, gradients, *(float(error) for error in errors))

    local: dict[tuple[str, int], Rule] = {("bisection", n): rule for n, rule in bisected(path, LOCAL).items()}
    local |= {("graded, rescaled", n): rescaled(path, n) for n in RULES["graded trapezoid"][1]}
    rows = [row(name, n, *path.integral(rule)) for (name, n), rule in (fixed | local).items()]
    for tolerance in TOLERANCES:
        integral = quadrature.refine(encoder, quadrature.Path(x, start, shared[:, None]), CHUNK, tolerance)
        found = (integral.mean[0, 0] * (x - start)[0]).sum(0).double().cpu().numpy()
        rows.append(row(AUTO, int(integral.n_steps), path.gain + float(integral.delta), found, tolerance))
    return rows


def record(encoder: nn.Module, x: Tensor, start: Tensor, shared: Tensor, alphas: Array) -> Recorded:
    """Values, slopes and maps at all `alphas`, each once."""
    alphas = np.unique(alphas.round(12))
    values, slopes, maps = [], [], []
    for some in np.array_split(alphas, -(-len(alphas) // CHUNK)):
        steps = torch.tensor(some, dtype=x.dtype, device=x.device)[:, None, None, None]
        points = (start + steps * (x - start)).requires_grad_()
        with torch.enable_grad():
            z = encoder(points)
            terms = torch.autograd.grad(z, points, shared.expand_as(z))[0] * (x - start)
        values.append((z.detach().double() @ shared[0].double()).cpu().numpy())
        slopes.append(terms.double().sum((1, 2, 3)).cpu().numpy())
        maps.append(terms.sum(1).float().cpu().numpy())
    return Recorded(alphas, np.concatenate(values), np.concatenate(slopes), np.concatenate(maps))


def _distance(found: Array, exact: Array) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def summarize(rows: Sequence[PathErrors]) -> list[dict[str, Any]]:
    """Mean number of gradients, and mean, median and largest errors over the images."""
    keys = dict.fromkeys((row.rule, row.tolerance, 0 if row.tolerance else row.gradients) for row in rows)
    summary = []
    for rule, tolerance, n in keys:
        own = [r for r in rows if (r.rule, r.tolerance) == (rule, tolerance) and (tolerance or r.gradients == n)]
        line: dict[str, Any] = {"rule": rule, "tolerance": tolerance or None}
        line["gradients"] = float(np.mean([row.gradients for row in own]))
        for measure in MEASURES:
            values = [getattr(row, measure) for row in own]
            line[measure] = {"mean": float(np.mean(values)), "median": float(np.median(values)), "max": max(values)}
        summary.append(line)
    return summary


def equal_error(summary: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Gradients at which each rule's mean error is that of 50 Gauss points: on straight lines between logarithms.

    None where the rule's errors are all above it, or all below.
    """
    goal = next(line for line in summary if (line["rule"], line["gradients"]) == YARDSTICK)
    return {
        rule: {
            of: _crossing([line for line in summary if line["rule"] == rule], of, goal[of]["mean"]) for of in MEASURES
        }
        for rule in dict.fromkeys(line["rule"] for line in summary)
    }


def _crossing(lines: Sequence[dict[str, Any]], of: str, goal: float) -> float | None:
    """The last time that the error falls through the goal, since a coarse rule may be right by chance."""
    lines = sorted(lines, key=lambda line: (line["gradients"], -line[of]["mean"]))
    for before, after in reversed(list(pairwise(lines))):
        high, low = before[of]["mean"], after[of]["mean"]
        if high > goal >= low:
            part = np.log(high / goal) / np.log(high / low)
            return float(before["gradients"] * (after["gradients"] / before["gradients"]) ** part)
    return None


def table(summary: Sequence[dict[str, Any]]) -> str:
    """Markdown: each rule with its gradients and mean (largest) errors; then the gradients for equal error."""
    lines = [f"| rule | gradients | {' | '.join(MEASURES)} |", "|---|---|---|---|---|"]
    for line in summary:
        name = line["rule"] + (f", tolerance {line['tolerance']:g}" if line["tolerance"] else "")
        errors = [f"{line[of]['mean']:.4f} ({line[of]['max']:.4f})" for of in MEASURES]
        lines.append(f"| {name} | {line['gradients']:.1f} | {' | '.join(errors)} |")
    lines += ["", f"Gradients for the mean error of {YARDSTICK[1]} points of {YARDSTICK[0]}:", ""]
    lines += [f"| rule | {' | '.join(MEASURES)} |", "|---|---|---|---|"]
    for rule, found in equal_error(summary).items():
        lines.append(f"| {rule} | {' | '.join('' if n is None else f'{n:.0f}' for n in found.values())} |")
    return "\n".join(lines) + "\n"


def draw(path: Path, summary: Sequence[dict[str, Any]]) -> None:
    """Mean errors against gradients, one panel for each measure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    for axes, of in zip(figure.subplots(1, 3), MEASURES, strict=True):
        for rule in dict.fromkeys(line["rule"] for line in summary):
            own = sorted((line["gradients"], line[of]["mean"]) for line in summary if line["rule"] == rule)
            style: dict[str, Any] = {"color": "black", "lw": 0, "ms": 7, "zorder": 3} if rule == AUTO else {"ms": 4}
            if min(error for _, error in own) > 1e-6:  # what is complete by construction has no error to draw
                axes.plot(*zip(*own, strict=True), "o-", label=rule, **style)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks([9, 18, 36, 50, 72, 100], ["9", "18", "36", "50", "72", "100"], minor=False)
        places = [place for place in (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if _inside(place, axes)]
        axes.set_yticks(places, [f"{100 * place:g} %" for place in places])
        axes.minorticks_off()
        axes.set_xlabel("gradients")
        axes.set_title(f"relative error: {of}", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*figure.axes[1].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    write_figure(path, figure)


def _inside(place: float, axes: Axes) -> bool:
    low, high = axes.get_ylim()
    return bool(low <= place <= high)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steps", description=__doc__.split("\n")[0])
    for name, text in (("images", "folder of photographs"), ("labels", "CSV with the columns file and category"),
                       ("model", "torchvision name, or module:callable"), ("weights", "its state dict"),
                       ("layer", "name of the layer"), ("categories", "the neurons' categories: A,B,..."),
                       ("out", "folder for the results")):  # fmt: skip
        parser.add_argument(f"--{name}", required=True, help=text)
    parser.add_argument("--pairs", type=int, default=2, metavar="N", help="of each category (default: 2)")
    parser.add_argument("--image-size", type=int, metavar="N", help="side in pixels (default: the network's)")
    parser.add_argument("--baseline", type=float, default=0.0, metavar="X", help="in the input's units (default: 0)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the folds (default: 0)")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, mps ... (default: cpu)")
    options = vars(parser.parse_args(arguments))
    return finish("steps", options["out"], partial(run, **options))
