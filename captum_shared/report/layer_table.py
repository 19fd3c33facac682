"""The layers of a network as a table, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from captum_shared.checks import check_integer
from captum_shared.identity import as_tensor
from captum_shared.networks.registry import check_model, load_network
from captum_shared.networks.survey import SurveyedLayer, survey_layers
from captum_shared.tables import aligned

MARK = "*"
HEAD = ("", "layer", "module", "output for one image", "pool")
VECTOR = "none needed"


def run_layers(
    *,
    model: str,
    weights: str | Path | None = "none",
    image_size: int | None = None,
    everything: bool = False,
) -> str:
    """`load_network`, then the table of its layers: where it can be cut or, with the reasons why not, `everything`."""
    if image_size is not None:
        check_integer("image_size", image_size)
    check_model(model, weights)
    network, transform = load_network(model, weights, image_size=image_size, seed=0)
    x = as_tensor(transform(Image.new("RGB", (400, 300))))
    layers = survey_layers(network, x[None])
    rows = [HEAD, *(_row(layer) for layer in layers if everything or not layer.reason)]
    return f"{aligned(rows)}\n\n{_summary(layers, x.shape[-2:], everything)}"


def _summary(layers: Sequence[SurveyedLayer], size: Sequence[int], everything: bool) -> str:
    """What the table shows and leaves out."""
    fit = [layer for layer in layers if not layer.reason]
    said = [
        f"Images of {size[0]} x {size[1]} pixels. The network can be cut at {len(fit)} of the {len(layers)} modules.",
        f"{MARK} tried by: captum-shared recording --layer auto (one is chosen for each neuron).",
    ]
    if any("grid" in layer.pools for layer in fit):
        said.append("grid: --pool N averages over a grid of N x N.")
    if not everything and len(fit) < len(layers):
        said.append("--all lists the others, too, with the reason.")
    return "\n".join(said)


def _row(layer: SurveyedLayer) -> tuple[str, ...]:
    shape = " x ".join(map(str, layer.shape)) if layer.shape is not None else ""
    pool = VECTOR if layer.form == "vector" else ", ".join(layer.pools)
    return MARK * layer.block, layer.name, layer.kind, f"{shape} {layer.form}".strip(), layer.reason or pool
