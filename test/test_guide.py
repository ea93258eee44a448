"""docs/guide.md, the Dockerfile, the workflows and the SROS2 policy: what they name exists.

None of them can be run by these tests; names that went stale are the way in which they break.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from rynn_brain_ros.actuators.profile import RobotProfile, profile_names, read_profile
from rynn_brain_ros.actuators.settings import ActConfig
from rynn_brain_ros.checking.live_cameras import best_camera
from rynn_brain_ros.cli import _parser
from rynn_brain_ros.config import BrainConfig, CameraConfig, configure, settings
from rynn_brain_ros.data.contract import Contract, Feature
from rynn_brain_ros.data.known_contracts import find_contract
from rynn_brain_ros.data.marks import MarkEvent
from rynn_brain_ros.data.record_config import RecordConfig
from rynn_brain_ros.data.recording_session import channels
from rynn_brain_ros.messages import CAMERA_INFO, IMAGE
from rynn_brain_ros.sim.sensing import CameraStream
from rynn_brain_ros.values import Cause, RefusalCode
from rynn_brain_ros.vla.settings import PolicyConfig

REPOSITORY = Path(__file__).resolve().parent.parent
GUIDE = (REPOSITORY / "docs" / "guide.md").read_text(encoding="utf-8")
ROS = REPOSITORY / "rynn_brain_ros" / "ros"
NODES = ("brain", "act", "policy", "view", "record", "sim")


# --- the guide -----------------------------------------------------------------------------------


def fenced(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


def commands() -> Iterator[list[str]]:
    """Words of each command line in the guide, comments taken away."""
    for block in fenced("bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


def commands_of(*beginning: str) -> list[list[str]]:
    found = [words for words in commands() if words[: len(beginning)] == list(beginning)]
    assert found, f"the guide has no {' '.join(beginning)}"
    return found


def launch_arguments(file: Path) -> set[str]:
    """Keys of the dicts that a launch file declares its arguments from."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            (target,) = node.targets
            if isinstance(target, ast.Name) and target.id in ("ARGUMENTS", "OVERRIDES", "SWITCHES"):
                names |= {key.value for key in node.value.keys if isinstance(key, ast.Constant)}
    return names


def test_launch_files_have_the_arguments_that_the_guide_gives():
    for words in commands_of("ros2", "launch", "rynn_brain_ros"):
        known = launch_arguments(REPOSITORY / "launch" / words[3])
        given = {word.split(":=")[0] for word in words[4:]}
        assert given <= known, words


CAMERAS = GUIDE[GUIDE.index("### Which camera") : GUIDE.index("## Cameras without")]


@pytest.mark.parametrize("file", ["brain.launch.py", "act.launch.py"])
def test_launch_files_have_the_arguments_that_the_table_of_cameras_gives(file: str):
    rows = re.findall(r"^\| [\w-]+ \|.*\| `([^`]+:=[^`]+)` \|$", CAMERAS, re.MULTILINE)
    given = {word.split(":=")[0] for row in rows for word in row.split()}
    assert len(rows) == 4
    assert given == {"camera", "color_topic", "depth_topic"}
    assert given <= launch_arguments(REPOSITORY / "launch" / file)


def test_topics_in_the_table_of_cameras_are_one_camera_with_depth():
    pairs = re.findall(r"color_topic:=(\S+) depth_topic:=([^\s`]+)", CAMERAS)
    assert len(pairs) == 3
    for pair in pairs:
        infos = [(f"{topic.rpartition('/')[0]}/camera_info", CAMERA_INFO) for topic in pair]
        found = best_camera([*((topic, IMAGE) for topic in pair), *infos])
        assert found is not None and found.can_lift
        assert (found.color_topic, found.depth_topic) == pair


def test_foxgloves_camera_is_the_one_that_the_guide_says():
    layout = (REPOSITORY / "config" / "foxglove.json").read_text(encoding="utf-8")
    named = set(re.findall(r'"(/camera/\w+/)\w+', layout))
    assert named == {f"{name}/" for name in re.findall(r"`(/camera/\w+)/…`", CAMERAS)}


def test_the_command_line_understands_what_the_guide_types():
    for words in commands_of("rynn-brain"):
        _parser().parse_args(words[1:])


def test_every_interface_that_is_called_exists():
    called = {
        word
        for words in commands()
        for word in words
        if re.match(r"rynn_brain_ros/(srv|action)/", word)
    }
    assert called
    for name in called:
        _, kind, type_ = name.split("/")
        assert (REPOSITORY / kind / f"{type_}.{kind}").is_file(), name


