"""Encoded images become arrays, or an `ImageError`; nothing else."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_examples import frame, jpeg, png, raw, scene
from numpy.typing import NDArray

from rynn_brain_ros.memory import (
    canonical,
    decode_color,
    decode_depth,
    image_size,
    select,
    thumbnail,
)
from rynn_brain_ros.values import EncodedImage, ImageError

RGB = scene()
BGR = RGB[..., ::-1]
ALPHA = np.full((48, 64, 1), 9, np.uint8)
GREY = RGB[..., 1]
DEPTH_MM = (np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 7) % 5000


def as_rgb(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels", "expected"),
    [
        ("rgb8", RGB, RGB),
        ("bgr8", BGR, RGB),
        ("rgba8", np.dstack([RGB, ALPHA]), RGB),
        ("bgra8", np.dstack([BGR, ALPHA]), RGB),
        ("8UC3", BGR, RGB),
        ("8UC4", np.dstack([BGR, ALPHA]), RGB),
        ("mono8", GREY, as_rgb(GREY)),
        ("8UC1", GREY, as_rgb(GREY)),
        ("mono16", GREY.astype("<u2") * 256 + 3, as_rgb(GREY)),
        ("rgb16", RGB.astype("<u2") * 256 + 3, RGB),
        ("bgr16", BGR.astype("<u2") * 256 + 3, RGB),
    ],
)
def test_raw_encoding_gives_its_pixels_as_rgb(
    encoding: str, pixels: NDArray[np.generic], expected: NDArray[np.uint8], padding: int
) -> None:
    np.testing.assert_array_equal(decode_color(raw(encoding, pixels, padding)), expected)


def test_big_endian_mono16_keeps_its_high_byte() -> None:
    image = raw("mono16", (GREY.astype(np.uint16) * 256 + 3).astype(">u2"))
    swapped = EncodedImage("mono16", image.data, 64, 48, 128, is_bigendian=True)
    np.testing.assert_array_equal(decode_color(swapped), as_rgb(GREY))


@pytest.mark.parametrize(
    ("encoding", "pattern"),
    [
        ("bayer_rggb8", "rggb"),
        ("bayer_bggr8", "bggr"),
        ("bayer_gbrg8", "gbrg"),
        ("bayer_grbg8", "grbg"),
    ],
)
def test_bayer_mosaic_of_one_colour_gives_that_colour(encoding: str, pattern: str) -> None:
    color = {"r": 200, "g": 100, "b": 30}
    mosaic = np.tile(np.array([color[c] for c in pattern], np.uint8).reshape(2, 2), (12, 16))
    middle = decode_color(raw(encoding, mosaic))[4:-4, 4:-4]
    np.testing.assert_array_equal(middle.reshape(-1, 3).mean(axis=0), [200, 100, 30])


@pytest.mark.parametrize(
    ("encoding", "order"),
    [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")],
)
def test_yuv422_is_read_in_its_byte_order(encoding: str, order: str) -> None:
    pure_red = {"y": 82, "u": 90, "v": 240}  # BT.601, video range
    pixels = np.tile([pure_red[c] for c in order], (4, 8)).astype(np.uint8).reshape(4, 16, 2)
    red, green, blue = decode_color(raw(encoding, pixels))[1, 1]
    assert red > 240 and green < 20 and blue < 20


@pytest.mark.parametrize(("encoding", "chroma"), [("nv12", (90, 240)), ("nv21", (240, 90))])
def test_nv_images_carry_half_as_many_rows_of_chroma(
    encoding: str, chroma: tuple[int, int]
) -> None:
    luma = np.full((8, 8), 82, np.uint8)
    planes = np.vstack([luma, np.tile(np.array(chroma, np.uint8), (4, 4))])
    image = EncodedImage(encoding, planes.tobytes(), 8, 8, 8)
    red, green, blue = decode_color(image)[3, 3]
    assert red > 240 and green < 20 and blue < 20
    np.testing.assert_array_equal(thumbnail(image), luma)


def test_odd_yuv422_width_is_refused() -> None:
    with pytest.raises(ImageError, match="blocks of 2x1"):
        decode_color(raw("uyvy", np.zeros((4, 5, 2), np.uint8)))


@pytest.mark.parametrize("spelling", ["jpeg", "jpg", "rgb8; jpeg compressed bgr8", "bgr8; jpeg"])
def test_jpeg_is_read_whatever_its_format_string(spelling: str) -> None:
    difference = np.abs(decode_color(jpeg(RGB, spelling)).astype(int) - RGB)
    assert difference.mean() < 5


@pytest.mark.parametrize("spelling", ["png", "bgr8; png compressed", "rgb8; png compressed bgr8"])
def test_png_is_read_without_loss_whatever_its_format_string(spelling: str) -> None:
    np.testing.assert_array_equal(decode_color(png(RGB, spelling)), RGB)


def test_exif_rotation_is_not_applied() -> None:
    data = bytes(jpeg(RGB).data)
    rotated = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    segment = b"\xff\xe1" + struct.pack(">H", len(rotated) + 2) + rotated
    image = EncodedImage("jpeg", data[:2] + segment + data[2:], compressed=True)
    assert image_size(image) == (64, 48)
    assert decode_color(image).shape == (48, 64, 3)


def test_memoryview_data_is_read_like_bytes() -> None:
    image = raw("rgb8", RGB)
    view = EncodedImage("rgb8", memoryview(image.data), 64, 48, 192)
    np.testing.assert_array_equal(decode_color(view), RGB)


def test_decoded_pixels_are_the_callers_own() -> None:
    assert decode_color(raw("rgb8", RGB)).flags.writeable


# --- depth


@pytest.mark.parametrize("encoding", ["16UC1", "mono16"])
def test_millimetres_become_metres_and_zero_becomes_nan(encoding: str) -> None:
    expected = np.where(DEPTH_MM == 0, np.nan, DEPTH_MM / 1000).astype(np.float32)
    depth_m = decode_depth(raw(encoding, DEPTH_MM, padding=6))
    assert depth_m.dtype == np.float32
    np.testing.assert_array_equal(depth_m, expected)


def test_big_endian_depth_is_swapped() -> None:
    image = raw("16UC1", np.array([[1234]], ">u2"))
    swapped = EncodedImage("16UC1", image.data, 1, 1, 2, is_bigendian=True)
    assert decode_depth(swapped)[0, 0] == np.float32(1.234)


def test_float_depth_that_is_no_distance_becomes_nan() -> None:
    depth = np.array([[1.5, 0.0, -1.0, np.inf, np.nan]], np.float32)
    np.testing.assert_array_equal(
        decode_depth(raw("32FC1", depth)), [[1.5, np.nan, np.nan, np.nan, np.nan]]
    )


def with_header(encoding: str, body: bytes, a: float = 0.0, b: float = 0.0) -> EncodedImage:
    return EncodedImage(encoding, struct.pack("<i2f", 0, a, b) + body, compressed=True)


def png_bytes(pixels: NDArray[np.uint16]) -> bytes:
    return bytes(png(pixels).data)


@pytest.mark.parametrize("spelling", ["16UC1; compressedDepth png", "16UC1; compressedDepth"])
def test_compressed_depth_png_is_millimetres_after_its_header(spelling: str) -> None:
    expected = decode_depth(raw("16UC1", DEPTH_MM))
    decoded = decode_depth(with_header(spelling, png_bytes(DEPTH_MM)))
    np.testing.assert_array_equal(decoded, expected)


def test_plain_16_bit_png_is_millimetres() -> None:
    np.testing.assert_array_equal(decode_depth(png(DEPTH_MM)), decode_depth(raw("16UC1", DEPTH_MM)))


def test_compressed_float_depth_undoes_the_inverse_quantization() -> None:
    # compressed_depth_image_transport, codec.cpp: depth_max 10 m, quantization 100.
    depth_m = np.linspace(0.4, 8, 200, dtype=np.float32).reshape(10, 20)
    a = 100.0 * (100.0 + 1.0)
    b = 1.0 - a / 10.0
    quantized = (a / depth_m + b).astype(np.uint16)
    quantized[0, 0] = 0
    decoded = decode_depth(with_header("32FC1; compressedDepth png", png_bytes(quantized), a, b))
    assert np.isnan(decoded[0, 0])
    np.testing.assert_allclose(decoded.ravel()[1:], depth_m.ravel()[1:], rtol=0.01)


def rvl_bytes(depth: NDArray[np.uint16]) -> bytes:
    """Wilson's encoder, number by number."""
    numbers: list[int] = []
    flat = [int(value) for value in depth.ravel()]
    at = previous = 0
    while at < len(flat):
        zeros = at
        while at < len(flat) and flat[at] == 0:
            at += 1
        numbers.append(at - zeros)
        end = at
        while end < len(flat) and flat[end] != 0:
            end += 1
        numbers.append(end - at)
        for value in flat[at:end]:
            delta = value - previous
            numbers.append((delta << 1) ^ (delta >> 31))
            previous = value
        at = end
    nibbles: list[int] = []
    for number in numbers:
        while True:
            low, number = number & 7, number >> 3  # noqa: PLW2901
            nibbles.append(low | (8 if number else 0))
            if not number:
                break
    nibbles += [0] * (-len(nibbles) % 8)
    words = [
        sum(n << (28 - 4 * k) for k, n in enumerate(nibbles[i : i + 8]))
        for i in range(0, len(nibbles), 8)
    ]
    height, width = depth.shape
    return struct.pack(f"<II{len(words)}I", width, height, *words)


