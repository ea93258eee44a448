"""Geometry: camera models, the transform tree, lifting pixels to metres, grasps and places.

Everything here is a pure function or a frozen value, except `TransformBuffer`. What cannot be
known is a `Refusal` with a name; what cannot be meant (a quaternion of no length, an unknown
encoding) is an error.
"""

from rynn_brain_ros.geometry.camera import (
    IntrinsicsError,
    PinholeCamera,
    camera_or_refusal,
    norm_to_pixel,
    pixel_to_norm,
    ray_grid,
)
from rynn_brain_ros.geometry.depth import DepthNoise, DepthView, register_depth
from rynn_brain_ros.geometry.grasping import Grasp, GraspLimits, grasp_at
from rynn_brain_ros.geometry.heights import Capsule
from rynn_brain_ros.geometry.lifting import (
    Bounds,
    LiftedArea,
    LiftLimits,
    Segment,
    lift_area,
    lift_box,
    lift_point,
    lift_points,
    lift_trajectory,
    segment_at,
    to_fixed,
)
from rynn_brain_ros.geometry.placing import PlaceKind, Placement, placement_at
from rynn_brain_ros.geometry.refilling import placement_again
from rynn_brain_ros.geometry.solids import Solid, SolidKind, fit_solid
from rynn_brain_ros.geometry.things import StandingThing, thing_at
from rynn_brain_ros.geometry.transforms import (
    ClockReset,
    TransformBuffer,
    apart,
    apply,
    compose,
    continuous_frame,
    from_matrix,
    invert,
    optical_frame_refusal,
    to_matrix,
)

__all__ = [
    "Bounds",
    "Capsule",
    "DepthNoise",
    "DepthView",
    "Grasp",
    "GraspLimits",
    "IntrinsicsError",
    "LiftLimits",
    "LiftedArea",
    "PinholeCamera",
    "PlaceKind",
    "Placement",
    "Segment",
    "Solid",
    "SolidKind",
    "StandingThing",
    "ClockReset",
    "TransformBuffer",
    "apart",
    "apply",
    "camera_or_refusal",
    "compose",
    "continuous_frame",
    "fit_solid",
    "from_matrix",
    "grasp_at",
    "invert",
    "lift_area",
    "lift_box",
    "lift_point",
    "lift_points",
    "lift_trajectory",
    "norm_to_pixel",
    "optical_frame_refusal",
    "pixel_to_norm",
    "placement_again",
    "placement_at",
    "ray_grid",
    "register_depth",
    "segment_at",
    "thing_at",
    "to_fixed",
    "to_matrix",
]
