"""pip's entry: metadata is in pyproject.toml, files from beside the package join it here."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHARE = "share/rynn_brain_ros"
PACKAGED = {
    "msg/*.msg": "rynn_brain_ros/interfaces/msg",
    "config/robots/*.yaml": "rynn_brain_ros/known/robots",
    "config/contracts/*.yaml": "rynn_brain_ros/known/contracts",
}


class BuildWithFiles(build_py):
    """Copies the messages' definitions, the robots' profiles and the contracts into the package
    that is built, so that they are found wherever it is installed. The sources keep one copy: in a
    checkout, and so in an editable install, they are found beside the package."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, target in self._copies().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target, preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        added = [] if self.editable_mode else list(self._copies().values())
        return [*super().get_outputs(include_bytecode), *added]

    def _copies(self) -> dict[str, str]:
        """Where each file is, and where it goes."""
        return {
            str(path): str(Path(self.build_lib) / folder / path.name)
            for pattern, folder in PACKAGED.items()
            for path in sorted(Path().glob(pattern))
        }


# The rest lies where an ament install has it.
setup(
    cmdclass={"build_py": BuildWithFiles},
    data_files=[
        (SHARE, ["package.xml"]),
        *(
            (f"{SHARE}/{kind}", sorted(str(path) for path in Path(kind).glob(f"*.{kind}")))
            for kind in ("srv", "action")
        ),
    ],
)
