"""Memory: what the cameras saw, for how long, and which of it a question shows.

`FrameAssembler` turns streams into frames, `KeyframeDetector` looks at each once, `FrameBuffer`
remembers them within bounds of time and bytes, `select_frames` freezes some of them into the
`FrameSet` of one question. `decode_color` and `decode_depth` open the pixels, late and only where
somebody needs them.
"""

from rynn_brain_ros.memory.assembly import (
    AssemblyConfig,
    AssemblyStats,
    FrameAssembler,
    PoseSource,
)
from rynn_brain_ros.memory.buffer import (
    BufferEvent,
    BufferLimits,
    BufferStats,
    CameraStats,
    DropReason,
    FrameBuffer,
)
from rynn_brain_ros.memory.images import (
    canonical,
    decode_color,
    decode_depth,
    image_size,
    select,
    thumbnail,
)
from rynn_brain_ros.memory.keyframes import FrameLook, KeyframeConfig, KeyframeDetector
from rynn_brain_ros.memory.opening import OpenFrames, depth_view, frame_defects
from rynn_brain_ros.memory.selection import (
    KeyframeWindow,
    SelectionKind,
    SelectionPolicy,
    latest_k,
    select_frames,
    uniform,
)

__all__ = [
    "AssemblyConfig",
    "AssemblyStats",
    "BufferEvent",
    "BufferLimits",
    "BufferStats",
    "CameraStats",
    "DropReason",
    "FrameAssembler",
    "FrameBuffer",
    "FrameLook",
    "KeyframeConfig",
    "KeyframeDetector",
    "KeyframeWindow",
    "OpenFrames",
    "PoseSource",
    "SelectionKind",
    "SelectionPolicy",
    "canonical",
    "decode_color",
    "decode_depth",
    "depth_view",
    "frame_defects",
    "image_size",
    "latest_k",
    "select",
    "select_frames",
    "thumbnail",
    "uniform",
]