@given(st.lists(st.one_of(st.just(0), st.integers(0, 65535)), min_size=1, max_size=60))
def test_rvl_gives_back_what_was_encoded(values: list[int]) -> None:
    depth = np.array([values], np.uint16)
    decoded = decode_depth(with_header("16UC1; compressedDepth rvl", rvl_bytes(depth)))
    np.testing.assert_array_equal(decoded, decode_depth(raw("16UC1", depth)))


def test_rvl_of_a_whole_image_keeps_its_rows() -> None:
    decoded = decode_depth(with_header("16UC1; compressedDepth rvl", rvl_bytes(DEPTH_MM)))
    np.testing.assert_array_equal(decoded, decode_depth(raw("16UC1", DEPTH_MM)))


@pytest.mark.parametrize("keep", [4, 12, 16, 20, 200])
def test_cut_off_rvl_is_refused(keep: int) -> None:
    data = bytes(with_header("", rvl_bytes(DEPTH_MM)).data)[:keep]
    with pytest.raises(ImageError):
        decode_depth(EncodedImage("16UC1; compressedDepth rvl", data, compressed=True))


def test_eight_bit_png_is_not_depth() -> None:
    with pytest.raises(ImageError, match="publish 16-bit grey"):
        decode_depth(png(GREY))


def test_colour_is_not_depth() -> None:
    with pytest.raises(ImageError, match="not depth"):
        decode_depth(raw("rgb8", RGB))


