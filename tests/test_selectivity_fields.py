"""Receptive fields: closed forms, perturbation of pixels, architectures without a formula; crops at the border."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captum_shared.selectivity import (
    PixelSource,
    TopActivations,
    neuron_feature,
    neuron_features,
    receptive_fields,
    top_activations,
    top_crops,
)
from captum_shared.selectivity.crops import cut, put_back
from captum_shared.selectivity.pixels import find_normalization

Geometry = list[tuple[int, int, int, int]]  # kernel, stride, padding, dilation of each layer


def closed_form(layers: Geometry) -> tuple[int, int, int]:
    """Start at position 0, step per position, and size, by the recursion of textbooks."""
    start, step, size = 0, 1, 1
    for kernel, stride, padding, dilation in layers:
        start, size = start - padding * step, size + (kernel - 1) * dilation * step
        step *= stride
    return start, step, size


def stack(layers: Geometry) -> nn.Module:
    return nn.Sequential(*(nn.Conv2d(3, 3, k, s, p, d) for k, s, p, d in layers)).eval()


@pytest.mark.parametrize(
    "layers",
    [
        [(3, 1, 0, 1)],
        [(3, 1, 1, 1), (3, 1, 1, 1)],
        [(7, 2, 3, 1), (3, 2, 1, 1)],
        [(3, 1, 2, 2), (3, 2, 1, 1)],
        [(5, 3, 2, 1), (2, 2, 0, 1)],
        [(1, 4, 0, 1)],
        [(3, 1, 4, 1)],  # positions at the border see padding only
    ],
)
def test_stacks_of_convolutions_have_a_closed_form(layers: Geometry) -> None:
    start, step, size = closed_form(layers)
    fields = receptive_fields(stack(layers), str(len(layers) - 1), (40, 33))
    assert set(fields.height.tolist()) == set(fields.width.tolist()) == {size}
    assert fields.top[0].tolist() == [start + i * step for i in range(fields.top.shape[1])]
    assert fields.left[0].tolist() == [start + i * step for i in range(fields.left.shape[1])]


class Block(nn.Module):
    """Residual, with a dilated branch beside a narrow one, and a max-pool: units differ in their fields."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 2, 1)
        self.wide = nn.Conv2d(4, 4, 3, 1, 2, dilation=2)
        self.narrow = nn.Conv2d(4, 2, 1)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.out = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return self.out(torch.cat([x + self.wide(x), self.narrow(x), self.pool(x)], dim=1))


def test_branches_residuals_dilation_unit_by_unit() -> None:
    fields = receptive_fields(Block().eval(), "out", (32, 32))
    assert fields.height.tolist() == [11] * 4 + [3] * 2 + [7] * 4  # 3 + 2 * 4, 3, 3 + 2 * 2
    assert fields.top[:, 0].tolist() == [-5] * 4 + [-1] * 2 + [-3] * 4


def test_no_pixel_outside_the_field_changes_a_unit_and_the_edges_do() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(Block().double(), nn.Conv2d(10, 5, 3, 2, 1).double()).eval()
    fields = receptive_fields(model, "1", (32, 32))
    x = torch.rand(1, 3, 32, 32).double()
    before = model(x)
    for unit, row, column in ((0, 3, 4), (4, 0, 7), (2, 5, 0)):
        place = torch.tensor([row * 8 + column])
        t, l, h, w = fields.boxes(torch.tensor([unit]), place)[0].tolist()  # noqa: E741
        outside = torch.ones(32, 32).bool()
        outside[max(t, 0) : t + h, max(l, 0) : l + w] = False
        noise = torch.where(outside, torch.rand(3, 32, 32).double(), x[0])
        assert model(noise[None])[0, unit, row, column] == before[0, unit, row, column]
        edge = x.clone()
        edge[:, :, t + h - 1 if t + h <= 32 else t] += 3 * torch.rand(3, 32)
        assert model(edge)[0, unit, row, column] != before[0, unit, row, column]


def test_squeezenet_has_the_fields_of_its_geometry() -> None:
    fields = receptive_fields(torchvision.models.squeezenet1_0(), ["features.0", "features.3"], (64, 64))
    assert set(fields["features.0"].height.tolist()) == {7}
    assert fields["features.3"].height.tolist() == [11] * 64 + [19] * 64  # fire: 1x1 and 3x3 side by side


