"""pip's entry: metadata is in pyproject.toml, the interface definitions join the package here."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHARE = "share/rynn_brain_ros"
PACKAGED = Path("rynn_brain_ros") / "interfaces" / "msg"


class BuildWithInterfaces(build_py):
    """Copies msg/*.msg into the package that is built, so that bags with our messages can be
    written and read wherever it is installed. The sources keep one copy: in a checkout, and so in
    an editable install, they are found beside the package."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, target in self._interfaces().items():
                self.mkpath(str(Path(target).parent))
                self.copy_file(source, target, preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        added = [] if self.editable_mode else list(self._interfaces().values())
        return [*super().get_outputs(include_bytecode), *added]

    def _interfaces(self) -> dict[str, str]:
        """Where each definition is, and where it goes."""
        target = Path(self.build_lib) / PACKAGED
        return {str(path): str(target / path.name) for path in sorted(Path("msg").glob("*.msg"))}


# The rest lies where an ament install has it.
setup(
    cmdclass={"build_py": BuildWithInterfaces},
    data_files=[
        (SHARE, ["package.xml"]),
        *(
            (f"{SHARE}/{kind}", sorted(str(path) for path in Path(kind).glob(f"*.{kind}")))
            for kind in ("srv", "action")
        ),
        (
            f"{SHARE}/config/robots",
            sorted(str(path) for path in Path("config/robots").glob("*.yaml")),
        ),
        (
            f"{SHARE}/config/contracts",
            sorted(str(path) for path in Path("config/contracts").glob("*.yaml")),
        ),
    ],
)