def test_depth_is_not_colour() -> None:
    with pytest.raises(ImageError, match="16UC1"):
        decode_color(raw("16UC1", DEPTH_MM))


# --- wrong headers


@pytest.mark.parametrize(
    "image",
    [
        EncodedImage("rgb8", b"0123456789", 20000, 20000, 60000),
        EncodedImage("rgb8", b"0123456789", 640, 480, 1920),
        EncodedImage("rgb8", bytes(100), 0, 480, 1920),
        EncodedImage("rgb8", bytes(100), 10, 0, 30),
        EncodedImage("rgb8", bytes(100), -4, 4, 30),
        EncodedImage("rgb8", bytes(1000), 10, 4, 29),
        EncodedImage("rgb8", b"", 10, 4, 30),
        EncodedImage("", bytes(1000), 10, 4, 30),
        EncodedImage("jpeg", b"", compressed=True),
        EncodedImage("jpeg", b"GIF89a" + bytes(100), compressed=True),
        EncodedImage("jpeg", bytes(jpeg(RGB).data)[:-400], compressed=True),
        EncodedImage("png", bytes(png(RGB).data)[:-200], compressed=True),
    ],
)
def test_header_that_contradicts_its_bytes_is_an_image_error(image: EncodedImage) -> None:
    for function in (decode_color, thumbnail, canonical, image_size, decode_depth):
        with pytest.raises(ImageError):
            function(image)


