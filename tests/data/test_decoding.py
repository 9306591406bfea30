"""Files that Pillow writes in every format come back as the pixels that went in."""

import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cotejo.data.decoding import SUFFIXES, convert_color, decode_image, has_color
from cotejo.errors import DataError
from image_folders import draw, save

GREY = draw(1, side=12)[:7]
COLOR = draw(2, side=12, channels=3)[:7]
SOFT = cv2.resize(COLOR, (96, 64), interpolation=cv2.INTER_CUBIC)  # JPEG keeps what is smooth
DEEP = np.random.default_rng(3).integers(0, 65536, (7, 12), np.uint16)
ALPHA = draw(4, side=12)[:7]


@pytest.mark.parametrize(
    "name",
    ["a.png", "a.bmp", "a.PNG", "three words é ñ 図.png", "a.wrong.jpg"],
    ids=["png", "bmp", "upper", "odd", "jpg"],
)
def test_a_lossless_file_gives_back_its_pixels(tmp_path, name):
    options = {"format": "PNG"} if name.endswith("jpg") else {}
    np.testing.assert_array_equal(decode_image(save(tmp_path / name, COLOR, **options)), COLOR)
    np.testing.assert_array_equal(decode_image(save(tmp_path / name, GREY, **options)), GREY[..., np.newaxis])


def test_a_lossless_webp_gives_back_its_pixels(tmp_path):
    np.testing.assert_array_equal(decode_image(save(tmp_path / "a.webp", COLOR, lossless=True)), COLOR)


def test_a_jpeg_is_read_as_opencv_reads_it(tmp_path):
    file = save(tmp_path / "a.jpg", SOFT, quality=90)
    expected = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB).astype(int)
    assert np.abs(decode_image(file) - expected).max() <= 3, "two builds of libjpeg round a little differently"
    grey = save(tmp_path / "grey.jpg", SOFT[..., 0], quality=90)
    assert decode_image(grey).shape == (64, 96, 1)


def test_the_first_frame_of_an_animation_is_the_image(tmp_path):
    frames = [Image.fromarray(draw(number, side=12)).convert("P") for number in range(3)]
    for name in ("a.gif", "a.webp"):
        options = {"lossless": True} if name.endswith("webp") else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        np.testing.assert_array_equal(decode_image(tmp_path / name)[..., 0], draw(0, side=12))


