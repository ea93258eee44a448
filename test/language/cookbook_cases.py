"""The recorded cases of the authors' cookbooks, as this package's queries."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from rynn_brain_ros.values import (
    EncodedImage,
    Frame,
    FrameSet,
    Generation,
    ImagePart,
    Message,
    Query,
    SelectedFrame,
    Task,
    Turn,
)

TASKS = {
    "spatial_understanding": Task.DESCRIBE,
    "object_understanding": Task.DESCRIBE,
    "ocr": Task.DESCRIBE,
    "counting": Task.COUNT,
    "object_location": Task.OBJECT,
    "area_location": Task.AREA,
    "affordance_location": Task.AFFORDANCE,
    "trajectory_location": Task.TRAJECTORY,
    "manipulation_planning": Task.PLAN,
    "navigation": Task.NAVIGATE,
    "contact_point": Task.GRASP,
    "grasp_pose": Task.GRASP,
}
GOALS = {
    Task.PLAN: "Place the fork in the mug.",
    Task.NAVIGATE: (
        "exit the bedroom and turn left . walk down the hallway and enter the bedroom on the right"
        " . wait near the bed .messages."
    ),
}


def load(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "cookbook" / "cases.json").read_text(encoding="utf-8"))["cases"]


def frame_set(*names: str) -> FrameSet:
    """Frames that are only names: prompts do not look at pixels."""
    return FrameSet(
        tuple(
            SelectedFrame(
                Frame(name, index, "camera", EncodedImage(b"", "rgb8")), b"", "image/png", "", 1, 1
            )
            for index, name in enumerate(names)
        )
    )


def generation(case: dict[str, Any]) -> Generation:
    return Generation.V1_1 if "1.1" in case["model"] else Generation.V1_0


def query(case: dict[str, Any]) -> Query:
    """The query whose prompt the case records. The last user message holds its frames."""
    task = TASKS[case["task"]]
    messages = case["messages"]
    turns = []
    for user, assistant in pairwise(messages):
        if assistant["role"] == "assistant":
            turns.append(Turn(frame_set(*_images(user)), assistant["content"][0]["text"]))
    return Query(
        query_id=case["id"],
        task=task,
        instruction=GOALS.get(task, case["prompt"].split("\n")[0]),
        frames=frame_set(*_images(messages[-1])),
        history=tuple(turns),
    )


def _images(message: dict[str, Any]) -> list[str]:
    return [part["image"] for part in message["content"] if part["type"] == "image"]


def plain(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Messages in the form of the recorded ones."""
    return [
        {
            "role": message.role,
            "content": [
                {"type": "image", "image": part.image.frame.camera}
                if isinstance(part, ImagePart)
                else {"type": "text", "text": part.text}
                for part in message.parts
            ],
        }
        for message in messages
    ]
