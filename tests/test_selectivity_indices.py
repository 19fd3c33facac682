"""Indices: by hand, planted truth with closed forms, and each known trap."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import captum_shared as cs
from captum_shared.selectivity import (
    TopActivations,
    changed_responses,
    color_selectivity_index,
    grey,
    mirror,
    orientation_selectivity_index,
    receptive_fields,
    response_loss,
    symmetry_selectivity_index,
    top_activations,
    transform_selectivity_index,
    turn,
)
from captum_shared.selectivity.changes import LUMA


def detectors(*kernels: Tensor) -> nn.Module:
    """Rectified filters (U, 3, k, k)."""
    weight = torch.stack(kernels).double()
    conv = nn.Conv2d(3, len(weight), weight.shape[-1], bias=False).double()
    conv.weight.data = weight
    return nn.Sequential(conv, nn.ReLU()).eval()


def colour(r: float, g: float, b: float) -> Tensor:
    return torch.tensor([r, g, b], dtype=torch.float64)[:, None, None]


def achromatic(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows).expand(3, len(rows), len(rows))


PLAIN = torch.rand(12, 3, 9, 9, generator=torch.Generator().manual_seed(3)).double()


# By hand


def test_response_loss_by_hand() -> None:
    a = torch.tensor([[4.0, 2.0, 2.0], [4.0, 2.0, 2.0], [4.0, 2.0, -2.0], [-1.0, -2.0, -3.0]])
    changed = torch.tensor([[2.0, 1.0, 1.0], [0.0, 0.0, 0.0], [6.0, 3.0, -5.0], [1.0, 1.0, 1.0]])
    assert response_loss(a, changed)[:3].tolist() == [0.5, 1.0, -0.5]  # 1 - 4/8, 1 - 0, 1 - 9/6
    assert response_loss(a, changed)[3].isnan()  # no response to lose
    with pytest.raises(ValueError, match=r"must both be \(U, k\), got \(4, 3\) and \(4, 2\)"):
        response_loss(a, changed[:, :2])


def test_greys_by_hand() -> None:
    x = torch.tensor([0.2, 0.4, 0.9]).reshape(1, 3, 1, 1)
    assert grey()(x).flatten().tolist() == pytest.approx([0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.9] * 3)
    assert grey("opponent")(x).flatten().tolist() == pytest.approx([0.5] * 3)
    r, g, b = grey("opponent")(torch.rand(1, 3, 4, 4))[0]
    assert torch.allclose(r - g, torch.zeros(4, 4))  # both chromatic axes are zero
    assert torch.allclose(r + g - 2 * b, torch.zeros(4, 4), atol=1e-6)
    with pytest.raises(ValueError, match=r"must be one of \('luminance', 'opponent'\), got 'red'"):
        grey("red")
    with pytest.raises(ValueError, match=r"three colour channels .*\(2, 1, 3, 3\)"):
        grey()(torch.rand(2, 1, 3, 3))


def test_opponent_grey_keeps_the_intensity_of_the_opponent_space() -> None:
    to = torch.tensor([[1, -1, 0], [1, 1, -2], [1, 1, 1]]).double()
    to = to / to.norm(dim=1, keepdim=True)
    x = torch.rand(2, 3, 4, 4).double()
    opponent = torch.einsum("oc,nchw->nohw", to, x)
    opponent[:, :2] = 0
    assert torch.allclose(grey("opponent")(x), torch.einsum("oc,nohw->nchw", to, opponent))


def test_turns_and_mirrors_of_a_small_square() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2)
    assert turn(90)(x)[0, 0].tolist() == [[2, 4], [1, 3]]
    assert turn(-180)(x)[0, 0].tolist() == [[4, 3], [2, 1]]
    assert mirror(90)(x)[0, 0].tolist() == [[2, 1], [4, 3]]  # left for right
    assert mirror(0)(x)[0, 0].tolist() == [[3, 4], [1, 2]]
    assert mirror(135)(x)[0, 0].tolist() == [[1, 3], [2, 4]]  # about the falling diagonal
    assert mirror(45)(x)[0, 0].tolist() == [[4, 2], [3, 1]]


@pytest.mark.parametrize("shape", [(8, 8), (6, 10)])
def test_turning_by_interpolation_agrees_with_turning_pixels(shape: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *shape).double()
    assert torch.allclose(turn(180 + 1e-9)(x), x.flip(2, 3), atol=1e-6)
    assert torch.allclose(turn(1e-9)(x), x, atol=1e-6)
    if shape[0] == shape[1]:
        assert torch.allclose(turn(90 + 1e-9)(x), turn(90)(x), atol=1e-6)


# Planted truth


def test_colour_of_a_red_detector_and_of_a_luminance_detector() -> None:
    luma = colour(*LUMA)
    model = detectors(colour(1, -0.5, -0.5), luma, colour(1, 0, 0))
    top = top_activations(model, "1", PLAIN, k=10)
    index = color_selectivity_index(model, top, PLAIN)
    assert index[0].item() == 1  # no response to any grey
    assert index[1].item() == pytest.approx(0, abs=1e-12)  # grey keeps luminance
    # A detector of the red channel responds to grey with its luminance, at the same place.
    flat = PLAIN.flatten(2)
    seen = flat[top.images[2], :, top.positions[2]]
    expected = 1 - (seen @ torch.tensor(LUMA, dtype=torch.float64)).sum() / seen[:, 0].sum()
    assert index[2].item() == pytest.approx(expected.item(), abs=1e-12)


def test_grey_versions_differ_as_they_must() -> None:
    model = detectors(colour(*LUMA), colour(1 / 3, 1 / 3, 1 / 3))
    top = top_activations(model, "1", PLAIN, k=10)
    luminance = color_selectivity_index(model, top, PLAIN)
    opponent = color_selectivity_index(model, top, PLAIN, grey_version="opponent")
    assert luminance[0].abs() < 1e-12 < luminance[1].abs()
    assert opponent[1].abs() < 1e-12 < opponent[0].abs()


def edges(n: int = 6) -> Tensor:
    """Images with a vertical edge, a horizontal one, a bright spot, a dark-bright-dark bar."""
    images = torch.zeros(4 * n, 3, 12, 12).double()
    for i in range(n):
        images[4 * i, :, :, 4 + i % 4 :] = 0.5 + i / 20
        images[4 * i + 1, :, 4 + i % 4 :] = 0.5 + i / 20
        images[4 * i + 2, :, 4 + i % 3, 5] = 0.5 + i / 20
        images[4 * i + 3, :, :, 4 + i % 4] = 0.5 + i / 20
    return images


VERTICAL_EDGE = [[-1.0, 0.0, 1.0]] * 3
VERTICAL_BAR = [[-1.0, 2.0, -1.0]] * 3
SPOT = [[-1.0, -1.0, -1.0], [-1.0, 8.0, -1.0], [-1.0, -1.0, -1.0]]
MEAN = [[1.0] * 3] * 3


def test_orientation_and_symmetry_of_known_filters() -> None:
    model = detectors(*map(achromatic, (VERTICAL_EDGE, VERTICAL_BAR, SPOT, MEAN)))
    images = edges()
    top = top_activations(model, "1", images, k=5)
    orientation = orientation_selectivity_index(model, top, images)
    assert orientation.tolist() == pytest.approx([1, 1, 0, 0], abs=1e-12)
    symmetry = symmetry_selectivity_index(model, top, images)
    assert symmetry.tolist() == pytest.approx([0, 1, 1, 1], abs=1e-12)  # an edge mirrored is the opposite edge
    about_all = symmetry_selectivity_index(model, top, images, axes=(0, 45, 90, 135))
    assert about_all[2:].tolist() == pytest.approx([1, 1], abs=1e-12)
    assert about_all[0].item() == pytest.approx(0.25, abs=1e-12)  # only upside down leaves a vertical edge as it is
    assert orientation_selectivity_index(model, top, images, angles=(180, 360))[0].item() == pytest.approx(0.5)


def test_doing_nothing_costs_nothing_at_the_border_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 5, 3, 1, 1), nn.ReLU()).double().eval()
    top = top_activations(model, "3", PLAIN, k=12)
    options: dict[str, Any] = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    same = changed_responses(model, top, PLAIN, lambda crops: crops, **options)
    assert torch.allclose(same, top.activations, atol=1e-12)
    assert transform_selectivity_index(model, top, PLAIN, [torch.zeros_like] * 2, **options).shape == (5,)


def slowly(model: nn.Module, top: TopActivations, images: Tensor, change: Any) -> Tensor:
    """One crop at a time, from the whole image."""
    fields = receptive_fields(model, top.layer, top.image_size)
    found = torch.zeros_like(top.activations)
    for unit in range(top.n_units):
        for rank in range(top.k):
            image, place = images[top.images[unit, rank]], top.positions[unit, rank]
            t, l, h, w = fields.boxes(torch.tensor([unit]), place[None])[0].tolist()  # noqa: E741
            big = nn.functional.pad(image[None], (w, w, h, h), mode="replicate")
            big[:, :, t + h : t + 2 * h, l + w : l + 2 * w] = change(big[:, :, t + h : t + 2 * h, l + w : l + 2 * w])
            x = big[:, :, h:-h, w:-w]
            found[unit, rank] = model(x)[0, unit].flatten()[place]
    return found


@pytest.mark.parametrize("change", [turn(90), turn(30), mirror(90), grey()])
def test_packed_crops_respond_as_each_alone(change: Any) -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv2d(4, 6, 3, 1, 1)).double().eval()
    images = torch.rand(5, 3, 24, 24).double()
    top = top_activations(model, "", images, k=5)
    for batch_size in (1, 4):
        packed = changed_responses(model, top, images, change, batch_size=batch_size)
        assert torch.allclose(packed, slowly(model, top, images, change), atol=1e-12)


def test_crops_share_forward_passes() -> None:
    calls: list[int] = []
    model = nn.Conv2d(3, 8, 3).double().eval()
    images = torch.rand(4, 3, 32, 32).double()
    top = top_activations(model, "", images, k=4)
    fields = receptive_fields(model, "", (32, 32))
    model.register_forward_hook(lambda _, x, __: calls.append(len(x[0])))
    changed_responses(model, top, images, turn(90), fields=fields)
    assert sum(calls) < 32 / 2  # of 32 crops


def test_pixelwise_changes_need_one_pass_per_image() -> None:
    calls: list[int] = []
    model = nn.Conv2d(3, 8, 3).double().eval()
    top = top_activations(model, "", PLAIN, k=12)
    model.register_forward_hook(lambda _, x, __: calls.append(len(x[0])))
    whole = changed_responses(model, top, PLAIN, grey(), pixelwise=True)
    assert sum(calls) == 12
    assert torch.allclose(whole, changed_responses(model, top, PLAIN, grey()), atol=1e-12)


def test_a_changed_response_stays_paired_with_its_own() -> None:
    """Trap: sorting a' on its own, or reading a' of another image, keeps sums of all but breaks pairs."""
    model = detectors(colour(1, 0, 0), colour(0, 0, 1))
    images = torch.zeros(3, 3, 4, 4).double()
    images[:, 0] = torch.tensor([0.9, 0.6, 0.3])[:, None, None]
    images[:, 1] = torch.tensor([0.0, 0.5, 1.0])[:, None, None]  # the strongest red has the darkest grey
    images[:, 2] = torch.tensor([0.1, 0.3, 0.2])[:, None, None]
    top = top_activations(model, "1", images, k=3)
    lightness = images[:, :, 0, 0] @ torch.tensor(LUMA, dtype=torch.float64)
    changed = changed_responses(model, top, images, grey())
    assert top.images.tolist() == [[0, 1, 2], [1, 2, 0]]
    assert torch.allclose(changed, lightness[top.images])
    assert not torch.equal(changed[0], changed[0].sort(descending=True).values)


def test_the_position_is_that_of_the_activation() -> None:
    """Trap: the largest a' anywhere in the changed image is not the response of the crop."""
    model = detectors(achromatic(VERTICAL_EDGE))
    images = torch.zeros(1, 3, 12, 24).double()
    images[:, :, :, 4:8] = 1
    images[:, :, 6:, 16:] = 0.6  # a second, weaker edge that stays
    top = top_activations(model, "1", images, k=1)
    assert orientation_selectivity_index(model, top, images).item() == 1


