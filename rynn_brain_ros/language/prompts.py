"""The exact words that the models were trained on, per task and model generation.

The model tolerates wording, but the tag and the brackets in the prompt decide the form of the
answer, so nothing here is paraphrased. Sources are named per table: § of reference rynnbrain.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from rynn_brain_ros.language.formatter import format_frame
from rynn_brain_ros.values import (
    Generation,
    ImagePart,
    InputError,
    Message,
    Query,
    QueryBudget,
    SelectedFrame,
    Task,
    TextPart,
)

Protocol = Literal["tags", "json"]
SystemPrompt = Literal["full", "short", "none"]
Part = TextPart | ImagePart

# §2.2, cookbooks 4 to 7: several frames.
_FRAMES_FORMAT = {
    Task.OBJECT: (
        "Output the bounding box in the format <object> <frame n>: ...; (x1,y1), (x2,y2) </object>,"
        " where x,y are in the range of (0,1000), n is the chosen frame index."
    ),
    Task.AREA: (
        "Two-stage process:\n1. Key frame prediction\n2. Tuple series output.\n"
        "Output format: <area> <frame n>: ...; (x1, y1), (x2, y2), .... </area>\n"
        "Format constraints:\n- Tuple syntax: (x, y)\n- Coordinate bounds: 0 ≤ x,y ≤ 1000\n"
        "- Series format: comma-separated."
    ),
    Task.AFFORDANCE: (
        "Complete two tasks:\n1. Key frame prediction\n"
        "2. Single affordance point coordinates: (x, y)\n"
        "Output format: <affordance> <frame n>: ...; (x, y) </affordance>\n"
        "All coordinates normalized to 0-1000 range."
    ),
    Task.TRAJECTORY: (
        "First predict the frame containing the trajectory start point, then output up to 10 key"
        " trajectory points as a list of tuples in the format: <trajectory> <frame n>: ...;"
        " (x1, y1), (x2, y2), .... </trajectory> All coordinates must be normalized between 0 and"
        " 1000."
    ),
    Task.GRASP: (
        "Output the grasp pose in the format <grasp pose> <frame n>: ...; (x1,y1), (x2,y2),"
        " (x3,y3), (x4,y4) </grasp pose>, where x,y are in the range of (0,1000), n is the chosen"
        " frame index."
    ),
}

# §2.2, cookbooks 4 and 6, and their paraphrases for one image.
_IMAGE_FORMAT = {
    Task.OBJECT: (
        "Generate coordinates for one object bounding box. Constraints: x1,y1,x2,y2 ∈ [0,1000]."
        " Response must be in the format: <object> (x1, y1), (x2, y2) </object>"
    ),
    Task.AREA: (
        "Express the coordinates as a tuple sequence in the format <area> (x1, y1), (x2, y2), ..."
        " </area> with all coordinate values normalized to the standardized pixel coordinate"
        " system spanning 0 to 1000."
    ),
    Task.AFFORDANCE: (
        "Identify one affordance point and provide its normalized pixel coordinates. The x and y"
        " values must be between 0 and 1000. Output format: <affordance> (x, y) </affordance>."
    ),
    Task.TRAJECTORY: (
        "Predict a trajectory comprising up to 10 key points. Return coordinates in the format"
        " <trajectory> (x1, y1), (x2, y2), ... </trajectory> with all values normalized to the"
        " [0, 1000] range."
    ),
    Task.GRASP: (
        "Output the grasp pose in the format <grasp pose> (x1,y1), (x2,y2), (x3,y3), (x4,y4)"
        " </grasp pose>, where x,y are in the range of (0,1000)."
    ),
}

# §2.2, the 1.1 benchmark.
_JSON_FORMAT = {
    Task.OBJECT: "Predict the bounding box. Output the result in JSON format.",
    Task.AREA: "Predict the area polygon. Output the result in JSON format.",
    Task.AFFORDANCE: "Predict the affordance point. Output the result in JSON format.",
    Task.TRAJECTORY: "Predict the trajectory points. Output the result in JSON format.",
}

# §2.6: the user's suffix of Chain-of-Point.
_NORMALIZED = " Coordinates normalized to 0-1000."
_THINKING_SUFFIX = {
    Task.OBJECT: (
        "\nOutput format: `#### <answer><object><frame i> (X_min, Y_min), (X_max, Y_max)"
        " </object></answer>`." + _NORMALIZED
    ),
    Task.AREA: (
        "\nFirst predict the key frame, then output coordinates as a series of tuples.\n"
        "Output format: `#### <answer><area><frame i> (X_1, Y_1), ... </area></answer>`."
        + _NORMALIZED
    ),
    Task.AFFORDANCE: (
        "\nFirst predict the key frame, then output a single affordance point as coordinates"
        " (x, y).\nOutput format: `#### <answer><affordance><frame i> (X, Y)"
        " </affordance></answer>`." + _NORMALIZED
    ),
    Task.TRAJECTORY: (
        "\nFirst predict the frame containing the trajectory start point, then output up to 10 key"
        " trajectory points as a list of tuples.\nOutput format: `#### <answer><trajectory>"
        "<frame i> (X_1, Y_1), (X_2, Y_2), ..., (X_N, Y_N) </trajectory></answer>`." + _NORMALIZED
    ),
    Task.COUNT: (
        "\nOutput format: `#### <answer><counting>N</counting></answer>` where N is the count."
    ),
    Task.DESCRIBE: "",
    Task.THINK: "",
}

# §2.6: the first sentence (README inference), then what the benchmark's thinking mode adds, with
# its spaces between the two as they are: only the first task has one.
_EMBODIED = "You are an embodied agent. You are given a video to solve {} problem."
_FINAL = "Put your final answer in the format of `#### <answer>{}</answer>`."
_GENERAL_SYSTEM = (
    "You are a helpful assistant. Think step by step and provide your final answer after `####`."
)
_SYSTEM = {
    Task.OBJECT: (
        _EMBODIED.format("an object detection"),
        " " + _FINAL.format("<object><frame i> (X_min, Y_min), (X_max, Y_max) </object>"),
    ),
    Task.AREA: (
        _EMBODIED.format("an area prediction"),
        _FINAL.format("<area><frame i> (X_1, Y_1), ..., (X_N, Y_N) </area>"),
    ),
    Task.AFFORDANCE: (
        _EMBODIED.format("an affordance prediction"),
        _FINAL.format("<affordance><frame i> (X, Y) </affordance>"),
    ),
    Task.TRAJECTORY: (
        _EMBODIED.format("a trajectory prediction"),
        _FINAL.format(
            "<trajectory><frame i> (X_1, Y_1), (X_2, Y_2), ..., (X_N, Y_N) </trajectory>"
        ),
    ),
    Task.COUNT: (_EMBODIED.format("a counting"), " "),
    Task.DESCRIBE: (_GENERAL_SYSTEM, ""),
    Task.THINK: (_GENERAL_SYSTEM, ""),
}

# §5.2, cookbook 10. The space at the end of the second line is the authors'.
_PLAN = (
    "You are a sophisticated dual-arm robot planning the next action for the goal: {task}.\n"
    "    Your output must be a single, structured sentence that embeds perceptual data. This"
    " involves selecting the most suitable frame (`n`) for each perception task and providing the"
    " corresponding integer coordinates (in the [0, 1000] range). \n"
    "    The sentence must follow this precise format: `<affordance>` contains"
    " `<frame n>: (x, y)` for the grasp point, `<object>` contains"
    " `<frame n>: (x_min, y_min), (x_max, y_max)` for the bounding box, and `<area>` contains"
    " `<frame n>: (x, y)` for the target destination point."
)

# §5.1, cookbook 11. The authors draw one of seven conjunctions; a fixed one keeps prompts
# repeatable and their prefixes cacheable.
_NAVIGATE = (
    "You are an autonomous navigation assistant. Your task is to {task}. Devise an action sequence"
    " to follow the instruction using the four actions: TURN LEFT (←) or TURN RIGHT (→) by 15"
    " degrees, MOVE FORWARD (↑) by 25 centimeters, or STOP."
)
_NAVIGATE_HISTORY = " These are your historical observations: "
_NAVIGATE_CONJUNCTION = "you can see "
_NAVIGATE_REFUSED = "Not carried out: {}. "

# §3.2: eight of eight abstentions where this came last, none otherwise.
_ABSTAIN = "\nIf the target is not in {where}, return exactly <no object> and do not invent {what}."
_INVENTED = {
    Task.OBJECT: "a box",
    Task.AREA: "an area",
    Task.AFFORDANCE: "a point",
    Task.TRAJECTORY: "a trajectory",
    Task.GRASP: "a grasp pose",
}
_SPEAKS_OF_GRASP = re.compile(r"grasp(?:ing)?[ _]pose", re.IGNORECASE)


def compose(
    query: Query,
    generation: Generation,
    *,
    protocol: Protocol = "tags",
    system_prompt: SystemPrompt = "full",
) -> tuple[Message, ...]:
    """The chat that asks ``query`` of a model of this generation.

    One image goes before the question and has no name; several are each preceded by
    ``<frame i>: ``, except for plain questions that do not speak of a frame themselves (§2.1,
    §2.5). Plans and groundings by Chain-of-Point name even a single image, as the authors' server
    and benchmark do: their answers carry frames.

    `Task.PLAN`: ``history`` are the earlier turns, ``frames`` the newest ones. The goal stands
    before the first turn's frames; later turns are frames only, their numbers restart at 0, and
    earlier answers are repeated verbatim (§5.2).

    `Task.NAVIGATE`: the last of ``frames`` is the current view, those before it the sparse old
    observations, oldest first (the authors keep 8). ``history`` is the recent window: per turn
    the view (its last frame) from which the arrows in ``answer`` were really driven, so that
    pairs stay aligned when fewer than four were. The message with the goal and the following
    view are both the user's: this is intended (§5.1). A first step is a single message. What was
    said and not carried out is told before the next view: no model was trained with that, and
    without it the same view would get the same answer for ever.

    `Task.GRASP`: generation 1.1 takes a free request. The prompt of 1.0 is not known (§2.3): it
    is asked in the style of the other tags for the four corners that a recorded answer has.

    ``protocol="json"`` is the 1.1 benchmark's alternative to tags. ``system_prompt`` matters for
    thinking only: "full" is the benchmark's, "short" the README's, "none" that of the training
    data (§2.6). ``query.abstain`` counts for tasks that need a grounding.

    A query that carries its ``chat`` is asked in these very words.

    Raises `InputError` for combinations that no model was trained on.
    """
    if query.chat:
        return query.chat
    _check(query, generation, protocol)
    if query.task is Task.PLAN:
        return _plan(query)
    if query.task is Task.NAVIGATE:
        return _navigate(query)
    text = _question(query, generation, protocol) + _abstention(query)
    images = _images(query.frames.frames, named=_names_frames(query))
    user = Message("user", (*images, TextPart(text)))
    if not query.thinks or system_prompt == "none":
        return (user,)
    short, rest = _SYSTEM[query.task]
    system = short if system_prompt == "short" else short + rest
    return (Message("system", (TextPart(system),)), user)


def default_budget(task: Task, thinking: bool = False) -> QueryBudget:
    """What a task may cost (design decision 3, §2.1): answers are 16 to 130 tokens, ten-point
    trajectories the longest; Chain-of-Point is 300 to 1500."""
    if thinking or task is Task.THINK:
        return QueryBudget(max_new_tokens=2048, timeout_s=180.0)
    return QueryBudget(max_new_tokens=_MAX_NEW_TOKENS[task], timeout_s=60.0)


_MAX_NEW_TOKENS = {
    Task.OBJECT: 128,
    Task.AREA: 256,
    Task.AFFORDANCE: 128,
    Task.TRAJECTORY: 256,
    Task.GRASP: 128,
    Task.DESCRIBE: 256,
    Task.COUNT: 128,
    Task.PLAN: 128,
    Task.NAVIGATE: 32,
}


def _check(query: Query, generation: Generation, protocol: Protocol) -> None:
    task = query.task
    if not query.frames.frames and task not in (Task.DESCRIBE, Task.COUNT, Task.THINK):
        raise InputError(f"A query for {task.value} shows no image; give it at least one frame.")
    if any(not turn.frames.frames for turn in query.history):
        raise InputError(f"An earlier turn of {query.query_id} holds no frame; leave it out.")
    if query.thinking and task not in _THINKING_SUFFIX:
        raise InputError(f"No model was trained to think about {task.value}; ask without thinking.")
    if protocol == "json" and (
        generation is not Generation.V1_1 or task not in _JSON_FORMAT or query.thinking
    ):
        raise InputError(
            f"The JSON protocol is generation 1.1's, for {', '.join(t.value for t in _JSON_FORMAT)}"
            f" without thinking; ask {task.value} of generation {generation.value} with tags."
        )


def _names_frames(query: Query) -> bool:
    grounds = query.task.needs_grounding
    if len(query.frames) == 1:
        return grounds and query.thinking
    return grounds or query.thinks or "<frame" in query.instruction


def _images(frames: Sequence[SelectedFrame], *, named: bool) -> tuple[Part, ...]:
    parts: list[Part] = []
    for index, frame in enumerate(frames):
        if named:
            parts.append(TextPart(f"{format_frame(index)}: "))
        parts.append(ImagePart(frame))
    return tuple(parts)


def _question(query: Query, generation: Generation, protocol: Protocol) -> str:
    """The instruction with what its task adds, without the abstention."""
    task, instruction = query.task, query.instruction
    if query.thinks:
        return instruction + _THINKING_SUFFIX[task]
    if protocol == "json":
        return f"{instruction.rstrip('.')}. {_JSON_FORMAT[task]}"
    if task is Task.GRASP and generation is Generation.V1_1:
        speaks = _SPEAKS_OF_GRASP.search(instruction) is not None
        return instruction if speaks else f"{instruction} Output the grasp pose."
    formats = _IMAGE_FORMAT if len(query.frames) == 1 else _FRAMES_FORMAT
    return f"{instruction}\n{formats[task]}" if task in formats else instruction


def _abstention(query: Query) -> str:
    if not query.abstain or not query.task.needs_grounding:
        return ""
    where = "the image" if len(query.frames) == 1 else "any of the frames"
    return _ABSTAIN.format(where=where, what=_INVENTED[query.task])


def _plan(query: Query) -> tuple[Message, ...]:
    goal = TextPart(_PLAN.replace("{task}", query.instruction.removesuffix(".")))
    messages: list[Message] = []
    opening: tuple[Part, ...] = (goal,)
    for turn in query.history:
        messages.append(Message("user", opening + _images(turn.frames.frames, named=True)))
        messages.append(Message("assistant", (TextPart(turn.answer),)))
        opening = ()
    messages.append(Message("user", opening + _images(query.frames.frames, named=True)))
    return tuple(messages)


def _navigate(query: Query) -> tuple[Message, ...]:
    *older, current = query.frames.frames
    goal = _NAVIGATE.replace("{task}", query.instruction.removesuffix("."))
    opening = TextPart(goal + _NAVIGATE_HISTORY if older else goal)
    if not older and not query.history:
        return (Message("user", (opening, *_view(current))),)
    messages = [Message("user", (opening, *_images(older, named=False)))]
    refused = ""
    for turn in query.history:
        if turn.answer:
            messages.append(Message("user", _view(turn.frames[-1], refused)))
            messages.append(Message("assistant", (TextPart(turn.answer),)))
            refused = ""
        refused += _NAVIGATE_REFUSED.format(turn.refused) if turn.refused else ""
    return (*messages, Message("user", _view(current, refused)))


def _view(frame: SelectedFrame, before: str = "") -> tuple[Part, ...]:
    return (TextPart(before + _NAVIGATE_CONJUNCTION), ImagePart(frame))
