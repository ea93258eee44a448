"""Encoded camera images and the pixels in them.

Frames are kept as they arrived (`EncodedImage`); this is the one place where they become arrays.
Every header is checked against its bytes before OpenCV sees them, so that a wrong size, a cut-off
message or an absurd claim ends in an `ImageError` and never in a traceback or a huge allocation.

Sources: sensor_msgs/image_encodings.hpp, cv_bridge (meaning of the encodings), image_transport's
compressed_image_transport and compressed_depth_image_transport (``codec.cpp``,
``compression_common.h``), and A. Wilson, "Fast Lossless Depth Image Compression", ISS 2017 (RVL).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rynn_brain_ros.values import EncodedImage, Frame, ImageError, SelectedFrame

MAX_PIXELS = 1 << 25
"""The largest image that is believed: 8K. A claim beyond it is a broken header."""

_THUMBNAIL_SHORT_SIDE = 32
_REDUCED_GREY = {
    1: cv2.IMREAD_GRAYSCALE,
    2: cv2.IMREAD_REDUCED_GRAYSCALE_2,
    4: cv2.IMREAD_REDUCED_GRAYSCALE_4,
    8: cv2.IMREAD_REDUCED_GRAYSCALE_8,
}
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_CORRUPT = "Corrupt JPEG data"
"""How libjpeg's warnings of data that cannot be right begin (``jerror.h``)."""
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
# Explicit, since defaults differ between versions of OpenCV. On a real 640x480 picture 30 % faster
# and 15 % smaller than level 1 alone.
_PNG_SETTINGS = [
    cv2.IMWRITE_PNG_COMPRESSION,
    1,
    cv2.IMWRITE_PNG_STRATEGY,
    cv2.IMWRITE_PNG_STRATEGY_RLE,
]
_DEPTH_HEADER = struct.Struct("<i2f")  # ConfigHeader {int32 format; float32 depthParam[2]}
_MAX_VARINT_NIBBLES = 11  # 33 bits: what RVL's own decoder can hold in an int


@dataclass(frozen=True)
class _Layout:
    """How a raw encoding lies in memory.

    A pixel is ``channels`` values of ``value_bytes`` each; channel ``luma`` stands for its
    brightness (green, or Y). ``to_rgb`` is OpenCV's conversion, ``None`` for RGB itself.
    ``grid`` is what width and height must be multiples of. ``planar_chroma`` adds half as many
    rows again, with the colour differences of 4:2:0.
    """

    channels: int
    luma: int
    to_rgb: int | None
    value_bytes: int = 1
    grid: tuple[int, int] = (1, 1)
    planar_chroma: bool = False


_GREY = _Layout(1, 0, cv2.COLOR_GRAY2RGB)
_BGR = _Layout(3, 1, cv2.COLOR_BGR2RGB)
_BGRA = _Layout(4, 1, cv2.COLOR_BGRA2RGB)
_UYVY = _Layout(2, 1, cv2.COLOR_YUV2RGB_UYVY, grid=(2, 1))
_YUYV = _Layout(2, 0, cv2.COLOR_YUV2RGB_YUY2, grid=(2, 1))

# 8UC3 and 8UC4 name no colours; like cv_bridge they are taken to be in OpenCV's order.
# OpenCV names a Bayer pattern by its second row, ROS by its first.
_LAYOUTS = {
    "rgb8": _Layout(3, 1, None),
    "rgb16": _Layout(3, 1, None, value_bytes=2),
    "rgba8": _Layout(4, 1, cv2.COLOR_RGBA2RGB),
    "bgr8": _BGR,
    "bgr16": _Layout(3, 1, cv2.COLOR_BGR2RGB, value_bytes=2),
    "8uc3": _BGR,
    "bgra8": _BGRA,
    "8uc4": _BGRA,
    "mono8": _GREY,
    "8uc1": _GREY,
    "mono16": _Layout(1, 0, cv2.COLOR_GRAY2RGB, value_bytes=2),
    "bayer_rggb8": _Layout(1, 0, cv2.COLOR_BayerBG2RGB, grid=(2, 2)),
    "bayer_bggr8": _Layout(1, 0, cv2.COLOR_BayerRG2RGB, grid=(2, 2)),
    "bayer_gbrg8": _Layout(1, 0, cv2.COLOR_BayerGR2RGB, grid=(2, 2)),
    "bayer_grbg8": _Layout(1, 0, cv2.COLOR_BayerGB2RGB, grid=(2, 2)),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": _Layout(1, 0, cv2.COLOR_YUV2RGB_NV12, grid=(2, 2), planar_chroma=True),
    "nv21": _Layout(1, 0, cv2.COLOR_YUV2RGB_NV21, grid=(2, 2), planar_chroma=True),
}


