"""What every source of networks has in common: prefixes, random weights from a seed, a package that is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from captum_shared import load_encoder
from captum_shared.networks.registry import SOURCES, check_model, load_network
from captum_shared.networks.sources.wanted import downloading
from captum_shared.report import category, selectivity
from captum_shared.report.recording import explain


def first(model: nn.Module) -> torch.Tensor:
    return next(model.parameters())


@pytest.mark.parametrize("name", ["squeezenet1_1", "tiny_network:make"])
def test_no_weights_are_random_ones_from_a_seed(name: str, tiny: nn.Module) -> None:
    for weights in (None, "none"):
        check_model(name, weights)
        assert load_network(name, weights, image_size=32)[0]
    if name == "squeezenet1_1":  # the other seeds itself
        torch.manual_seed(3)
        state = torch.get_rng_state()
        one, two, other = (load_network(name, None, seed=seed)[0] for seed in (0, 0, 1))
        assert torch.equal(state, torch.get_rng_state())
        assert torch.equal(first(one), first(two))
        assert not torch.equal(first(one), first(other))
        assert not torch.equal(first(load_network(name, None)[0]), first(load_network(name, None)[0]))


def test_the_networks_own_weights_are_not_asked_for_by_default(tiny: nn.Module) -> None:
    with pytest.raises(FileNotFoundError, match="no weights at DEFAULT: expected the path of a state dict, or 'none'"):
        load_network("tiny_network:make")


def test_mean_and_std_of_a_name_of_torchvision_without_a_size() -> None:
    _, transform = load_encoder("squeezenet1_1", "features.5", weights=None, mean=(0, 0, 0.5), std=(1, 1, 0.25))
    assert torch.allclose(transform(torch.ones(3, 300, 300))[:, 0, 0], torch.tensor([1.0, 1.0, 2.0]))


@pytest.mark.parametrize(("name", "package"), [("timm", "timm"), ("hf", "transformers"), ("open_clip", "open_clip")])
def test_a_package_that_is_missing_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    extra = name.replace("_", "-")  # what a wheel says; pip before 23.3 takes nothing else
    for refuse in (check_model, load_network):
        with pytest.raises(
            ImportError, match=rf'networks named {name}:NAME need {package}: pip install "captum-shared\[{extra}\]"'
        ):
            refuse(f"{name}:something", None)


def test_prefixes_are_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the user's that is called like a source is not imported."""
    monkeypatch.chdir(tmp_path)
    for name in SOURCES:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
        monkeypatch.setitem(sys.modules, {"hf": "transformers"}.get(name, name), None)
        with pytest.raises(ImportError, match="pip install"):
            load_network(f"{name}:make", None)


@pytest.mark.parametrize("error", [OSError("a\n  b"), RuntimeError("a\n  b")])
def test_what_cannot_be_downloaded_is_said_in_one_line(error: Exception) -> None:
    from captum_shared.console import describe

    with pytest.raises(OSError, match="^'name': a b$") as failed, downloading("name"):
        raise error
    assert describe(failed.value) == (
        1,
        "error: cannot download ('name': a b); pass --weights PATH, a state dict on this machine",
    )


@pytest.mark.parametrize("command", ["category", "selectivity", "recording", "recording auto"])
def test_the_seed_of_a_command_is_that_of_its_random_weights(
    command: str, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = []

    def load(*names: str, seed: int, **options: object) -> None:
        seeds.append(seed)
        raise InterruptedError

    for module in (category, selectivity, explain):
        for name in ("load_encoder", "load_network"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, load)
    network = {"model": "squeezenet1_1", "weights": "none", "image_size": 24, "seed": 7}
    labelled = {"images": recording / "stimuli", "labels": recording / "stimuli.csv"}
    layer, pool = ("auto", None) if "auto" in command else ("features.1", 2)
    runs: dict[str, Callable[[], object]] = {
        "category": lambda: category.run_category(**network, **labelled, preferred="disc", layer="features.1"),
        "selectivity": lambda: selectivity.run_selectivity(**network, **labelled, layers=["features.1"]),
        "recording": lambda: explain.run_recording(**network, recording=recording, layer=layer, pool=pool),
    }
    with pytest.raises(InterruptedError):
        runs[command.split()[0]]()
    assert seeds == [7]