def test_requests_name_fields_that_there_are():
    for words in commands():
        for i, word in enumerate(words[:-1]):
            if re.match(r"rynn_brain_ros/(srv|action)/", word):
                _, kind, type_ = word.split("/")
                text = (REPOSITORY / kind / f"{type_}.{kind}").read_text(encoding="utf-8")
                fields = re.findall(r"^\w\S* (\w+)\s", text.split("---")[0], re.MULTILINE)
                assert set(yaml.safe_load(words[i + 1])) <= set(fields), words


def test_its_cameras_are_parameters_of_the_brain():
    (block,) = fenced("yaml")
    given = yaml.safe_load(block)["/**/brain"]["ros__parameters"]
    for name in given["cameras"].split(","):
        configure(CameraConfig, given.pop(name.strip()))
    configure(BrainConfig, given)


def test_parameters_in_words_exist():
    """Everything in backticks that looks like one of our parameters is one."""
    profiles = {key for name in profile_names() for key in profile_keys(read_profile(name))}
    brain, act = (({item.name for item in settings(kind)}) for kind in (BrainConfig, ActConfig))
    for name in (
        *("sync_tolerance_s", "depth_info_topic", "color_info_topic", "buffer_mib"),
        *("engine_python", "max_frame_age_s", "depth_topic"),
    ):
        assert f"`{name}`" in GUIDE and name in brain
    for name in ("require_approval", "engine_verdict", "armed_s", "approval_s", "dry_run"):
        assert f"`{name}" in GUIDE and name in act
    for name in (
        *("base_frame", "tool_frame", "links", "group", "link", "joints", "tool_offset_m"),
        *("tool_turn_deg", "postures", "move_action", "cartesian_service", "execute_action"),
        *("stop_topic", "kind", "action", "position_per_width", "max_width_m", "stop_type"),
        *("max_sigma_m", "min_confidence"),
    ):
        assert f"`{name}`" in GUIDE and name in profiles


def profile_keys(profile: RobotProfile) -> Iterator[str]:
    for part in parts(profile):
        yield from (item.name for item in settings(type(part)))
    yield from (item.name for item in settings(type(profile.limits)))


def parts(profile: RobotProfile) -> list[object]:
    return [p for p in (profile.arm, profile.gripper, profile.base) if p is not None]


def test_troubleshooting_knows_every_refusal_and_every_end():
    tables = GUIDE[GUIDE.index("## Troubleshooting") :]
    said = set(re.findall(r"`([a-z_]+)`", tables))
    elsewhere = {RefusalCode.NOT_SPATIAL.value, RefusalCode.TOO_FAST.value}
    elsewhere |= {RefusalCode.TOO_STRONG.value, RefusalCode.ENGINE_FAILED.value, Cause.DONE.value}
    wanted = {code.value for code in RefusalCode} | {cause.value for cause in Cause}
    assert wanted - elsewhere <= said


MESSAGES = (
    "no image has arrived on",
    "is the camera publishing?",
    "nothing comes from",
    "and this node asks",
    "the newest image on",
    "no camera_info had arrived for",
    "the brain is not active: activate it first",
    "cannot configure: ",
    "does not run in ROS's own Python",
    "no server at",
    "is not known here (",
    "busy with",
    "is gone: did it crash, or is the network down?",
    "the clock jumped back by",
)