# --- what callers want -----------------------------------------------------------------------


def decode_color(image: EncodedImage) -> NDArray[np.uint8]:
    """Pixels as RGB, uint8 [H, W, 3], a new array.

    16-bit values lose their low byte. A JPEG or PNG is read as its own standard says, whatever
    ``format`` claims about channel order, and an EXIF rotation is not applied: the result shows
    what engines see in `canonical` and what camera_info describes. Raises `ImageError`.
    """
    if image.compressed:
        bgr = _imdecode(image, cv2.IMREAD_COLOR)
        return _cv(image, cv2.cvtColor, bgr, cv2.COLOR_BGR2RGB)
    layout = _layout(image)
    pixels = _pixels(image, layout)
    if layout.to_rgb is None:
        rgb: NDArray[np.uint8] = pixels.copy()
        return rgb
    return _cv(image, cv2.cvtColor, np.ascontiguousarray(pixels), layout.to_rgb)


def decode_depth(image: EncodedImage) -> NDArray[np.float32]:
    """Depth in metres, float32 [H, W], NaN where there is none.

    Raw 16UC1 and mono16 are millimetres, 32FC1 metres (REP 118). Compressed: a plain 16-bit PNG
    in millimetres, or compressedDepth with PNG or RVL inside. Raises `ImageError`.
    """
    if image.compressed:
        return _decode_compressed_depth(image)
    values = _raw_depth(image)
    return _positive(values.astype(np.float32)) if values.dtype.kind == "f" else _metres(values)


def check_depth(image: EncodedImage) -> None:
    """Raises the `ImageError` of `decode_depth`, as far as headers tell: decodes nothing."""
    if not image.compressed:
        _raw_depth(image)
        return
    body, is_rvl = _depth_body(image)
    if not is_rvl:
        _compressed_size(image, body)


def image_size(image: EncodedImage) -> tuple[int, int]:
    """(width, height) in pixels, from the header alone.

    The header is checked against the bytes on the way, without decoding: what passes here has a
    known encoding and all of its data. Raises `ImageError`.
    """
    if image.compressed:
        return _compressed_size(image, bytes(image.data))
    layout = _layout(image)
    _pixels(image, layout)
    return image.width, image.height


def is_rectified(topic: str) -> bool:
    """By ROS's naming convention: an image_rect has no distortion left, and P describes it. ZED's
    wrapper has a folder ``rect`` instead."""
    folder, _, leaf = topic.removesuffix("/compressed").rpartition("/")
    return leaf.startswith("image_rect") or folder.rpartition("/")[2] == "rect"


def canonical(image: EncodedImage) -> tuple[bytes, str]:
    """The bytes that every engine sees, and their MIME type.

    The camera's own JPEG or PNG, untouched; else the decoded colour as one lossless PNG, always
    with the same settings, so that the same OpenCV gives the same bytes. Raises `ImageError`.
    """
    if image.compressed:
        data = bytes(image.data)
        _compressed_size(image, data)
        return data, "image/jpeg" if data.startswith(_JPEG_START) else "image/png"
    bgr = _cv(image, cv2.cvtColor, decode_color(image), cv2.COLOR_RGB2BGR)
    _, png = cv2.imencode(".png", bgr, _PNG_SETTINGS)
    return png.tobytes(), "image/png"


def select(frame: Frame) -> SelectedFrame:
    """Bind a frame to its canonical bytes and their SHA-256. Raises `ImageError`, also where the
    pixels do not decode, or would not be where they were: metres come from them."""
    try:
        data, mime = canonical(frame.color)
        width, height = image_size(frame.color)
        if frame.color.compressed:
            _refuse_damaged(frame.color, data)
    except ImageError as error:
        raise ImageError(f"camera {frame.camera!r} at {frame.stamp_ns} ns: {error}") from error
    return SelectedFrame(frame, data, mime, hashlib.sha256(data).hexdigest(), width, height)