@pytest.mark.parametrize("claimed", [b"\x00\x01\x00\x00", b"\x7f\xff\xff\xff"])
def test_png_that_claims_an_absurd_size_is_refused_before_it_is_decoded(claimed: bytes) -> None:
    data = bytes(png(RGB).data)
    image = EncodedImage("png", data[:16] + claimed * 2 + data[24:], compressed=True)
    with pytest.raises(ImageError, match="outside"):
        decode_color(image)


def test_rvl_that_claims_an_absurd_size_is_refused() -> None:
    body = struct.pack("<III", 20000, 20000, 0)
    with pytest.raises(ImageError, match="outside"):
        decode_depth(with_header("16UC1; compressedDepth rvl", body))


def test_error_says_what_where_and_what_to_do() -> None:
    with pytest.raises(ImageError) as caught:
        decode_color(EncodedImage("rgb8", b"0123456789", 640, 480, 1920))
    assert "'rgb8'" in str(caught.value)
    assert "640x480" in str(caught.value)
    assert "10 bytes" in str(caught.value)
    assert "drop it" in str(caught.value)


COMPRESSED_DEPTH = [
    f"{kind}; compressedDepth {codec}" for kind in ("16UC1", "32FC1") for codec in ("png", "rvl")
]
ENCODINGS = st.sampled_from(
    ["rgb8", "mono16", "bayer_rggb8", "uyvy", "nv21", "16UC1", "32FC1", "jpeg", *COMPRESSED_DEPTH]
)
DATA = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=60).map(lambda b: bytes(jpeg(RGB).data)[:300] + b + b"\xff\xd9"),
    st.binary(max_size=60).map(lambda b: bytes(png(DEPTH_MM).data)[:60] + b + b"IEND"),
    st.binary(max_size=60).map(lambda b: struct.pack("<i2f2I", 0, 1, 1, 9, 9) + b),
)
SIZES = st.one_of(st.integers(-1, 12), st.just(20000))


IMAGES = st.builds(EncodedImage, ENCODINGS, DATA, SIZES, SIZES, SIZES, st.booleans(), st.booleans())


@given(IMAGES)
def test_random_images_never_fail_with_anything_but_image_error(image: EncodedImage) -> None:
    for function in (decode_color, decode_depth, thumbnail, canonical, image_size):
        try:
            function(image)
        except ImageError:
            continue


# --- canonical bytes, thumbnails


@pytest.mark.parametrize(("image", "mime"), [(jpeg(RGB), "image/jpeg"), (png(RGB), "image/png")])
def test_the_cameras_own_encoding_is_canonical(image: EncodedImage, mime: str) -> None:
    assert canonical(image) == (image.data, mime)


def test_raw_becomes_the_same_lossless_png_every_time() -> None:
    data, mime = canonical(raw("bgr8", BGR))
    assert mime == "image/png"
    assert canonical(raw("rgb8", RGB))[0] == data
    np.testing.assert_array_equal(decode_color(EncodedImage("png", data, compressed=True)), RGB)


def test_selected_frame_carries_the_hash_of_its_bytes_and_its_size() -> None:
    selected = select(frame(7, color=raw("rgb8", RGB)))
    assert selected.sha256 == hashlib.sha256(selected.image).hexdigest()
    assert (selected.width, selected.height) == (64, 48)