def test_sixteen_bits_become_eight_over_their_whole_range(tmp_path):
    DEEP[0, :2] = 0, 65535
    image = decode_image(save(tmp_path / "a.png", DEEP))
    assert image.shape == (7, 12, 1)
    np.testing.assert_array_equal(image[..., 0], DEEP // 256)
    assert image[0, :2, 0].tolist() == [0, 255]


def test_a_palette_gives_its_colours(tmp_path):
    reduced = Image.fromarray(COLOR).quantize(16)
    reduced.save(tmp_path / "a.png")
    reduced.save(tmp_path / "a.gif")
    for name in ("a.png", "a.gif"):
        np.testing.assert_array_equal(decode_image(tmp_path / name), np.asarray(reduced.convert("RGB")))


def test_a_palette_of_greys_is_grey(tmp_path):
    Image.fromarray(GREY).convert("P").save(tmp_path / "a.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "a.png"), GREY[..., np.newaxis])
    save(tmp_path / "two.bmp", GREY > 100)
    np.testing.assert_array_equal(decode_image(tmp_path / "two.bmp")[..., 0], np.where(GREY > 100, 255, 0))


def over_white(pixels):
    share = ALPHA[..., np.newaxis] / 255
    return pixels.reshape(7, 12, -1) * share + 255 * (1 - share)


@pytest.mark.parametrize("pixels", [COLOR, GREY], ids=["colour", "grey"])
def test_what_is_transparent_lies_over_white(tmp_path, pixels):
    image = decode_image(save(tmp_path / "a.png", np.dstack([pixels, ALPHA])))
    assert image.shape == (7, 12, 3 if pixels is COLOR else 1)
    np.testing.assert_allclose(image, over_white(pixels), atol=1)


def test_a_transparent_colour_of_a_palette_is_white(tmp_path):
    reduced = Image.fromarray(COLOR).quantize(4)
    reduced.save(tmp_path / "a.png", transparency=2)
    image, numbers = decode_image(tmp_path / "a.png"), np.asarray(reduced)
    assert (image[numbers == 2] == 255).all()
    np.testing.assert_array_equal(image[numbers != 2], np.asarray(reduced.convert("RGB"))[numbers != 2])


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (8, np.rot90), (2, lambda a: a[:, ::-1])],
)
def test_an_image_is_turned_as_its_exif_says(tmp_path, orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation  # the tag "Orientation"
    np.testing.assert_array_equal(decode_image(save(tmp_path / "a.png", COLOR, exif=exif)), turn(COLOR))
    file = save(tmp_path / "a.jpg", SOFT, exif=exif)
    assert decode_image(file).shape == turn(SOFT).shape


def write_low_png(path, bits, shades, clear):
    """Writes a PNG of one row in grey of 2 or 4 bits, of which one shade is transparent; Pillow writes none."""
    row = int("".join(f"{shade:0{bits}b}" for shade in shades), 2).to_bytes(len(shades) * bits // 8, "big")
    header = struct.pack(">IIBBBBB", len(shades), 1, bits, 0, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"tRNS", struct.pack(">H", clear)),
        (b"IDAT", zlib.compress(b"\0" + row)),
        (b"IEND", b""),
    )
    parts = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.mark.parametrize(
    ("bits", "shades", "clear", "expected"),
    [(2, [0, 1, 2, 3], 1, [0, 255, 170, 255]), (4, [0, 5, 10, 15], 10, [0, 85, 255, 255])],
)
def test_a_transparent_shade_of_few_bits_is_white(tmp_path, bits, shades, clear, expected):
    image = decode_image(write_low_png(tmp_path / "a.png", bits, shades, clear))
    assert image.ravel().tolist() == expected


def test_a_palette_is_known_from_the_header_alone(tmp_path):
    """A file cut where its pixels start shows that they aren't looked at; those of a large set take minutes."""
    grey, color = Image.fromarray(GREY).convert("P"), Image.fromarray(COLOR).quantize(16)
    sparse = Image.fromarray(GREY % 2).convert("P")
    sparse.putpalette([9, 9, 9, 200, 200, 200])
    for name, image, options in (
        ("grey", grey, {}), ("color", color, {}), ("sparse", sparse, {}), ("clear grey", sparse, {"transparency": 1}),
        ("clear color", color, {"transparency": 2}), ("soft", color, {"transparency": bytes(range(0, 256, 16))}),
    ):  # fmt: skip
        for suffix in ("png", "bmp", "gif"):
            if name == "soft" and suffix != "png":
                continue
            file = tmp_path / f"{name}.{suffix}"
            image.save(file, **options)
            told = has_color(file)
            assert told == ("color" in name or name == "soft") == (decode_image(file).shape[-1] == 3), file.name
            content = file.read_bytes()
            if suffix == "png":
                file.write_bytes(content[: content.index(b"IDAT") + 12])
                assert has_color(file) == told, file.name


@pytest.mark.parametrize("local", [COLOR, GREY], ids=["colour", "grey"])
def test_a_gif_may_have_the_palette_of_its_first_frame_alone(tmp_path, local):
    image = Image.fromarray(local).convert("P")
    image.save(tmp_path / "whole.gif")
    content = (tmp_path / "whole.gif").read_bytes()
    size = 3 << (content[10] & 7) + 1
    (tmp_path / "global.gif").write_bytes(content)
    at = content.index(b",", 13 + size)  # the descriptor of the frame, of 10 bytes, the last of them with the flags
    moved = [content[:10], bytes([content[10] & 0x7F]), content[11:13], content[13 + size : at + 9]]
    moved += [bytes([0x80 | (content[10] & 7)]), content[13 : 13 + size], content[at + 10 :]]
    (tmp_path / "local.gif").write_bytes(b"".join(moved))
    with Image.open(tmp_path / "local.gif") as opened:
        assert opened.global_palette is None
    assert has_color(tmp_path / "local.gif") == (local is COLOR)
    np.testing.assert_array_equal(decode_image(tmp_path / "local.gif"), decode_image(tmp_path / "whole.gif"))


def test_the_header_tells_what_decoding_will_give(tmp_path):
    written = {
        "grey.png": GREY, "color.png": COLOR, "deep.png": DEEP, "alpha.png": np.dstack([GREY, ALPHA]), "grey.jpg": GREY,
        "color.jpg": COLOR, "grey.bmp": GREY, "grey.gif": GREY, "grey.webp": GREY,
    }  # fmt: skip
    for name, pixels in written.items():
        file = save(tmp_path / name, pixels)
        assert has_color(file) == (decode_image(file).shape[-1] == 3), name
    assert not has_color(tmp_path / "missing.png")


@given(st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"BM"]), st.binary(max_size=300))
def test_any_bytes_are_an_image_or_a_line_of_what_is_wrong(tmp_path_factory, start, content):
    file = tmp_path_factory.getbasetemp() / "any.png"
    file.write_bytes(start + content)
    try:
        said = str(decode_image(file).ndim)
    except DataError as error:
        said = str(error)
    assert said == "3" or (said.startswith(f"{file}: expected an image") and "\n" not in said)


