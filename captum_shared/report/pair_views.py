"""From what a study has found to what the viewer shows: images as files, maps, references, and warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from captum_shared.report.html import data_url
from captum_shared.report.pictures import jpeg
from captum_shared.report.viewer import SHARE, ImageView, MapView, PairView, ReferenceView
from captum_shared.selection import is_crossed, make_rule
from captum_shared.similarity import Rule
from captum_shared.study.looks import Look, References, other_rules
from captum_shared.study.settings import WEAK_D_PRIME, Settings

HUB_SHARE, HUB_LEAST = 1 / 3, 4  # of a neuron's pairs that one reference serves, and how many at least
SAME_AS_CONTROL = 0.9  # correlation of a map with its control, from which it says nothing of the pair
LIKE_CONTROL = (
    "Like its control: the heat on the driver lies in nearly the same places with the average of all other candidates "
    "in place of this reference. It shows what drives the neuron, not what this pair shares."
)
FLAT = 1e-5  # spread of a map relative to its maximum up to which it is rounding
LOW_R = 0.3


class ImageShelf:
    """The images on the page, each stored once: by `write` in a file, or in the page itself."""

    def __init__(
        self,
        picture: Callable[[int], Tensor],  # (3, H, W) in [0, 1], by an image's index
        names: Sequence[str],
        categories: Sequence[str],
        write: Callable[[str, bytes], object] | None = None,
    ) -> None:
        self.picture = picture
        self.names = names
        self.categories = categories
        self.write = write
        self.views: list[ImageView] = []
        self._numbers: dict[int, int] = {}

    def number(self, place: int) -> int:
        """The number on the shelf of the image with this index."""
        place = int(place)
        if place not in self._numbers:
            self._numbers[place] = len(self.views)
            self.views.append(self._view(place))
        return self._numbers[place]

    def _view(self, place: int) -> ImageView:
        pixels = (self.picture(place).permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        content, path = jpeg(pixels, 90), f"images/{place:05d}.jpg"
        if self.write is not None:
            self.write(path, content)
        source = data_url(content, "image/jpeg") if self.write is None else path
        return ImageView(source, self.names[place], str(self.categories[place]), pixels.shape[1], pixels.shape[0])


def references_of(latents: Tensor, settings: Settings, cells: int) -> tuple[References, dict[str, str | Rule]]:
    """The references among images with these latents by a report's rule, and the other rules of its layer maps."""
    rule = make_rule(settings.rule, latents, cells)
    return References(latents, rule, settings.similarity), other_rules(rule, latents, cells)


def pair_view(
    looks: Sequence[Look],
    number: Callable[[int], int],
    responses: Mapping[int, float] | np.ndarray,
    rule: str | Rule,
    pixel: tuple[np.ndarray, np.ndarray] | None,
    hubs: Mapping[int, str],
) -> PairView:
    """What the viewer shows of a driver beside each of its references; maps of pixels are those of the first.

    `number` gives an image's place among those that are shown, `hubs` are the warnings of `hub_warnings`.
    """
    references = [
        reference_view(
            look,
            number(look.reference),
            rule,
            pixel if rank == 0 else None,
            response=float(responses[look.reference]),
            warnings=[hubs[look.reference]] if look.reference in hubs else [],
        )
        for rank, look in enumerate(looks)
    ]
    image = looks[0].image
    return PairView(number(image), float(responses[image]), references)


def reference_view(
    look: Look,
    number: int,
    rule: str | Rule,
    pixel: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    response: float | None = None,
    warnings: Sequence[str] = (),
) -> ReferenceView:
    """What the viewer shows of one reference, `number` of the images that are shown.

    The layer map comes first, then that of pixels, and the control; layer maps by other rules are beside them.
    """
    maps = {}
    if look.layer is not None and look.control is not None:
        maps["layer"] = layer_view(look.layer, rule)
        if pixel is not None:
            maps["pixels"] = MapView(*pixel)
        own = maps["layer"].total or _positive(np.maximum(look.layer[0], 0).sum())
        maps["control: average partner"] = MapView(*look.control, maps["layer"].unit, own)
    elif pixel is not None:
        maps["pixels"] = MapView(*pixel)
    said = [*warnings, *([LIKE_CONTROL] if same_as_control(look) else [])]
    others = {name: layer_view(both, name) for name, both in look.others.items()}
    return ReferenceView(number, look.similarity, maps, look.part, response, said, others)


def layer_view(maps: tuple[np.ndarray, np.ndarray], rule: str | Rule) -> MapView:
    """Maps at the layer: shares of the similarity, where both sum to it."""
    if is_crossed(rule):
        return MapView(*maps, SHARE, _positive(maps[0].sum()))
    return MapView(*maps)


def _positive(value: float) -> float | None:
    return float(value) if value > 0 else None


def same_as_control(look: Look) -> bool:
    """Whether the heat on the driver is nearly the same with the average candidate in place of the reference."""
    if look.layer is None or look.control is None:
        return False
    one, other = (np.maximum(each[0], 0).ravel().astype(float) for each in (look.layer, look.control))
    if any(heat.std() <= FLAT * heat.max() for heat in (one, other)):
        return False
    return float(np.corrcoef(one, other)[0, 1]) >= SAME_AS_CONTROL


def hub_warnings(references: Sequence[int]) -> dict[int, str]:
    """A warning for each reference that serves many of a neuron's pairs."""
    counts = Counter(references)
    return {
        reference: f"Hub: this image is the reference of {count} of the neuron's {len(references)} pairs."
        for reference, count in counts.items()
        if count >= max(HUB_LEAST, HUB_SHARE * len(references))
    }


def preference(category: str, d_prime: float, pole: str = "excite") -> str:
    """What a neuron prefers, or is silenced by, in words no stronger than the preference."""
    if d_prime < WEAK_D_PRIME:
        return f"no clear preference: d' is {d_prime:.2f} for {category}"
    return f"{'prefers' if pole == 'excite' else 'least driven by'} {category} (d' {d_prime:.2f})"


def preference_warnings(preferred: str | None, d_prime: float, r: float | None = None) -> list[str]:
    """Warnings for a neuron with a weak preference, or with a model that predicts it badly.

    Without a preferred category, or where categories play no part, there is no preference to warn of.
    """
    said = []
    if preferred is not None and d_prime < WEAK_D_PRIME:
        said.append(
            f"Weak preference: d\u2032 for {preferred} is {d_prime:.2f}, below {WEAK_D_PRIME:g}. The neuron hardly "
            f"tells {preferred} from the rest, so that \u201cout of category\u201d means little here."
        )
    if r is not None and r < LOW_R:
        said.append(f"Low r: the model explains little of the responses (cross-validated r {r:.2f}).")
    return said