def test_whole_image_units_and_readouts() -> None:
    torch.manual_seed(0)
    encoder = cs.LatentEncoder(nn.Sequential(nn.Conv2d(3, 3, 1, bias=False)).double().eval(), "0")
    encoder.model[0] = nn.Identity()
    red, luma = [1.0, -0.5, -0.5], list(LUMA)
    model = nn.Sequential(encoder, cs.LinearReadout(torch.tensor([red, luma], dtype=torch.float64)))
    images = PLAIN.clone()
    images[:, 0] += 0.5
    top = top_activations(model, "", images, k=6)
    index = color_selectivity_index(model, top, images)
    assert index.tolist() == pytest.approx([1, 0], abs=1e-12)
    assert orientation_selectivity_index(model, top, images).tolist() == pytest.approx([0, 0], abs=1e-12)


def test_indices_use_as_many_images_as_told() -> None:
    model = detectors(colour(1, 0, 0))
    top = top_activations(model, "1", PLAIN, k=10)
    few = color_selectivity_index(model, top, PLAIN, n=3)
    assert torch.equal(few, color_selectivity_index(model, top.strongest(3), PLAIN))
    assert few != color_selectivity_index(model, top, PLAIN)


def test_dead_units_have_no_index() -> None:
    model = detectors(colour(-1, -1, -1))
    top = top_activations(model, "1", PLAIN, k=4)
    assert color_selectivity_index(model, top, PLAIN).isnan().all()