def thumbnail(image: EncodedImage) -> NDArray[np.uint8]:
    """A small grey picture, uint8 [h, w], made as cheaply as can be: for looking, not measuring.

    1/8 of the size (less for small images: the short side keeps 32 pixels). Raw images give every
    8th green or luma value without touching the others; JPEGs are decoded at 1/8 inside the DCT.
    Raises `ImageError`.
    """
    factor = _reduction(image)
    if image.compressed:
        return _imdecode(image, _REDUCED_GREY[factor], resized=True)
    layout = _layout(image)
    rows = _pixels(image, layout)[: image.height]
    middle = factor // 2  # of each block, as the mean of a JPEG's block is
    return np.ascontiguousarray(rows[middle::factor, middle::factor, layout.luma])


# --- raw -------------------------------------------------------------------------------------


def _layout(image: EncodedImage) -> _Layout:
    layout = _LAYOUTS.get(image.encoding.strip().lower())
    if layout is None:
        raise _error(image, "the encoding is not a known colour encoding", f"use one of {_KNOWN}")
    if image.width % layout.grid[0] or image.height % layout.grid[1]:
        columns, rows = layout.grid
        raise _error(
            image, f"its pixels come in blocks of {columns}x{rows}", "publish an even size"
        )
    return layout


_KNOWN = ", ".join(sorted(_LAYOUTS))


def _pixels(image: EncodedImage, layout: _Layout) -> NDArray[np.uint8]:
    """View of the image as uint8 [rows, W, channels]: the high byte of every value."""
    pixel_bytes = layout.channels * layout.value_bytes
    n_rows = image.height * 3 // 2 if layout.planar_chroma else image.height
    rows = _rows(image, pixel_bytes, n_rows)
    values = rows.reshape(n_rows, image.width, layout.channels, layout.value_bytes)
    return values[..., 0 if image.is_bigendian else -1]


def _raw_depth(image: EncodedImage) -> NDArray[Any]:
    """View of the data as depth [H, W], in millimetres or, floating, in metres."""
    order = ">" if image.is_bigendian else "<"
    encoding = image.encoding.strip().lower()
    if encoding in ("16uc1", "mono16"):
        return _rows(image, 2).view(f"{order}u2")
    if encoding == "32fc1":
        return _rows(image, 4).view(f"{order}f4")
    raise _error(image, "the encoding is not depth", "use 16UC1 (mm), 32FC1 (m) or compressedDepth")


def _rows(image: EncodedImage, pixel_bytes: int, n_rows: int | None = None) -> NDArray[np.uint8]:
    """View of the data as uint8 [n_rows, W·pixel_bytes], padding cut off."""
    n_rows = image.height if n_rows is None else n_rows
    _check_size(image, image.width, image.height)
    if image.step < image.width * pixel_bytes:
        raise _error(
            image,
            f"a row of {image.width} pixels needs {image.width * pixel_bytes} bytes",
            "correct the step of the publisher",
        )
    needed = image.step * n_rows
    if len(image.data) < needed:
        raise _error(
            image, f"{n_rows} rows need {needed} bytes", "the message was cut off: drop it"
        )
    flat = np.frombuffer(image.data, np.uint8, count=needed)
    return flat.reshape(n_rows, image.step)[:, : image.width * pixel_bytes]


# --- compressed ------------------------------------------------------------------------------


def _compressed_size(image: EncodedImage, data: bytes) -> tuple[int, int]:
    """(width, height) of a complete JPEG or PNG.

    Other formats are refused: their size, and so the memory they would take, is not known before
    they are decoded.
    """
    if data.startswith(_PNG_START):
        size, end = _png_size(data), _PNG_END
    elif data.startswith(_JPEG_START):
        size, end = _jpeg_size(data), _JPEG_END
    else:
        raise _error(
            image, "the data is neither JPEG nor PNG", "publish one of these, or raw images"
        )
    if size is None:
        raise _error(image, "the header holds no image size", "the message is damaged: drop it")
    if data.rfind(end) < 0:
        # OpenCV fills the rest of a cut-off picture with grey, which a model would then describe.
        raise _error(image, "the end of the picture is missing", "the message was cut off: drop it")
    _check_size(image, *size)
    return size


