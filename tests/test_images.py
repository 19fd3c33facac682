"""`open_rgb`: every kind of image file becomes what a viewer shows, or is refused with the reason."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captum_shared.images import decode_rgb, open_rgb


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def array(values: Any, dtype: Any) -> Image.Image:
    return Image.fromarray(np.array([values], dtype=dtype))


def palette() -> Image.Image:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    return image


def two(mode: str, first: Any, second: Any) -> Image.Image:
    image = Image.new(mode, (2, 1), first)
    image.putpixel((1, 0), second)
    return image


WHITE, GREY, BLACK = (255, 255, 255), (128, 128, 128), (0, 0, 0)

PIXELS: dict[str, tuple[bytes, list[tuple[int, ...]]]] = {
    "RGB": (saved(two("RGB", (1, 2, 3), (4, 5, 6)), "PNG"), [(1, 2, 3), (4, 5, 6)]),
    "grey": (saved(two("L", 7, 8), "PNG"), [(7, 7, 7), (8, 8, 8)]),
    "one bit": (saved(two("1", 0, 1), "PNG"), [BLACK, WHITE]),
    "16-bit grey": (saved(array([0, 257, 65535, 32896], np.uint16), "PNG"), [BLACK, (1, 1, 1), WHITE, GREY]),
    "16-bit TIFF": (saved(array([0, 257, 65535, 32896], np.uint16), "TIFF"), [BLACK, (1, 1, 1), WHITE, GREY]),
    "16-bit TIFF, big end first": (saved(array([0, 65535], ">u2"), "TIFF"), [BLACK, WHITE]),
    "16-bit PGM": (b"P5 2 1 65535\n\x00\x00\xff\xff", [BLACK, WHITE]),
    "12-bit PGM": (b"P5 2 1 4095\n\x00\x00\x0f\xff", [BLACK, WHITE]),
    "floating point": (saved(array([0, 0.5, 1], np.float32), "TIFF"), [BLACK, GREY, WHITE]),
    "transparent": (saved(two("RGBA", (9, 9, 9, 0), (9, 8, 7, 255)), "PNG"), [WHITE, (9, 8, 7)]),
    "half transparent": (saved(two("RGBA", (0, 0, 0, 127), (0, 0, 0, 255)), "PNG"), [GREY, BLACK]),
    "transparent grey": (saved(two("LA", (9, 0), (9, 255)), "PNG"), [WHITE, (9, 9, 9)]),
    "palette": (saved(palette(), "PNG"), [(255, 0, 0), (0, 255, 0)]),
    "palette with transparency": (saved(palette(), "PNG", transparency=0), [WHITE, (0, 255, 0)]),
    "GIF with transparency": (saved(palette(), "GIF", transparency=1), [(255, 0, 0), WHITE]),
    "transparent colour": (saved(two("RGB", (1, 2, 3), (4, 5, 6)), "PNG", transparency=(1, 2, 3)), [WHITE, (4, 5, 6)]),
    "CMYK": (saved(two("CMYK", (0, 255, 255, 0), (0, 0, 0, 255)), "TIFF"), [(255, 0, 0), BLACK]),
    "CMYK as Adobe writes it": (saved(Image.new("CMYK", (2, 1), (0, 255, 255, 0)), "JPEG"), [(254, 0, 0), (254, 0, 0)]),
}  # fmt: skip


@pytest.mark.parametrize("name", PIXELS)
def test_pixels(name: str) -> None:
    data, expected = PIXELS[name]
    image = decode_rgb(data)
    assert image.mode == "RGB"
    assert np.abs(np.asarray(image, dtype=int)[0] - expected).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "MPO"])
def test_the_cameras_orientation_is_applied(kind: str) -> None:
    """Orientation 6: the file's first row is the picture's right column."""
    exif = Image.Exif()
    exif[0x112] = 6
    image = Image.new("RGB", (16, 32))
    image.paste(WHITE, (0, 0, 16, 8))
    pixels = np.asarray(decode_rgb(saved(image, kind, exif=exif)), dtype=int)
    assert pixels.shape == (16, 32, 3)
    assert pixels[:, 26:].min() > 200
    assert pixels[:, :22].max() < 60


def test_a_stereo_photograph_is_its_first_picture() -> None:
    white, black = Image.new("RGB", (8, 8), WHITE), Image.new("RGB", (8, 8))
    assert decode_rgb(saved(white, "MPO", save_all=True, append_images=[black])).getpixel((0, 0)) == WHITE


RED = Image.new("RGB", (4, 4), (255, 0, 0))
REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "text": (b"not an image", "not an image of a known format"),
    "truncated": (saved(Image.effect_noise((64, 64), 50), "PNG")[:600], "[Tt]runcated"),
    "animation": (saved(Image.new("RGB", (4, 4)), "GIF", save_all=True, append_images=[RED]), "it has 2 frames; expected a single"),
    "pages": (saved(RED, "TIFF", save_all=True, append_images=[RED]), "it has 2 frames"),
    "floating point in 0..255": (saved(array([0, 200], np.float32), "TIFF"), "its values go from 0 to 200; expected them between 0 and 1"),
    "NaN": (saved(array([0, np.nan], np.float32), "TIFF"), "its values go from nan to nan"),
    "negative": (saved(array([-0.5, 0.5], np.float32), "TIFF"), "its values go from -0.5 to 0.5"),
    "32-bit grey": (saved(array([0, 70000], np.int32), "TIFF"), "have no known white"),
    "16-bit grey with a sign": (saved(array([0, 700], np.int16), "TIFF"), "have no known white"),
    "CIELAB": (saved(Image.new("LAB", (2, 2)), "TIFF"), "its mode LAB has no conversion to RGB"),
    "strip": (saved(Image.new("L", (1, 101)), "PNG"), "it has 1 x 101 pixels; one side is more than 100 times the other"),
    "bomb": (saved(Image.new("1", (30000, 29000)), "PNG"), "870000000 pixels.*decompression bomb"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path) -> None:
    data, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        decode_rgb(data)
    (tmp_path / "it.png").write_bytes(data)
    with pytest.raises(ValueError, match=f"the image .*it.png cannot be read: .*{message}"):
        open_rgb(tmp_path / "it.png")


def test_more_pixels_than_pillow_warns_of(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(Image.new("1", (300, 200)), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    with (
        pytest.warns(Image.DecompressionBombWarning),
        pytest.raises(ValueError, match="300 x 200 pixels, more than 40,000 in all"),
    ):
        decode_rgb(data)


def test_the_file_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_rgb(tmp_path / "nowhere.png")
