"""pip's entry: the metadata is in pyproject.toml, the data files are found here."""

from pathlib import Path

from setuptools import setup

SHARE = "share/rynn_brain_ros"

# The interface definitions travel with the package, so that bags with our messages can be written
# and read where no ROS is installed. Same place as in an ament install.
setup(
    data_files=[
        (SHARE, ["package.xml"]),
        *(
            (f"{SHARE}/{kind}", sorted(str(path) for path in Path(kind).glob(f"*.{kind}")))
            for kind in ("msg", "srv", "action")
        ),
    ]
)