@pytest.mark.parametrize("suffix", sorted(SUFFIXES - {".bmp", ".gif"}))
def test_a_truncated_file_is_refused(tmp_path, suffix):
    whole = save(tmp_path / f"whole{suffix}", SOFT).read_bytes()
    file = tmp_path / f"cut{suffix}"
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.\w+: expected an image .* Received: a damaged one"):
        decode_image(file)


@pytest.mark.parametrize(("content", "said"), [(b"", "an empty file"), (b"hello", "something else, 5 bytes")])
def test_a_file_that_is_no_image_is_refused_with_what_it_is(tmp_path, content, said):
    file = tmp_path / "line\nbreak.png"
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"line\\nbreak.png: expected an image .* Received: {said}\."):
        decode_image(file)


def test_what_is_not_there_or_another_format_is_refused(tmp_path):
    Image.fromarray(COLOR).save(tmp_path / "a.tiff")
    (tmp_path / "link.png").symlink_to("nowhere")
    for name, said in (("a.tiff", "something else"), ("link.png", "No such file"), (".", "Is a directory")):
        with pytest.raises(DataError, match=said):
            decode_image(tmp_path / name)


def test_a_file_that_declares_a_huge_picture_is_refused_before_there_is_room_for_it(tmp_path):
    Image.new("1", (10_000, 9_000)).save(tmp_path / "bomb.png")
    with pytest.raises(DataError, match=r"bomb.png: expected .* Received: more than 89,478,485 pixels"):
        decode_image(tmp_path / "bomb.png")


def test_pillow_says_nothing_of_its_own_in_any_thread(tmp_path):
    whole = save(tmp_path / "whole.jpg", SOFT, exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff").read_bytes()
    for number in range(20):
        (tmp_path / f"{number}.jpg").write_bytes(whole)
    Image.new("1", (10_000, 9_000)).save(tmp_path / "bomb.png")
    code = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from cotejo.data.decoding import decode_image, has_color
from cotejo.errors import DataError
with ThreadPoolExecutor(4) as pool:
    print({image.shape for image in pool.map(decode_image, sorted(Path(sys.argv[1]).glob("*.jpg")))})
try:
    has_color(Path(sys.argv[1], "bomb.png")), decode_image(Path(sys.argv[1], "bomb.png"))
except DataError as error:
    print(str(error).rpartition("Received: ")[2])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["{(64, 96, 3)}", "more than 89,478,485 pixels."]
    assert done.stderr == ""


def test_colours_become_grey_as_pillow_makes_them(tmp_path):
    grey = convert_color(COLOR, "grey")
    np.testing.assert_array_equal(grey[..., 0], np.asarray(Image.fromarray(COLOR).convert("L")))
    assert convert_color(grey, "grey") is grey
    assert convert_color(COLOR, "rgb") is COLOR
    np.testing.assert_array_equal(convert_color(grey, "rgb"), np.dstack([grey] * 3))