def _png_size(data: bytes) -> tuple[int, int] | None:
    if data[12:16] != b"IHDR" or len(data) < 24:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Walk the segments (ITU T.81, B.1) up to the start-of-frame marker."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        elif marker == 0xDA:  # pixels begin, and no size was given
            return None
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _refuse_damaged(image: EncodedImage, data: bytes) -> None:
    """Raises `ImageError` where pixels do not decode, or where the data of a JPEG contradicts its
    code, as after lost bytes.

    libjpeg warns of that and makes up the rest; OpenCV, and Pillow too, keep the warning to
    themselves. What is not a damage is left to OpenCV: cameras leave bytes over before a marker.
    A JPEG of 720p takes 1 ms, at 1/8 of its size.
    """
    decode = _strict_decoder()
    if decode is None or not data.startswith(_JPEG_START):
        thumbnail(image)
        return
    try:
        decode(data, "GRAY", min_height=1, min_width=1, strict=True)
    except ValueError as error:
        told = str(error)
        if told.startswith(_CORRUPT) and "extraneous bytes" not in told:
            raise _error(image, f"it is damaged inside ({told})", "drop it") from error
        thumbnail(image)


@lru_cache
def _strict_decoder() -> Callable[..., Any] | None:
    """simplejpeg's; ``None`` without it: then damaged pictures pass for whole ones."""
    try:
        from simplejpeg import decode_jpeg  # noqa: PLC0415
    except ImportError:
        return None
    decode: Callable[..., Any] = decode_jpeg
    return decode


def _imdecode(image: EncodedImage, flags: int, resized: bool = False) -> NDArray[Any]:
    return _imdecode_bytes(image, bytes(image.data), flags, resized)


def _imdecode_bytes(
    image: EncodedImage, data: bytes, flags: int, resized: bool = False
) -> NDArray[Any]:
    width, height = _compressed_size(image, data)
    if flags != cv2.IMREAD_UNCHANGED:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    pixels = _cv(image, cv2.imdecode, np.frombuffer(data, np.uint8), flags)
    if not resized and pixels.shape[:2] != (height, width):
        raise _error(image, f"its header says {width}x{height}", "it is damaged: drop it")
    return pixels


def _reduction(image: EncodedImage) -> int:
    """1, 2, 4 or 8: how much smaller a thumbnail is."""
    short_side = min(image_size(image))
    return next((f for f in (8, 4, 2) if short_side >= f * _THUMBNAIL_SHORT_SIDE), 1)


# --- compressed depth ------------------------------------------------------------------------


def _decode_compressed_depth(image: EncodedImage) -> NDArray[np.float32]:
    body, is_rvl = _depth_body(image)
    values = _decode_rvl(image, body) if is_rvl else _decode_png16(image, body)
    if bytes(image.data[: len(_PNG_START)]) == _PNG_START:  # a plain PNG, whatever the format says
        return _metres(values)
    if "32fc1" not in image.encoding.lower():
        return _metres(values)
    # Inverse depth, quantized with a step that grows with distance; 0 means none.
    _, a, b = _DEPTH_HEADER.unpack(bytes(image.data[: _DEPTH_HEADER.size]))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        depth_m = np.float32(a) / (values.astype(np.float32) - np.float32(b))
    depth_m[values == 0] = np.nan
    return _positive(depth_m)


def _depth_body(image: EncodedImage) -> tuple[bytes, bool]:
    """(PNG or RVL without what comes before it, whether it is RVL)."""
    data = bytes(image.data)
    if data.startswith(_PNG_START):
        return data, False
    if "compresseddepth" not in image.encoding.lower() or len(data) < _DEPTH_HEADER.size:
        raise _error(image, "the data is no PNG and not compressedDepth", "publish 16-bit depth")
    is_rvl = "rvl" in image.encoding.lower().rpartition("compresseddepth")[2]
    return data[_DEPTH_HEADER.size :], is_rvl


def _decode_png16(image: EncodedImage, data: bytes) -> NDArray[np.uint16]:
    pixels = _imdecode_bytes(image, data, cv2.IMREAD_UNCHANGED)
    if pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise _error(
            image, f"{pixels.dtype} {list(pixels.shape)} is not depth", "publish 16-bit grey"
        )
    return pixels


