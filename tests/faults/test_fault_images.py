"""Faults of image files: each is named with its reason; the others are used, if they suffice."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captum_shared.console import describe
from faults.faulty import NAMES, SIZE, Fault, check, table


def saved(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def numbers(values: Any, dtype: Any) -> bytes:
    return saved(Image.fromarray(np.full((SIZE, SIZE), values, dtype)), "TIFF")


PICTURE = Image.effect_noise((SIZE, SIZE), 80).convert("RGB")
PNG, JPEG = saved(PICTURE), saved(PICTURE.resize((64, 64)), "JPEG")
TWO: dict[str, Any] = {"save_all": True, "append_images": [Image.new("RGB", (SIZE, SIZE), (255, 0, 0))]}

BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "text": (b"hello", "it is not an image of a known format"),
    "zeros": (bytes(500), "it is not an image of a known format"),
    "a PNG's head": (PNG[:33], "known format|[Tt]runcated"),
    "half a PNG": (PNG[: len(PNG) // 2], "[Tt]runcated"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "[Tt]runcated"),
    "a PNG with other bytes": (PNG[:50] + b"\0\xff\0" * 20 + PNG[110:], "broken|[Tt]runcated|decompressing|CRC|checksum"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "it is not an image of a known format"),
    "an animated GIF": (saved(PICTURE, "GIF", **TWO), "it has 2 frames; expected a single picture"),
    "an animated PNG": (saved(PICTURE, "PNG", **TWO), "it has 2 frames; expected a single picture"),
    "an animated WebP": (saved(PICTURE, "WEBP", **TWO), "it has 2 frames; expected a single picture"),
    "pages of a TIFF": (saved(PICTURE, "TIFF", **TWO), "it has 2 frames; expected a single picture"),
    "a bomb": (saved(Image.new("1", (30_000, 29_000))), "decompression bomb"),
    "too many pixels": (saved(Image.new("1", (12_000, 9_000))), "it has 12000 x 9000 pixels, more than 89,478,485"),
    "a strip": (saved(Image.new("L", (1, 5000))), "it has 1 x 5000 pixels; one side is more than 100 times the other"),
    "floating point to 255": (numbers(200.0, np.float32), "its values go from 200 to 200; expected them between 0 and 1"),
    "NaN": (numbers(np.nan, np.float32), "its values go from nan to nan"),
    "32 bits of grey": (numbers(70_000, np.int32), "its grey values have no known white"),
    "CIELAB": (saved(Image.new("LAB", (SIZE, SIZE)), "TIFF"), "its mode LAB has no conversion to RGB"),
}  # fmt: skip


def put(folder: str, content: bytes, names: list[str] = NAMES) -> Callable[[], Any]:
    return lambda: [(Path(folder) / name).write_bytes(content) for name in names]


FAULTS = [
    *(Fault(f"all {name}", f"24 of 24 images cannot be read: images/00.png: .*{text}", change=put("images", content))
      for name, (content, text) in BROKEN.items()),
    *(Fault(f"one {name}", f"warning: 1 of 24 images cannot be read: images/04.png: .*{text}.* They are left out", "selectivity",
            change=put("images", BROKEN[name][0], ["04.png"]), status=0)
      for name, text in ((name, BROKEN[name][1]) for name in ("empty", "half a JPEG", "an animated GIF", "32 bits of grey"))),
    *(Fault(f"all {name}, of a recording", f"24 of 24 stimuli cannot be read: 00.png: .*{BROKEN[name][1]}", "recording",
            change=put("recording/stimuli", BROKEN[name][0])) for name in ("text", "half a PNG", "a strip")),
    Fault("one of a recording", "warning: 1 of 24 stimuli cannot be read: 04.png: .*known format.* They are left out", "recording",
          change=put("recording/stimuli", b"hello", ["04.png"]), status=0),
    Fault("too few are left", "--preferred must have at least 5 images, .* got 4 of 'disc' and 16 others",
          change=put("images", b"hello", ["00.png", "03.png", "06.png", "09.png"]), early=False),
    Fault("one is left", "at least 2 images must be readable to compare units, got 1 of 24", "selectivity",
          change=put("images", b"hello", NAMES[1:]), early=False),
    Fault("a stimulus is gone", r"1 of 24 listed stimuli are not in recording/stimuli: row 5 \(04.png\).*set --missing to 'drop'", "recording",
          change=lambda: Path("recording/stimuli/04.png").unlink()),
]  # fmt: skip


@table(FAULTS)
def test_images(fault: Fault, world: Path, capsys: Any) -> None:
    check(fault, capsys)


def test_images_that_are_converted_are_used(world: Path, capsys: Any) -> None:
    """Grey of 16 bits, a palette, CMYK, transparency, a turned photograph: no warning."""
    from faults.faulty import run, words_of

    turned = Image.Exif()
    turned[0x112] = 6
    kinds = [
        saved(Image.fromarray(np.arange(SIZE * SIZE, dtype=np.uint16).reshape(SIZE, SIZE) * 400)),
        saved(PICTURE.convert("P")),
        saved(PICTURE.convert("CMYK"), "TIFF"),
        saved(PICTURE.convert("RGBA")),
        saved(PICTURE, "JPEG", exif=turned),
        numbers(0.5, np.float32),
    ]
    for name, content in zip(NAMES, kinds, strict=False):
        put("images", content, [name])()
    assert run(words_of("selectivity", {})) == 0
    assert "cannot be read" not in capsys.readouterr().err


def test_the_reason_is_said_once() -> None:
    """The line names a file once, and no object's address."""
    from captum_shared.images import open_rgb

    with pytest.raises(ValueError, match="cannot be read") as caught:
        open_rgb(__file__)
    assert describe(caught.value)[1].count(Path(__file__).name) == 1
    assert "0x" not in str(caught.value)
