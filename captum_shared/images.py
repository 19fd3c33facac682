"""`open_rgb`: read any image file as 8-bit RGB, or say why not."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

READING = b"2"
"""Changes whenever the same file comes to give other pixels: part of the name of what is kept of images."""

BACKGROUND = (255, 255, 255)
"""What shows through transparent pixels: white, as on a page. Our choice."""

MOST_ELONGATED = 100
"""Longest side over shortest: a longer strip, resized to a network's input by its shorter side, fills the memory."""

ORIENTATION = 0x0112  # the EXIF tag
BITS_PER_SAMPLE = 258  # the TIFF tag
PLAIN = ("RGB", "L", "P", "1", "CMYK", "YCbCr", "HSV", "RGBX")
FIRST_FRAME_IS_THE_PICTURE = ("MPO",)  # photographs of telephones; the other frames are depth or a preview


def open_rgb(path: str | Path) -> Image.Image:
    """Read an image file as RGB, as a viewer shows it.

    The camera's orientation is applied; transparent pixels become white; 16 bits of grey become 8; floating point must
    be in [0, 1]; CMYK is converted without a colour profile. Profiles of RGB images are ignored, as in torchvision.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    PIL.Image.Image
        Of mode RGB.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is not a complete image, is an animation, is too large or too narrow, or its values have no known range;
        the message gives its name and the reason.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new("RGBA", (1, 1), (9, 9, 9, 0)).save(f"{folder}/clear.png")
    ...     open_rgb(f"{folder}/clear.png").getpixel((0, 0))
    (255, 255, 255)
    """
    try:
        return decode_rgb(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"the image {path} cannot be read: {error}") from error


def decode_rgb(data: bytes) -> Image.Image:
    """Decode the content of an image file; like `open_rgb`, but errors do not name the file."""
    if not data:
        raise ValueError("the file is empty")
    try:
        with Image.open(io.BytesIO(data)) as opened:
            _check_frame(opened)
            opened.load()  # Pillow turns a TIFF here, and finds what stands behind the pixels of a PNG
            turned = opened.getexif().get(ORIENTATION, 1) != 1
            return _rgb(ImageOps.exif_transpose(opened) if turned else opened)
    except (ValueError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ValueError("it is not an image of a known format") from None
    except Exception as error:  # Pillow raises many kinds for a broken file
        raise ValueError(f"{error or type(error).__name__}") from error


def reason_of(error: Exception) -> str:
    """Why an image cannot be read, from an error of `decode_rgb` or of the file system."""
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _check_frame(image: Image.Image) -> None:
    width, height = image.size
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and width * height > most:
        raise ValueError(f"it has {width} x {height} pixels, more than {most:,} in all")
    if max(width, height) > MOST_ELONGATED * min(width, height):
        raise ValueError(f"it has {width} x {height} pixels; one side is more than {MOST_ELONGATED} times the other")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in FIRST_FRAME_IS_THE_PICTURE:
        raise ValueError(f"it has {frames} frames; expected a single picture")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_numbers(image)
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, (*BACKGROUND, 255)), picture).convert("RGB")
    if image.mode not in PLAIN:
        raise ValueError(f"its mode {image.mode} has no conversion to RGB")
    return image.convert("RGB")


def _from_numbers(image: Image.Image) -> Image.Image:
    """Grey of 16 bits, of 32, or in floating point."""
    if image.has_transparency_data:
        raise ValueError(f"it has a transparent value in mode {image.mode}, which has no conversion to RGB")
    values = np.asarray(image)
    low, high = values.min(), values.max()
    white = 1.0 if image.mode == "F" else _white(image)
    if not (low >= 0 and high <= white):  # NaN ends here, too
        raise ValueError(f"its values go from {low:g} to {high:g}; expected them between 0 and {white:g}")
    return Image.fromarray(np.round(values * (255.0 / white)).astype(np.uint8)).convert("RGB")


def _white(image: Image.Image) -> int:
    """The largest value of a grey of integers."""
    tags: Mapping[int, tuple[int, ...]] = getattr(image, "tag_v2", {})
    bits = tags.get(BITS_PER_SAMPLE, (16,))[0]
    if image.mode == "I" and image.format not in ("PNG", "PPM"):  # 32 bits, or 16 with a sign
        raise ValueError("its grey values have no known white; expected 8 bits, or 16 unsigned")
    return int(2**bits - 1)
