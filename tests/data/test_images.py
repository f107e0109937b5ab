"""Image decoding: every legal oddity comes out as a viewer shows it, every broken file as one line."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from sskd_core.data.images import decode_image, probe_size
from sskd_core.errors import DataError

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def two_colours() -> Image.Image:
    """6 wide, 4 high; the left half red, the right half blue."""
    image = Image.new("RGB", (6, 4), RED)
    image.paste(BLUE, (3, 0, 6, 4))
    return image


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def assert_close(pixel, expected, tolerance=12):
    assert np.abs(np.asarray(pixel, int) - expected).max() <= tolerance, pixel


@pytest.mark.parametrize("kind", ["JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_every_supported_kind_is_read(kind):
    data = encoded(Image.new("RGB", (6, 4), RED), kind)
    pixels = decode_image(data, "a")
    assert pixels.shape == (4, 6, 3)
    assert pixels.dtype == np.uint8
    assert_close(pixels[2, 3], RED)
    size = probe_size(data, "a")
    assert (size.width, size.height, size.stored_width, size.stored_height) == (6, 4, 6, 4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "size", "red"),
    [
        (1, (6, 4), (0, 0)),
        (2, (6, 4), (0, 5)),
        (3, (6, 4), (0, 5)),
        (4, (6, 4), (0, 0)),
        (5, (4, 6), (0, 0)),
        (6, (4, 6), (0, 0)),
        (7, (4, 6), (5, 0)),
        (8, (4, 6), (5, 0)),
    ],
)
def test_exif_orientation_is_applied(kind, orientation, size, red):
    lossless = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(two_colours(), kind, exif=exif(orientation), **lossless)
    pixels = decode_image(data, "a")
    assert (pixels.shape[1], pixels.shape[0]) == size
    assert_close(pixels[red], RED)
    assert_close(pixels[size[1] - 1 - red[0], size[0] - 1 - red[1]], BLUE)
    probed = probe_size(data, "a")
    assert (probed.width, probed.height) == size
    assert (probed.stored_width, probed.stored_height) == (6, 4)


def test_exif_orientation_is_applied_to_jpeg():
    data = encoded(two_colours().resize((48, 32)), "JPEG", exif=exif(6), quality=95)
    pixels = decode_image(data, "a")
    assert pixels.shape == (48, 32, 3)
    assert_close(pixels[4, 16], RED)
    assert_close(pixels[44, 16], BLUE)


def test_a_damaged_exif_block_is_ignored():
    data = encoded(two_colours(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff\xff\xff")
    assert decode_image(data, "a").shape == (4, 6, 3)


def test_palette_is_resolved():
    pixels = decode_image(encoded(two_colours().convert("P", palette=Image.Palette.ADAPTIVE)), "a")
    assert_close(pixels[0, 0], RED)
    assert_close(pixels[0, 5], BLUE)


def test_a_transparent_palette_entry_is_white():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    pixels = decode_image(encoded(image, transparency=1), "a")
    assert pixels[0].tolist() == [list(RED), list(WHITE)]


def test_alpha_is_laid_over_white():
    image = Image.new("RGBA", (3, 1), (*RED, 255))
    image.putpixel((1, 0), (*RED, 0))
    image.putpixel((2, 0), (*RED, 128))
    pixels = decode_image(encoded(image), "a")
    assert pixels[0, :2].tolist() == [list(RED), list(WHITE)]
    assert_close(pixels[0, 2], (255, 127, 127), 1)


def test_grey_with_alpha_is_laid_over_white():
    image = Image.new("LA", (2, 1), (40, 255))
    image.putpixel((1, 0), (40, 0))
    assert decode_image(encoded(image), "a")[0].tolist() == [[40] * 3, [255] * 3]


def test_grey_and_bilevel_become_three_equal_channels():
    assert decode_image(encoded(Image.new("L", (2, 2), 77)), "a")[0, 0].tolist() == [77] * 3
    assert decode_image(encoded(Image.new("1", (2, 2), 1)), "a")[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_scaled_to_eight_not_clipped(kind):
    levels = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    pixels = decode_image(encoded(Image.fromarray(levels), kind), "a")
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    assert (pixels == pixels[..., :1]).all()


def test_cmyk_jpeg_is_shown_in_its_colours():
    pixels = decode_image(encoded(two_colours().resize((48, 32)).convert("CMYK"), "JPEG", quality=95), "a")
    assert_close(pixels[16, 4], RED)
    assert_close(pixels[16, 44], BLUE)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_its_first_frame(kind):
    data = encoded(Image.new("RGB", (6, 4), RED), kind, save_all=True, append_images=[Image.new("RGB", (6, 4), BLUE)])
    assert_close(decode_image(data, "a")[0, 0], RED)


def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))


def flipped(data: bytes) -> bytes:
    """Return the bytes with the pixel data of a PNG damaged in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes(255 - byte for byte in data[middle : middle + 64]) + data[middle + 64 :]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"hello, world", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (encoded(noise(), "JPEG")[:900], "truncated"),
        (encoded(noise(), "PNG")[:900], "truncated"),
        (encoded(noise(), "WEBP")[:300], "truncated"),
        (flipped(encoded(noise(), "PNG")), "corrupt"),
        (encoded(Image.new("F", (4, 4)), "TIFF"), "32-bit"),
        (encoded(Image.new("I", (4, 4)), "TIFF"), "32-bit"),
    ],
    ids=["empty", "text", "eps", "cut-jpeg", "cut-png", "cut-webp", "damaged-png", "float", "int32"],
)
def test_a_broken_file_is_one_line_that_names_it(data, words):
    with pytest.raises(DataError) as caught:
        decode_image(data, "images/dog.jpg")
    (problem,) = caught.value.problems
    assert problem.startswith("images/dog.jpg: ")
    assert words in problem
    assert "\n" not in problem


def test_too_many_pixels_are_refused_and_the_limit_can_be_raised():
    data = encoded(Image.new("1", (100, 101)))
    with pytest.raises(DataError, match=r"100 x 101 pixels exceed data\.max_pixels = 10099"):
        decode_image(data, "a", max_pixels=10_099)
    assert decode_image(data, "a", max_pixels=10_100).shape == (101, 100, 3)


def test_the_limit_can_be_raised_over_that_of_pillow():
    assert probe_size(encoded(Image.new("1", (20_000, 10_000))), "a", max_pixels=200_000_000).width == 20_000