@pytest.mark.parametrize("text", MESSAGES)
def test_messages_that_the_guide_quotes_are_in_the_code(text: str):
    code = "".join(
        path.read_text(encoding="utf-8") for path in (REPOSITORY / "rynn_brain_ros").rglob("*.py")
    )
    assert text in GUIDE
    assert text in code


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", GUIDE):
        assert (REPOSITORY / "docs" / target).exists(), target
    headings = re.findall(r"^#+ (.+)$", GUIDE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", GUIDE)) <= anchors


# --- containers and workflows --------------------------------------------------------------------

WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yaml"))
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")


def runs(workflow: Path) -> str:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"].values()
    return "\n".join(step["run"] for job in jobs for step in job["steps"] if "run" in step)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_parses_and_says_that_it_was_not_run(workflow: Path):
    assert yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    assert "# Not run here" in workflow.read_text(encoding="utf-8")


def test_scripts_that_are_run_exist_and_can_be():
    texts = [DOCKERFILE, *map(runs, WORKFLOWS)]
    scripts = {name for text in texts for name in re.findall(r"\bscripts/\w+", text)}
    assert scripts == {"scripts/test", "scripts/test_ros"}
    for name in scripts:
        assert (REPOSITORY / name).stat().st_mode & 0o100, name


def test_workflows_build_stages_that_the_dockerfile_has():
    stages = set(re.findall(r"^FROM \S+ AS (\w+)$", DOCKERFILE, re.MULTILINE))
    built = re.findall(r"--target (\w+)", runs(REPOSITORY / ".github/workflows/ros.yaml"))
    assert set(built) == {"test", "run"} <= stages
    assert "# The package on an official ROS 2 image. Not run here" in DOCKERFILE


def test_the_image_installs_what_the_readme_asks_for():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (wanted,) = re.findall(r"^pip install (.+?)\s+# what rosdep", readme, re.MULTILINE)
    (given,) = re.findall(r"pip install (pyquaternion .+?) \\", DOCKERFILE)
    assert given.split() == wanted.split()


def test_what_is_copied_exists():
    for source in re.findall(r"^COPY (\S+) ", DOCKERFILE, re.MULTILINE):
        assert (REPOSITORY / source).exists()


# --- SROS2 ---------------------------------------------------------------------------------------

POLICY = ElementTree.parse(REPOSITORY / "config" / "sros2" / "policy.xml").getroot()
COMMON = ("/rosout", "/parameter_events", "/clock")


def allowed(node: str, what: str, how: str) -> set[str]:
    """Names of an enclave: ``what`` is topics, services or actions, ``how`` the attribute."""
    names = POLICY.findall(f".//profile[@node='{node}']/{what}[@{how}='ALLOW']/{what[:-1]}")
    return {str(name.text) for name in names} - set(COMMON)


def own(node: str, names: Iterable[str]) -> set[str]:
    return {name for name in names if name.startswith(f"/{node}/")}


def constants() -> dict[str, str]:
    """Topic names that the nodes' tables of publishers are keyed by."""
    found: dict[str, str] = {}
    for name in ("view/publications", "view/turn_messages", "ros/telling", "ros/answering"):
        tree = ast.parse((ROS.parent / f"{name}.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Assign):
                (target,) = node.targets
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                for key, value in zip(names, values, strict=False):
                    if isinstance(key, ast.Name) and isinstance(value, ast.Constant):
                        found[key.id] = str(value.value)
    return found


def code_of(node: str) -> ast.Module:
    """With what brain and act share."""
    names = [f"{node}_node", *(["seeing_node"] if node in ("brain", "act") else [])]
    return ast.parse("\n".join((ROS / f"{name}.py").read_text(encoding="utf-8") for name in names))


def endpoints(node: str, call: str) -> set[str]:
    """Names with ~ that the node's source gives to ``call``."""
    found = set()
    for each in ast.walk(code_of(node)):
        if isinstance(each, ast.Call) and ast.unparse(each.func).split(".")[-1] == call:
            texts = [a.value for a in each.args if isinstance(a, ast.Constant)]
            found |= {str(text).replace("~", f"/{node}") for text in texts if str(text)[:1] == "~"}
    return found


def table_of_publishers(node: str) -> set[str]:
    for each in code_of(node).body:
        if isinstance(each, ast.Assign) and ast.unparse(each.targets[0]) == "_CLASSES":
            assert isinstance(each.value, ast.Dict)
            known = constants()
            return {f"/{node}/{known[ast.unparse(k)]}" for k in each.value.keys if k is not None}
    return set()


def profile_names_of(ending: str) -> set[str]:
    """Values of all settings of the shipped profiles whose name ends so; not empty ones."""
    found = set()
    for name in profile_names():
        for part in parts(read_profile(name)):
            for item in settings(type(part)):
                if f"_{item.name}".endswith(ending) and getattr(part, item.name):
                    found.add(f"/{getattr(part, item.name)}")
    return found


def test_there_is_an_enclave_for_each_node_and_no_other():
    assert [e.get("path") for e in POLICY.findall(".//enclave")] == [f"/{n}" for n in NODES]
    assert [p.get("node") for p in POLICY.findall(".//profile")] == list(NODES)


def default_contract() -> Contract:
    return find_contract(PolicyConfig().contract)


def topics_of(features: Iterable[Feature]) -> set[str]:
    return {source.channel.topic for feature in features for source in feature.sources}


def commanded() -> set[str]:
    return topics_of(default_contract().actions)


@pytest.mark.parametrize("node", ["brain", "act", "policy", "record"])
def test_a_node_may_publish_what_its_source_publishes(node: str):
    published = table_of_publishers(node) | endpoints(node, "create_lifecycle_publisher")
    if node == "act":
        servers = profile_names_of("_action") | profile_names_of("_service")
        published |= {f"/act/preview{server}" for server in servers}
    if node == "policy":
        published |= {f"/policy/preview{topic}" for topic in commanded()}
    wanted = published | {f"/{node}/transition_event"}
    assert own(node, allowed(node, "topics", "publish")) == wanted
    assert "/diagnostics" in allowed(node, "topics", "publish")


@pytest.mark.parametrize("node", ["brain", "act", "policy"])
def test_a_node_may_serve_and_hear_what_its_source_does(node: str):
    served = own(node, allowed(node, "services", "reply"))
    life = {f"/{node}/{name}" for name in ("get_state", "change_state", "get_parameters")}
    assert endpoints(node, "create_service") | life <= served
    assert endpoints(node, "create_subscription") == own(node, allowed(node, "topics", "subscribe"))
    assert endpoints(node, "ActionServer") == allowed(node, "actions", "execute")


def test_only_act_may_call_the_robots_servers_and_those_of_the_profiles():
    assert allowed("act", "actions", "call") == profile_names_of("_action")
    assert allowed("act", "services", "request") == profile_names_of("_service")
    assert profile_names_of("_stop_topic") <= allowed("act", "topics", "publish")
    for node in set(NODES) - {"act"}:
        assert not allowed(node, "actions", "call")
        assert not allowed(node, "services", "request")


def test_only_the_policy_may_publish_its_contracts_commands_and_it_hears_what_that_observes():
    for node in NODES:
        assert commanded().isdisjoint(allowed(node, "topics", "publish")) == (node != "policy")
    heard, contract = allowed("policy", "topics", "subscribe"), default_contract()
    assert topics_of(contract.observations) < heard
    assert {contract.conditioning.plan, contract.conditioning.groundings} < heard


def test_view_hears_and_publishes_what_its_source_does():
    heard = {f"/{n}/{t}" for n in ("brain", "act") for t in ("groundings", "plan", "status")}
    assert heard < allowed("view", "topics", "subscribe")
    source = ast.unparse(code_of("view"))
    for topic in own("view", allowed("view", "topics", "publish")) - {"/view/transition_event"}:
        name = topic.removeprefix("/view/").removesuffix("/compressed")
        assert f"'{name}'" in source or f"'~/{name}'" in source


def test_the_recorder_hears_its_default_contract_and_a_joystick_and_serves_every_mark():
    config = RecordConfig()
    heard = {*channels(find_contract(config.contract)), f"/{config.joy_topic}"}
    assert allowed("record", "topics", "subscribe") == heard
    served = allowed("record", "services", "reply")
    assert {f"/record/{event.value}" for event in MarkEvent} <= served
    life = {f"/record/{name}" for name in ("get_state", "change_state", "get_parameters")}
    assert endpoints("record", "create_service") | life <= served


def test_the_simulator_may_serve_what_its_source_serves():
    source = "".join(
        (ROS / f"sim_{name}.py").read_text(encoding="utf-8") for name in ("arm", "base")
    )
    constants = dict(re.findall(r'^([A-Z]+) = "(.+)"$', source, re.MULTILINE))
    actions = re.findall(r'servers\.action\(\w+, "?([\w/]+)"?,', source)
    actions += re.findall(r'^ +\(\w+, "(\w+)", _\w+\),$', source, re.MULTILINE)
    named = {f"/{constants.get(name, name)}" for name in set(actions) - {"name"}}
    assert named == allowed("sim", "actions", "execute")
    services = set(re.findall(r'servers\.service\(\w+, "(\w+)"', source))
    served = allowed("sim", "services", "reply") - own("sim", allowed("sim", "services", "reply"))
    assert {name.lstrip("/") for name in served} == services
    listened = re.findall(r"servers\.listen\(\w+, ([A-Z]+),", source)
    assert {f"/{constants[name]}" for name in listened} == allowed("sim", "topics", "subscribe")


def test_the_simulator_may_publish_its_cameras():
    published = allowed("sim", "topics", "publish")
    for name in ("front", "wrist", "forward"):
        stream = CameraStream(name)
        topics = {stream.color_topic, stream.raw_color_topic, stream.info_topic, stream.depth_topic}
        assert topics < published


def test_cameras_may_be_heard_by_their_default_topics():
    for node, config in (("brain", BrainConfig()), ("act", ActConfig())):
        heard = allowed(node, "topics", "subscribe")
        assert f"/{config.color_topic.lstrip('/')}" in heard
        assert {"/tf", "/tf_static"} < heard