def test_unreadable_frame_is_named_when_selected() -> None:
    with pytest.raises(ImageError, match="camera 'head' at 7 ns"):
        select(frame(7, color=EncodedImage("jpeg", b"", compressed=True)))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 480), (60, 80)), ((640, 256), (32, 80)), ((130, 100), (50, 65)), ((40, 20), (20, 40))],
)
def test_thumbnail_is_an_eighth_or_keeps_32_pixels(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    rgb = scene(*size)
    for image in (raw("rgb8", rgb), jpeg(rgb), png(rgb)):
        assert thumbnail(image).shape == expected


def test_thumbnails_of_raw_and_jpeg_agree() -> None:
    rgb = as_rgb(scene(640, 480)[..., 1])
    difference = thumbnail(raw("rgb8", rgb)).astype(int) - thumbnail(jpeg(rgb))
    assert np.abs(difference).mean() < 6


@pytest.mark.shared
def test_real_jpegs_tell_their_size_without_decoding(shared_data: Path) -> None:
    paths = sorted((shared_data / "cookbook").rglob("*.jpg"))
    assert paths
    for path in paths:
        image = EncodedImage("jpeg", path.read_bytes(), compressed=True)
        height, width = decode_color(image).shape[:2]
        assert image_size(image) == (width, height)


@pytest.mark.shared
def test_real_depth_png_gives_plausible_metres(shared_data: Path) -> None:
    data = (shared_data / "open3d_rgbd/RGBD/depth/00000.png").read_bytes()
    depth_m = decode_depth(EncodedImage("png", data, compressed=True))
    assert depth_m.shape == (480, 640)
    assert 0.3 < np.nanmedian(depth_m) < 5


@pytest.mark.shared
def test_real_depth_survives_rvl(shared_data: Path) -> None:
    path = shared_data / "slambook2_rgbd/ch5/depth/1.pgm"
    depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)[::4]
    decoded = decode_depth(with_header("16UC1; compressedDepth rvl", rvl_bytes(depth)))
    np.testing.assert_array_equal(decoded, decode_depth(raw("16UC1", depth)))


def noisy_jpeg(*settings: int) -> bytes:
    rng = np.random.default_rng(0)
    picture = scene(640, 480) // 2 + rng.integers(0, 20, (480, 640, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".jpg", picture, settings)[1])


def selected(data: bytes) -> bytes:
    return bytes(select(frame(0, color=EncodedImage("jpeg", data, compressed=True))).image)


def without_segments(data: bytes, marker: int) -> bytes:
    """The same JPEG without its segments of a kind."""
    kept, at = data[:2], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        kept, at = kept + (b"" if data[at + 1] == marker else data[at:end]), end
    return kept + data[at:]


def test_a_jpeg_that_lost_bytes_inside_is_not_shown() -> None:
    pytest.importorskip("simplejpeg")
    whole = noisy_jpeg()
    middle = len(whole) // 2
    damaged = whole[:middle] + whole[middle + 500 :]
    decode_color(EncodedImage("jpeg", damaged, compressed=True))  # OpenCV makes up the rest
    with pytest.raises(ImageError, match="it is damaged inside"):
        selected(damaged)


def test_a_jpeg_whose_pixels_do_not_decode_is_not_shown() -> None:
    damaged = bytearray(noisy_jpeg())
    damaged[damaged.find(b"\xff\xc4") + 4] = 0xFF  # in a Huffman table
    with pytest.raises(ImageError, match="its pixels do not decode"):
        selected(bytes(damaged))


WHOLE = noisy_jpeg()


@pytest.mark.parametrize(
    "data",
    [
        WHOLE,
        without_segments(WHOLE, 0xC4),  # no Huffman tables, as in MJPEG
        without_segments(WHOLE, 0xE0),
        WHOLE + bytes(1000),
        WHOLE + b"\xff\xd9",
        *(WHOLE[:-2] + bytes(n) + WHOLE[-2:] for n in (1, 8, 64)),
        WHOLE[:-2] + b"\xff\xff" + WHOLE[-2:],
        noisy_jpeg(cv2.IMWRITE_JPEG_RST_INTERVAL, 40),
        noisy_jpeg(cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    ],
    ids=[
        *("whole", "no_tables", "no_jfif", "padded", "ends_twice", "1_over", "8_over", "64_over"),
        *("fill", "restarts", "progressive"),
    ],
)
def test_what_cameras_do_to_a_jpeg_is_no_damage(data: bytes) -> None:
    assert selected(data) == data
