"""Train the demo network: ``python -m captum_shared.synthetic.train --out FILE --seed 0``."""

from __future__ import annotations

import argparse
import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset
from tqdm import tqdm

from captum_shared.checks import check_integer
from captum_shared.files import write_bytes
from captum_shared.synthetic.images import SyntheticImages, make_images, render_scenes
from captum_shared.synthetic.layout import CATEGORIES, sample_scene
from captum_shared.synthetic.network import LABELS, DemoNetwork, demo_network, place_logits, save_network
from captum_shared.synthetic.parts import KINDS
from captum_shared.synthetic.scene import Scene

LEARNING_RATE = 4e-3
WEIGHT_DECAY = 1e-3
CLASSIFIER_FACTOR = 30.0
"""Learning rate of the last layer against the others: a part fills few cells, so average-pooled latents are small."""
RARE = 4.0
"""Weight of a cell that holds a kind against one that does not: most cells hold none."""
LOCATOR = 3.0
"""Weight of knowing where the parts are, against knowing which there are."""


def train(
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    n_images: int = 5000,
    epochs: int = 12,
    batch_size: int = 50,
    progress: bool = True,
) -> None:
    """Train on freshly rendered images to tell which kinds of parts and which category an image shows.

    The same arguments on the same machine with the same number of threads give the same weights. After each epoch the
    state is written to ``<out>.checkpoint``; a later call with the same arguments resumes from there.

    Parameters
    ----------
    out : path
        The safetensors file to write.
    seed : int
        Of images, initial weights and the order of training.
    n_images, epochs, batch_size : int
        Size of the training set, passes through it, images per step.
    progress : bool
        Whether to show progress bars.
    """
    settings = {"seed": seed, "n_images": n_images, "epochs": epochs, "batch_size": batch_size}
    for name in ("n_images", "epochs", "batch_size"):
        check_integer(name, settings[name])
    checkpoint = Path(f"{os.fspath(out)}.checkpoint")
    network, optimizer, start = _start(checkpoint, settings)
    data = _training_set(n_images, seed, progress)
    for epoch in range(start, epochs):
        _train_epoch(network, optimizer, data, epoch, settings, progress)
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
        buffer = io.BytesIO()
        torch.save({**state, "epoch": epoch + 1, "settings": settings}, buffer)
        write_bytes(checkpoint, buffer.getvalue())
    save_network(network.state_dict(), out)
    checkpoint.unlink(missing_ok=True)


def _training_set(n: int, seed: int, progress: bool) -> TensorDataset:
    """Pixels (n, 3, 96, 96) uint8, label targets and place targets; rendered in blocks to save memory."""
    blocks = []
    for start in tqdm(range(0, n, 100), "rendering", disable=not progress):
        scenes = [_training_scene(seed, index) for index in range(start, min(start + 100, n))]
        data = render_scenes(scenes)
        blocks.append(((255 * data.images).round().byte(), label_targets(data), place_targets(data)))
    return TensorDataset(*(torch.cat(tensors) for tensors in zip(*blocks, strict=True)))


def _training_scene(seed: int, index: int) -> Scene:
    """Categories take turns; the background's clutter runs from none to thirteen shapes."""
    category = CATEGORIES[index % len(CATEGORIES)]
    return sample_scene(category, np.random.default_rng([seed, index]), clutter=index % 14)


def label_targets(data: SyntheticImages) -> Tensor:
    """1 where a kind is visible or a category is the image's, (n, len(LABELS)) float32."""
    categories = torch.tensor([[float(name == category) for name in CATEGORIES] for category in data.categories])
    return torch.cat([data.presence(), categories], dim=1)


def place_targets(data: SyntheticImages) -> Tensor:
    """Share of each cell of the last map that a kind covers, (n, len(KINDS), size / 8, size / 8)."""
    size = data.images.shape[-1]
    cover = torch.zeros(len(data), len(KINDS), size // 8, size // 8)
    for index, masks in enumerate(data.masks):
        for kind, mask in masks.items():
            cells = torch.from_numpy(mask).reshape(size // 8, 8, size // 8, 8)
            cover[index, list(KINDS).index(kind)] = cells.float().mean(dim=(1, 3))
    return cover


def _start(checkpoint: Path, settings: dict[str, Any]) -> tuple[DemoNetwork, torch.optim.Optimizer, int]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings["seed"])
        network = DemoNetwork()
    groups = [
        {"params": list(network.features.parameters()), "factor": 1.0},
        {"params": list(network.classifier.parameters()), "factor": CLASSIFIER_FACTOR},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
    if not checkpoint.is_file():
        return network, optimizer, 0
    state = torch.load(checkpoint, weights_only=True)
    if state["settings"] != settings:
        raise ValueError(f"{checkpoint} was made with {state['settings']}, this run has {settings}; delete or move it")
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return network, optimizer, state["epoch"]


def _train_epoch(
    network: DemoNetwork, optimizer: torch.optim.Optimizer, data: TensorDataset, epoch: int, settings: dict[str, Any],
    progress: bool,
) -> None:  # fmt: skip
    bce = nn.functional.binary_cross_entropy_with_logits
    rare = torch.tensor(RARE)
    network.train()
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(1000 * settings["seed"] + epoch))
    batches = order.split(settings["batch_size"])
    bar = tqdm(batches, f"epoch {epoch + 1}/{settings['epochs']}", disable=not progress)
    for step, batch in enumerate(bar):
        done = (epoch + step / len(batches)) / settings["epochs"]
        for group in optimizer.param_groups:
            group["lr"] = group["factor"] * learning_rate(done)
        pixels, targets, places = data[batch]
        maps = network.features(pixels.float() / 255)
        logits = network.classifier(network.flatten(network.pool(maps)))
        loss = bce(logits, targets) + LOCATOR * bce(place_logits(maps), places, pos_weight=rare)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)


def learning_rate(done: float) -> float:
    """Linear warm-up over a tenth of the training, then a half cosine down to zero."""
    return LEARNING_RATE * (done / 0.1 if done < 0.1 else 0.5 + 0.5 * math.cos(math.pi * (done - 0.1) / 0.9))


@torch.no_grad()
def evaluate(network: nn.Module, data: SyntheticImages) -> dict[str, tuple[float, float]]:
    """Area under the ROC curve and average precision of each label, ``{label: (auc, ap)}``."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    logits, targets = torch.cat([network(batch) for batch in data.images.split(100)]), label_targets(data)
    return {
        label: (float(roc_auc_score(target, logit)), float(average_precision_score(target, logit)))
        for label, target, logit in zip(LABELS, targets.T, logits.T, strict=True)
    }


def main() -> None:
    """Train, save the network, and print how well it does on held-out images."""
    parser = argparse.ArgumentParser(prog="python -m captum_shared.synthetic.train", description=__doc__)
    parser.add_argument("--out", required=True, help="safetensors file to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of images, weights and order (default: 0)")
    parser.add_argument("--images", type=int, default=5000, help="size of the training set (default: 5000)")
    parser.add_argument("--epochs", type=int, default=12, help="passes through the training set (default: 12)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default: 2); results depend on it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    train(arguments.out, seed=arguments.seed, n_images=arguments.images, epochs=arguments.epochs)
    held_out = make_images(1000, seed=arguments.seed + 1)
    print(f"{'label':<12}{'AUC':>8}{'AP':>8}   (1000 held-out images)")
    for label, (auc, precision) in evaluate(demo_network(arguments.out), held_out).items():
        print(f"{label:<12}{auc:8.3f}{precision:8.3f}")


if __name__ == "__main__":
    main()
