"""rynn_brain_ros: an embodied brain for ROS 2 robots."""

from pkgutil import extend_path

# ROS installs the generated msg/, srv/ and action/ modules under the same name, possibly in
# another directory: both must be found, whichever comes first on sys.path.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"