def test_mistakes() -> None:
    model = detectors(colour(1, 0, 0))
    top = top_activations(model, "1", PLAIN, k=4)
    with pytest.raises(ValueError, match="must be the 12 that `top` was computed from, got 5"):
        changed_responses(model, top, PLAIN[:5], grey())
    with pytest.raises(ValueError, match=r"must keep the shape of the crops, .*, got \(\d+, 3, 1\)"):
        changed_responses(model, top, PLAIN, lambda crops: crops[..., 0])
    with pytest.raises(ValueError, match="`change` must be a callable or a sequence of at least one"):
        transform_selectivity_index(model, top, PLAIN, [])


@settings(max_examples=15)
@given(seed=st.integers(0, 99), scale=st.floats(0.1, 10))
def test_the_index_does_not_depend_on_the_scale_of_responses(seed: int, scale: float) -> None:
    torch.manual_seed(seed)
    model = detectors(torch.randn(3, 3, 3))
    top = top_activations(model, "1", PLAIN, k=5)
    index = color_selectivity_index(model, top, PLAIN)
    model[0].weight.data *= scale
    again = color_selectivity_index(model, top_activations(model, "1", PLAIN, k=5), PLAIN)
    assert torch.allclose(index, again, equal_nan=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (index[~index.isnan()] <= 1 + 1e-12).all()
