"""``rynn-brain doctor``: one page, whatever is missing or broken on the machine."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from rynn_brain_ros.checking import machine
from rynn_brain_ros.checking.found_models import find_models
from rynn_brain_ros.checking.machine import Fact, Ran, Survey, run_program, survey
from rynn_brain_ros.cli import main
from rynn_brain_ros.extras import pip_install

NANO = Path(machine.__file__).parents[1] / "models" / "nano" / "RynnBrain-nano"
TOPICS = """/camera/color/image_raw [sensor_msgs/msg/Image]
/camera/depth/image_rect_raw [sensor_msgs/msg/Image]
/rosout [rcl_interfaces/msg/Log]
"""
_GPU = '["H200", 140000000000, 150000000000, [9, 0]]'
H200 = f'{{"version": "2.9.0+cu128", "cuda": "12.8", "gpus": [{_GPU}]}}'


class Programs:
    """What torch, nvidia-smi and ros2 say on some machine; what it has not cannot be run."""

    def __init__(self, **said: Ran) -> None:
        self.said, self.asked = said, list[str]()

    def __call__(self, command: Sequence[str], timeout_s: float) -> Ran:
        name = "torch" if command[0] == sys.executable else command[0].replace("-", "_")
        self.asked.append(name)
        return self.said.get(name, Ran(-1, "", "No such file or directory"))


@pytest.fixture
def with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose packages are all installed, as far as their metadata tell."""
    monkeypatch.setattr(machine, "_version", lambda package: "1.2.3")


def look(tmp_path: Path, programs: Programs, *folders: Path, **environ: str) -> Survey:
    return survey(folders, environ={"HOME": str(tmp_path), **environ}, run=programs)


def fact(found: Survey, name: str) -> Fact:
    (one,) = [fact for fact in found.facts if fact.name == name]
    return one