def test_units_that_see_everything_have_the_image() -> None:
    vit = torchvision.models.VisionTransformer(32, 8, 2, 2, 12, 24)
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for model, layer in ((vit, "encoder.layers.encoder_layer_0"), (pooled, "2"), (pooled, "")):
        fields = receptive_fields(model, layer, (32, 32))
        assert fields.boxes(torch.tensor([1]), torch.tensor([0])).tolist() == [[0, 0, 32, 32]]
    patches = receptive_fields(vit, "conv_proj", (32, 32))
    assert patches.boxes(torch.tensor([0]), torch.tensor([6])).tolist() == [[8, 16, 8, 8]]


def test_one_axis_may_be_global() -> None:
    class Rows(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean(3, keepdim=True).expand_as(x)

    fields = receptive_fields(Rows(), "", (6, 9))
    assert fields.boxes(torch.tensor([0]), torch.tensor([4 * 9 + 2])).tolist() == [[4, 0, 1, 9]]


@settings(max_examples=10)
@given(
    layers=st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.integers(1, 2)), min_size=1, max_size=3
    ),
    bins=st.integers(1, 5),
)
def test_fields_hold_all_that_is_seen_also_where_strides_are_uneven(layers: Geometry, bins: int) -> None:
    model = nn.Sequential(stack(layers), nn.AdaptiveMaxPool2d(bins)).double()
    size = (26, 26)
    try:
        model(torch.rand(1, 3, *size).double())
    except RuntimeError:  # nothing is left of the map
        return
    fields = receptive_fields(model, "", size)
    for row, column in ((0, 0), (bins - 1, bins // 2)):
        x = torch.rand(4, 3, *size, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(model(x)[:, 1, row, column].sum(), x)
        t, l, h, w = fields.boxes(torch.tensor([1]), torch.tensor([row * bins + column]))[0].tolist()  # noqa: E741
        gradient[:, :, max(t, 0) : t + h, max(l, 0) : l + w] = 0
        assert (gradient == 0).all()


def test_a_network_that_gives_nan_is_refused() -> None:
    class Nan(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / (x - x)

    with pytest.raises(ValueError, match="gives NaN for an image of noise"):
        receptive_fields(nn.Sequential(Nan(), nn.ReLU(), nn.LogSoftmax(1)), "2", (4, 4))
    with pytest.raises(ValueError, match=r"two positive integers \(H, W\), got \(4,\)"):
        receptive_fields(nn.Identity(), "", (4,))


def test_crops_at_the_border_are_padded_not_shrunk() -> None:
    x = torch.arange(32.0).reshape(1, 1, 4, 8).expand(2, 1, 4, 8)
    crops, inside = cut(x, torch.tensor([[-1, -2, 3, 4], [2, 6, 3, 4]]))
    assert crops.shape == (2, 1, 3, 4)
    assert crops[0, 0].tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [8, 8, 8, 9]]
    assert inside[0].tolist() == [[False] * 4, [False, False, True, True], [False, False, True, True]]
    assert crops[1, 0].tolist() == [[22, 23, 23, 23], [30, 31, 31, 31], [30, 31, 31, 31]]
    assert inside[1].tolist() == [[True, True, False, False]] * 2 + [[False] * 4]


def test_cut_and_put_back_is_nothing() -> None:
    x = torch.rand(3, 2, 9, 7)
    boxes = torch.tensor([[-2, -3, 6, 5], [2, 1, 6, 5], [5, 4, 6, 5]])
    crops, _ = cut(x, boxes)
    for image, crop, box in zip(x.clone(), crops, boxes.tolist(), strict=True):
        before = image.clone()
        put_back(image, crop, box)
        assert torch.equal(image, before)
        put_back(image, crop + 1, box)
        t, l = max(box[0], 0), max(box[1], 0)  # noqa: E741
        changed = torch.zeros_like(image)
        changed[:, t : box[0] + 6, l : box[1] + 5] = 1
        assert torch.allclose(image - before, changed)


def test_padding_is_masked_out_of_the_mean() -> None:
    crops = torch.tensor([[[[1.0, 2.0]]], [[[5.0, 100.0]]]])  # the 100 lies beyond the border
    inside = torch.tensor([[[True, True]], [[True, False]]])
    feature = neuron_feature(torch.tensor([3.0, 1.0]), crops, inside)
    assert feature.tolist() == [[[2.0, 2.0]]]  # (3 * 1 + 1 * 5) / 4, 2


def test_neuron_feature_by_hand() -> None:
    crops = torch.tensor([0.0, 0.5, 1.0]).reshape(3, 1, 1, 1)
    assert neuron_feature(torch.tensor([4.0, 2.0, 2.0]), crops).item() == 0.375  # (0 + 1 + 2) / 8
    assert neuron_feature(torch.tensor([4.0, 2.0, -2.0]), crops).item() == pytest.approx(1 / 6)  # -2 counts as 0
    assert neuron_feature(torch.tensor([-1.0, -2.0, -3.0]), crops).isnan().all()
    with pytest.raises(ValueError, match=r"got \(2,\), \(3, 1, 1, 1\)"):
        neuron_feature(torch.ones(2), crops)


def test_features_of_many_units_equal_those_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    from captum_shared.selectivity import crops as module

    model, x = nn.Sequential(Block()).eval(), torch.rand(9, 3, 20, 20)
    found = top_activations(model, "0.out", x, k=6)
    fields = receptive_fields(model, "0.out", found.image_size)
    source = PixelSource(x)
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", 4 * 11 * 11 * 3)  # three units at a time
    for unit, feature in neuron_features(found, fields, source):
        crops, inside = top_crops(found, fields, source, unit)
        expected = neuron_feature(found.activations[unit], crops, inside)
        assert torch.allclose(feature, expected, atol=1e-6, equal_nan=True)


def test_crops_are_pictures_of_what_the_unit_saw() -> None:
    model = nn.Conv2d(3, 1, 3, padding=1).eval()
    x = torch.rand(4, 3, 8, 8)
    found = top_activations(model, "", x, k=1)
    source = PixelSource(x, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    crops, inside = top_crops(found, receptive_fields(model, "", (8, 8)), source, 0)
    i, p = int(found.images[0, 0]), int(found.positions[0, 0])
    padded = nn.functional.pad(x[i], (1, 1, 1, 1))[:, p // 8 : p // 8 + 3, p % 8 : p % 8 + 3]
    seen = padded * torch.tensor([0.2, 0.3, 0.4])[:, None, None] + torch.tensor([0.5, 0.4, 0.3])[:, None, None]
    assert torch.allclose(crops[0] * inside, seen * inside)


def test_normalization_is_found() -> None:
    from captum_shared.networks.preprocessing import IMAGENET_MEAN, IMAGENET_STD, preprocessing

    mean, std = find_normalization(preprocessing(32))
    assert torch.allclose(mean.flatten(), torch.tensor(IMAGENET_MEAN).double(), atol=1e-5)
    assert torch.allclose(std.flatten(), torch.tensor(IMAGENET_STD).double(), atol=1e-5)
    with pytest.raises(ValueError, match="is not a normalization of channels; pass `mean` and `std`"):
        find_normalization(lambda image: torchvision.transforms.functional.to_tensor(image) ** 2)
    with pytest.raises(ValueError, match=r"`mean` and `std` go together, got mean=\(0, 0, 0\) and std=None"):
        PixelSource(torch.rand(1, 3, 4, 4), mean=(0, 0, 0))


def test_an_unreadable_image_is_named(tmp_path: Any) -> None:
    (tmp_path / "a.png").write_bytes(b"broken")
    with pytest.raises(ValueError, match="image 0 cannot be read"):
        PixelSource([tmp_path / "a.png"]).normalized([0])


def test_top_activations_carry_what_boxes_need() -> None:
    top = TopActivations("x", torch.ones(1, 2), torch.zeros(1, 2).long(), torch.zeros(1, 2).long(), (1, 1), (4, 4), 1)
    assert (top.n_units, top.k, top.strongest(1).k) == (1, 2, 1)
    with pytest.raises(ValueError, match="must be a positive integer or None, got 0"):
        top.strongest(0)


def test_mistakes_in_crops_are_named() -> None:
    with pytest.raises(ValueError, match=r"`boxes` must be \(n, 4\) with one box per image, n = 2, got \(1, 4\)"):
        cut(torch.rand(2, 3, 8, 8), torch.zeros(1, 4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"`boxes` must have one size, got \[\[2, 2\], \[3, 2\]\]"):
        cut(torch.rand(2, 3, 8, 8), torch.tensor([[0, 0, 2, 2], [0, 0, 3, 2]]))
    with pytest.raises(ValueError, match=r"`crops` must be \(k, C, h, w\), got"):
        neuron_feature(torch.ones(2), torch.rand(2, 3, 4))
