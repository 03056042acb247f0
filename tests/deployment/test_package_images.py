"""Raw image files: a server gives a model what the data source would have given it."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tutelage.core.errors import DataError
from tutelage.data import images as source
from tutelage.deployment import raw_images
from tutelage.deployment.raw_images import MOST_PIXELS, decode


def picture(mode="RGB", size=(20, 14)):
    dice = np.random.default_rng(0)
    depth = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    shape = (size[1], size[0]) if depth == 1 else (size[1], size[0], depth)
    return Image.fromarray(dice.integers(0, 256, shape, dtype=np.uint8), mode=mode)


def file(image, form="PNG", **options):
    made = io.BytesIO()
    image.save(made, form, **options)
    return made.getvalue()


def palette():
    image = picture().quantize(8)
    return file(image, transparency=0)


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter
    return file(picture(), "JPEG", exif=exif.tobytes(), quality=90)


FILES = {
    "grey": lambda: file(picture("L")),
    "grey with alpha": lambda: file(picture("LA")),
    "colour": lambda: file(picture()),
    "alpha": lambda: file(picture("RGBA")),
    "palette": palette,
    "two tones": lambda: file(picture("L").convert("1")),
    "jpeg": lambda: file(picture(), "JPEG", quality=80),
    "progressive": lambda: file(picture(size=(64, 48)), "JPEG", progressive=True),
    "print": lambda: file(picture("CMYK"), "JPEG"),
    "turned": turned,
    "tall": lambda: file(picture(size=(9, 70))),
    "as it is": lambda: file(picture(size=(12, 10))),
}


@pytest.mark.filterwarnings("ignore:'mode' parameter")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_is_read_as_the_image_folder_reads_it(name, channels):
    content = FILES[name]()
    found = decode(content, {"shape": [channels, 10, 12], "range": [0, 1]})
    pixels = source.decode(content, channels=channels, size=(10, 12))
    assert found.dtype == np.float32
    assert np.array_equal(found, pixels.float().div_(255).numpy())
    wide = decode(content, {"shape": [channels, 10, 12], "range": [-1, 1]})
    np.testing.assert_allclose(wide, 2 * found - 1, atol=1e-6)


def test_an_image_is_turned_upright():
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("L", (40, 20), 0)
    image.paste(255, (0, 0, 20, 20))  # white at the left, to be at the top
    content = file(image, "JPEG", exif=exif.tobytes())
    found = decode(content, {"shape": [1, 40, 20], "range": [0, 1]})
    assert found[0, :18].min() > 0.9
    assert found[0, 22:].max() < 0.1


def bomb(width, height):
    """A PNG of a few bytes that claims to be as large as is said."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def deep():
    return file(Image.fromarray(np.full((4, 4), 40_000, dtype=np.uint16)))


@pytest.mark.filterwarnings("ignore:'mode' parameter")
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda: b"", "the image is no whole PNG or JPEG"),
        (lambda: b"hello", "the image is no whole PNG or JPEG"),
        (lambda: file(picture(), "BMP"), "the image is no whole PNG or JPEG"),
        (lambda: file(picture(), "GIF"), "the image is no whole PNG or JPEG"),
        (lambda: file(picture())[:-40], "the image is not whole"),
        (lambda: file(picture(size=(90, 90)), "JPEG")[:900], "the image is not whole"),
        (lambda: bomb(60_000, 60_000), "more than 33,554,432 pixels: make it smaller"),
        (lambda: bomb(6_000, 6_000), "is 6,000 x 6,000 pixels, more than 33,554,432"),
        (lambda: bomb(4_000, 4_000), "the image is not whole"),
        (deep, "more than 8 bits a channel"),
    ],
)
def test_what_is_no_whole_image_is_one_line(content, says):
    with pytest.raises(DataError, match=says) as caught:
        decode(content(), {"shape": [3, 8, 8], "range": [0, 1]})
    assert "\n" not in str(caught.value)


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("it was unpacked"))
    for side in (6_000, 10_000):
        assert side**2 > MOST_PIXELS
        with pytest.raises(DataError, match="the image is"):
            decode(bomb(side, side), {"shape": [3, 8, 8], "range": [0, 1]})


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ({"shape": [14], "range": None}, "the model takes no images"),
        ({"shape": [3, 8, 8], "range": None}, "the model takes no images"),
        ({"shape": [4, 8, 8], "range": [0, 1]}, r"shape \(4, 8, 8\), which a PNG or JPEG does not"),
        ({"shape": [3, 8, 8], "range": [0, float("inf")]}, "expected two finite numbers"),
        ({}, "the model takes no images"),
    ],
)
def test_a_model_that_takes_no_images_is_one_line(stated, says):
    with pytest.raises(DataError, match=says):
        decode(file(picture("RGB")), stated)


def test_damage_anywhere_is_refused_or_harmless():
    """Of 300 damaged files none crashes, and what is answered has the stated form."""
    whole, dice = file(Image.new("RGB", (30, 30), (9, 80, 200)), "JPEG"), np.random.default_rng(1)
    refused = 0
    for _ in range(300):
        spoilt = bytearray(whole)
        spoilt[dice.integers(len(spoilt))] ^= 1 << dice.integers(8)
        try:
            found = raw_images.decode(bytes(spoilt), {"shape": [3, 8, 8], "range": [0, 1]})
        except DataError:
            refused += 1
        else:
            assert found.shape == (3, 8, 8)
            assert np.isfinite(found).all()
    assert refused > 0