def _decode_rvl(image: EncodedImage, data: bytes) -> NDArray[np.uint16]:
    """Run lengths of zeros and of values, the values as zigzag differences to the last one.

    Everything is one sequence of numbers in nibbles of 3 bits, the 4th saying that more follow;
    nibbles fill little-endian 32-bit words from the top.
    """
    if len(data) < 8:
        raise _error(image, "the RVL size is missing", "the message was cut off: drop it")
    width, height = struct.unpack_from("<II", data)
    _check_size(image, width, height)
    numbers = _nibble_numbers(image, data[8 : len(data) - len(data) % 4])
    zigzag = (numbers >> 1) ^ -(numbers & 1)
    differences = np.zeros(width * height, np.int64)
    valid = np.zeros(width * height, bool)
    pixel = at = 0
    while pixel < valid.size:
        if at + 2 > numbers.size:
            raise _error(image, f"RVL ends at pixel {pixel}", "the message was cut off: drop it")
        pixel += int(numbers[at])
        run = int(numbers[at + 1])
        if pixel + run > valid.size or at + 2 + run > numbers.size:
            raise _error(
                image, f"RVL run of {run} at pixel {pixel} is too long", "it is damaged: drop it"
            )
        differences[pixel : pixel + run] = zigzag[at + 2 : at + 2 + run]
        valid[pixel : pixel + run] = True
        pixel, at = pixel + run, at + 2 + run
    depth = np.where(valid, np.cumsum(differences), 0) & 0xFFFF
    return depth.astype(np.uint16).reshape(height, width)


def _nibble_numbers(image: EncodedImage, words: bytes) -> NDArray[np.int64]:
    """All variable-length numbers of an RVL stream at once, int64 [n]."""
    high_first = np.frombuffer(words, "<u4").astype(">u4").view(np.uint8)
    nibbles = np.stack([high_first >> 4, high_first & 15], axis=1).ravel().astype(np.int64)
    last = np.flatnonzero(nibbles < 8)
    if last.size == 0:
        return np.empty(0, np.int64)
    nibbles = nibbles[: last[-1] + 1]
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(nibbles.size) - np.repeat(first, last - first + 1)
    if place.max() >= _MAX_VARINT_NIBBLES:
        raise _error(image, "an RVL number has no end", "the message is damaged: drop it")
    numbers: NDArray[np.int64] = np.add.reduceat((nibbles & 7) << (3 * place), first)
    return numbers


def _metres(depth_mm: NDArray[Any]) -> NDArray[np.float32]:
    depth_m: NDArray[np.float32] = depth_mm.astype(np.float32) / np.float32(1000)
    depth_m[depth_mm == 0] = np.nan
    return depth_m


def _positive(depth_m: NDArray[np.float32]) -> NDArray[np.float32]:
    """NaN for everything that cannot be a distance: ≤ 0, infinite."""
    depth_m[~((depth_m > 0) & np.isfinite(depth_m))] = np.nan
    return depth_m


# --- errors ----------------------------------------------------------------------------------


def _check_size(image: EncodedImage, width: int, height: int) -> None:
    if width <= 0 or height <= 0 or width * height > MAX_PIXELS:
        raise _error(
            image,
            f"a size of {width}x{height} is outside 1…{MAX_PIXELS} pixels",
            "the header is damaged or not filled in: correct the publisher",
        )


def _cv(
    image: EncodedImage, function: Callable[..., Any], array: NDArray[Any], argument: Any
) -> NDArray[Any]:
    """An OpenCV call whose complaints, and whose silent ``None``, become an `ImageError`."""
    try:
        result: NDArray[Any] | None = function(array, argument)
    except cv2.error as error:
        reason = " ".join(str(error).split())
        raise _error(image, f"OpenCV refuses it ({reason})", "drop it") from error
    if result is None:
        raise _error(image, "its pixels do not decode", "the message is damaged: drop it")
    return result


def _error(image: EncodedImage, what: str, todo: str) -> ImageError:
    kind = "compressed" if image.compressed else f"{image.width}x{image.height}, step {image.step}"
    where = f"image of encoding {image.encoding!r} ({kind}, {image.n_bytes} bytes)"
    return ImageError(f"{where}: {what}; {todo}")