def test_this_machine_gets_a_page(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor"]) == 0
    page = capsys.readouterr().out
    for name in ("Python", "ROS", "GPU", "torch", "memory", "disk here", "models", "next:"):
        assert name in page


def test_json_holds_the_whole_page(capsys: pytest.CaptureFixture[str]):
    assert main(["doctor", "--json"]) == 0
    page = json.loads(capsys.readouterr().out)
    assert set(page) == {"facts", "gpus", "models", "cameras", "commands"}
    assert page["commands"]


def test_nothing_heavy_is_imported():
    code = (
        "import sys; from rynn_brain_ros.checking.machine import survey; survey(); "
        "print(sorted({'torch', 'transformers', 'mujoco', 'rclpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.usefixtures("with_torch")
def test_a_broken_torch_is_a_line_of_the_page(tmp_path: Path):
    broken = Ran(1, "", "Traceback …\nOSError: libcudnn.so.9: cannot open shared object file\n")
    torch = fact(look(tmp_path, Programs(torch=broken)), "torch")
    assert torch.has is False
    assert torch.text.endswith(
        "does not work: OSError: libcudnn.so.9: cannot open shared object file"
    )


@pytest.mark.usefixtures("with_torch")
@pytest.mark.parametrize("said", [Ran(0, "garbage"), Ran(-1, "", "no answer within 90 s")])
def test_a_torch_that_says_nothing_useful_does_not_work(tmp_path: Path, said: Ran):
    assert fact(look(tmp_path, Programs(torch=said)), "torch").has is False


@pytest.mark.usefixtures("with_torch")
def test_a_gpu_is_told_with_its_memory(tmp_path: Path):
    found = look(tmp_path, Programs(torch=Ran(0, H200)))
    assert fact(found, "GPU").text == "H200, 130.4 GiB of 139.7 GiB free"
    assert fact(found, "torch").text == "2.9.0+cu128, CUDA 12.8"


@pytest.mark.usefixtures("with_torch")
def test_of_a_gpu_that_shares_main_memory_that_is_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(machine, "available_bytes", lambda: 20 << 30)
    told = ["Orin", 1 << 30, 32 << 30, [8, 7], True]
    orin = {"version": "2.9.0", "cuda": "12.6", "gpus": [told]}
    found = look(tmp_path, Programs(torch=Ran(0, json.dumps(orin))))
    text = "Orin, 20.0 GiB of 32.0 GiB free (main memory, which the GPU shares)"
    assert fact(found, "GPU").text == text


@pytest.mark.usefixtures("with_torch")
def test_a_gpu_that_torch_cannot_use_is_named_with_the_remedy(tmp_path: Path):
    cpu = Ran(0, '{"version": "2.9.0+cpu", "cuda": "", "gpus": []}')
    smi = Ran(0, "NVIDIA GeForce RTX 4090, 23000, 24564\n[N/A], [N/A], [N/A]\n")
    gpu = fact(look(tmp_path, Programs(torch=cpu, nvidia_smi=smi)), "GPU")
    assert gpu.text.startswith("NVIDIA GeForce RTX 4090, 22.5 GiB of 24.0 GiB free; torch cannot")
    assert (gpu.has, gpu.todo) == (False, "install torch for CUDA")


@pytest.fixture
def with_ros(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sourced workspace, in which this package was built."""
    monkeypatch.setattr(machine, "_importable", lambda module: True)


def proposed(tmp_path: Path, *topics: str) -> tuple[dict[str, str], Survey]:
    """Arguments of the launch line that a page with these topics begins with."""
    kinds = {"camera_info": "CameraInfo", "compressed": "CompressedImage"}
    kinds |= {"compressedDepth": "CompressedImage", "points": "PointCloud2"}
    lines = [f"{t} [sensor_msgs/msg/{kinds.get(t.rpartition('/')[2], 'Image')}]" for t in topics]
    found = look(tmp_path, Programs(ros2=Ran(0, "\n".join(lines))), ROS_DISTRO="jazzy")
    *command, file = found.commands[0].split()[:4]
    assert (command, file) == (["ros2", "launch", "rynn_brain_ros"], "brain.launch.py")
    given = (word.partition(":=") for word in found.commands[0].split()[4:])
    return {name: value for name, _, value in given}, found


REALSENSE = (
    "/camera/camera/aligned_depth_to_color/camera_info",
    "/camera/camera/aligned_depth_to_color/image_raw",
    "/camera/camera/aligned_depth_to_color/image_raw/compressed",
    "/camera/camera/aligned_depth_to_color/image_raw/compressedDepth",
    "/camera/camera/color/camera_info",
    "/camera/camera/color/image_raw",
    "/camera/camera/color/image_raw/compressed",
    "/camera/camera/color/image_raw/compressedDepth",
    "/camera/camera/depth/camera_info",
    "/camera/camera/depth/image_rect_raw",
    "/camera/camera/infra1/camera_info",
    "/camera/camera/infra1/image_rect_raw",
    "/view/annotated",
    "/view/annotated/compressed",
)
OAK = (
    "/oak/rgb/camera_info",
    "/oak/rgb/image_raw",
    "/oak/rgb/image_raw/compressed",
    "/oak/rgb/image_raw/compressedDepth",
    "/oak/stereo/camera_info",
    "/oak/stereo/image_raw",
    "/oak/stereo/image_raw/compressed",
    "/oak/stereo/image_raw/compressedDepth",
)
ORBBEC = (
    "/camera/color/camera_info",
    "/camera/color/image_raw",
    "/camera/depth/camera_info",
    "/camera/depth/image_raw",
    "/camera/left_ir/camera_info",
    "/camera/left_ir/image_raw",
)
ZED = (
    "/zed/zed_node/depth/camera_info",
    "/zed/zed_node/depth/depth_registered",
    "/zed/zed_node/left/color/rect/camera_info",
    "/zed/zed_node/left/color/rect/image",
    "/zed/zed_node/rgb/color/rect/camera_info",
    "/zed/zed_node/rgb/color/rect/image",
    "/zed/zed_node/rgb/color/rect/image/compressed",
)


@pytest.mark.usefixtures("with_ros")
def test_camera_topics_lead_to_the_command_that_uses_colour_and_its_aligned_depth(tmp_path: Path):
    given, found = proposed(tmp_path, *REALSENSE)
    assert given == {
        "color_topic": "/camera/camera/color/image_raw",
        "depth_topic": "/camera/camera/aligned_depth_to_color/image_raw",
    }
    assert [topic for topic, _ in found.cameras] == [
        topic for topic in REALSENSE if not topic.endswith("camera_info")
    ]
    assert fact(found, "ROS").text == "jazzy"
    assert fact(found, "depth").has


@pytest.mark.usefixtures("with_ros")
@pytest.mark.parametrize(
    ("topics", "color", "depth"),
    [
        (("/a/image_raw", *REALSENSE), "/camera/camera/color/image_raw",
         "/camera/camera/aligned_depth_to_color/image_raw"),
        (("/c/depth_registered/image_raw", "/c/ir/image_raw", "/c/rgb/image_raw"),
         "/c/rgb/image_raw", "/c/depth_registered/image_raw"),
        (("/c/left_ir/image_raw", "/c/image_raw/compressed"), "/c/image_raw/compressed", None),
        (OAK, "/oak/rgb/image_raw", "/oak/stereo/image_raw"),
        (ORBBEC, "/camera/color/image_raw", "/camera/depth/image_raw"),
        (ZED, "/zed/zed_node/rgb/color/rect/image", "/zed/zed_node/depth/depth_registered"),
        (("/mirror/image_raw",), "/mirror/image_raw", None),
    ],
)  # fmt: skip
def test_of_several_images_the_coloured_one_is_watched(
    tmp_path: Path, topics: tuple[str, ...], color: str, depth: str | None
):
    given, _ = proposed(tmp_path, *topics)
    assert (given.get("color_topic"), given.get("depth_topic")) == (color, depth)


@pytest.mark.usefixtures("with_ros")
def test_depth_that_nothing_calls_aligned_is_used_with_the_camera_info_beside_it(tmp_path: Path):
    topics = [topic for topic in REALSENSE if "aligned" not in topic]
    given, found = proposed(tmp_path, *topics)
    assert given == {
        "color_topic": "/camera/camera/color/image_raw",
        "depth_topic": "/camera/camera/depth/image_rect_raw",
    }
    depth = fact(found, "depth")
    assert depth.has is True
    assert "placed by the camera_info beside it where it is not aligned" in depth.text
    assert "align_depth.enable:=true" in depth.todo


@pytest.mark.usefixtures("with_ros")
def test_depth_that_nothing_places_is_told_and_left_to_a_person(tmp_path: Path):
    depth_info = "/camera/camera/depth/camera_info"
    topics = [topic for topic in REALSENSE if "aligned" not in topic and topic != depth_info]
    given, found = proposed(tmp_path, *topics)
    assert given == {"color_topic": "/camera/camera/color/image_raw"}
    depth = fact(found, "depth")
    assert depth.has is False
    assert "align_depth.enable:=true" in depth.todo
    assert "depth_topic:=/camera/camera/depth/image_rect_raw, with its own" in depth.todo


@pytest.mark.usefixtures("with_ros")
def test_infrared_alone_starts_nothing(tmp_path: Path):
    seen = Ran(0, "/camera/camera/infra1/image_rect_raw [sensor_msgs/msg/Image]\n")
    commands = look(tmp_path, Programs(ros2=seen), ROS_DISTRO="jazzy").commands
    assert not any("color_topic" in command for command in commands)


def test_with_cameras_and_no_messages_built_the_build_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(machine, "_importable", lambda module: module == "rclpy")
    found = look(tmp_path, Programs(ros2=Ran(0, TOPICS)), ROS_DISTRO="jazzy")
    assert fact(found, "rynn_brain_ros.msg").has is False
    assert found.commands[0].startswith("colcon build")


def test_a_ros_whose_tools_fail_is_told(tmp_path: Path):
    found = look(tmp_path, Programs(ros2=Ran(1, "", "rmw not found\n")), ROS_DISTRO="jazzy")
    assert fact(found, "topics").text == "ros2 topic list failed: rmw not found"


def test_without_ros_nobody_asks_for_topics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "_importable", lambda module: False)
    programs = Programs(ros2=Ran(0, TOPICS))
    assert look(tmp_path, programs).cameras == ()
    assert "ros2" not in programs.asked


def test_a_program_that_hangs_or_is_not_there_is_a_result():
    hung = run_program((sys.executable, "-c", "import time; time.sleep(60)"), 0.2)
    assert (hung.code, hung.error) == (-1, "no answer within 0.2 s")
    missing = run_program(("no-such-program-anywhere",), 5.0)
    assert missing.code == -1
    assert "No such file" in missing.error
    assert run_program((sys.executable, "-c", "print(3)"), 30.0) == Ran(0, "3\n")


# --- models ---------------------------------------------------------------------------------------


def test_a_folder_that_is_no_model_says_why_and_the_page_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    assert main(["doctor", str(tmp_path), str(tmp_path / "nowhere")]) == 2
    page = capsys.readouterr().out
    assert "✗" in page
    assert str(tmp_path / "broken" / "config.json") in page
    assert f"no model directory {tmp_path / 'nowhere'}" in page


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model as it would lie in the Hugging Face cache."""
    pytest.importorskip("torch")
    sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
    try:
        from tiny_models import build  # noqa: PLC0415
    finally:
        sys.path.pop(0)
    made = build("qwen3_vl", tmp_path_factory.mktemp("made"))
    home = tmp_path_factory.mktemp("home")
    repository = home / ".cache/huggingface/hub/models--Alibaba-DAMO-Academy--RynnBrain-2B"
    shutil.copytree(made, repository / "snapshots" / "0123abc")
    return home


def test_a_model_in_the_cache_is_found_with_what_fits(tiny: Path):
    (model,) = find_models((), {"HOME": str(tiny)}, 1 << 40, None)
    assert (model.name, model.profile, model.problem) == ("RynnBrain-2B", "RynnBrain-2B", "")
    assert model.roles == ("ground",)
    assert model.fits_in == ("none", "int8", "nf4")
    assert model.spelling == f"local:{model.path}"


def test_what_fits_is_what_the_engine_would_load():
    (nano,) = find_models((NANO,), {}, 1 << 40, None)
    assert nano.fits_in == ("none", "int8")  # its layers are too narrow for nf4
    (nano,) = find_models((NANO,), {}, 1 << 40, (8, 0))
    assert "fp8" not in nano.fits_in


@pytest.mark.usefixtures("with_torch")
def test_a_model_that_fits_leads_to_questions_of_its_roles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(machine, "missing_packages", tuple)
    cpu = Ran(0, '{"version": "2.9.0+cpu", "cuda": "", "gpus": []}')
    commands = look(tmp_path, Programs(torch=cpu), NANO.parent).commands
    assert [command.split()[:2] for command in commands] == [
        *(["rynn-brain", "replay"], ["rynn-brain", "replay"], ["rynn-brain", "demo"])
    ]
    assert f"--engine local:{NANO} --task affordance" in commands[0]
    assert "--task plan" in commands[1]
    (tmp_path / "my models").symlink_to(NANO.parent)
    spaced = look(tmp_path, Programs(torch=cpu), tmp_path / "my models").commands
    assert f"local:{tmp_path / 'my models' / NANO.name}" in shlex.split(spaced[0])


def test_without_torch_the_next_command_is_one_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(machine, "_version", {"mujoco": "4.0.0"}.get)
    assert look(tmp_path, Programs(), NANO.parent).commands == (
        pip_install("model"),
        "rynn-brain demo --engine color-baseline",
    )


@pytest.mark.usefixtures("with_ros")
def test_the_command_is_called_as_it_can_be_called_here(tmp_path: Path):
    """colcon installs it where `ros2 run` alone looks, unless an environment has it too."""
    program = tmp_path / "bin" / "rynn-brain"
    program.parent.mkdir()
    program.touch(0o755)
    demo = "rynn-brain demo"
    for environ, called in (
        ({"ROS_DISTRO": "jazzy", "PATH": str(tmp_path)}, f"ros2 run rynn_brain_ros {demo}"),
        ({"ROS_DISTRO": "jazzy", "PATH": str(program.parent)}, demo),
        ({}, demo),
    ):
        last = look(tmp_path, Programs(), **environ).commands[-1]
        assert called in last.removeprefix(f"{pip_install('sim')} && ").split(" --engine")


def test_a_model_that_does_not_fit_says_so(tiny: Path):
    (model,) = find_models((), {"HOME": str(tiny)}, 1000, None)
    assert model.fits_in == ()
