"""What people see: groundings drawn into pictures, as markers in space, and in a run report.

`draw` paints an answer's groundings into the frame they name, `marker_array` writes them as a
visualization_msgs/MarkerArray in plain dicts, `write_report` puts a whole run into one HTML file.
A grounding has the same colour and number in all three.
"""

from rynn_brain_ros.view.annotated import annotated_frames
from rynn_brain_ros.view.colors import PALETTE, REFUSED, Color, color_of
from rynn_brain_ros.view.markers import delete_all, marker_array
from rynn_brain_ros.view.overlay import draw
from rynn_brain_ros.view.publications import publications
from rynn_brain_ros.view.report import RunReport, write_report

__all__ = [
    "PALETTE",
    "REFUSED",
    "Color",
    "RunReport",
    "annotated_frames",
    "color_of",
    "delete_all",
    "draw",
    "marker_array",
    "publications",
    "write_report",
]
