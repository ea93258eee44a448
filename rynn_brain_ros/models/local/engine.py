"""The ``local`` engine: the model in this process, fast because it forgets nothing useful.

Each picture goes through the vision tower once, whatever is asked about it; what a question shares
with the one before is not read again. Decoding is greedy, by a loop of its own: it streams,
stops at the closing tag of what was asked, and gives up within one layer when told to.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from rynn_brain_ros.language import compose, strict_answer
from rynn_brain_ros.models.local import gpu
from rynn_brain_ros.models.local.backbone import Backbone, ImageFeatures
from rynn_brain_ros.models.local.chat import Chat, Picture
from rynn_brain_ros.models.local.constraint import Constraint, Vocabulary, check_installed
from rynn_brain_ros.models.local.failures import cause, told_as
from rynn_brain_ros.models.local.frame_cache import FrameCache, FrameCacheStats
from rynn_brain_ros.models.local.loading import Loaded, load
from rynn_brain_ros.models.local.memory import CONTEXT_TOKENS, FRAME_CACHE_BYTES
from rynn_brain_ros.models.local.pictures import pixels
from rynn_brain_ros.models.local.prefix import Prefix
from rynn_brain_ros.models.local.prompt import Prompt
from rynn_brain_ros.models.local.run import GivenUpError, Run
from rynn_brain_ros.models.local.sureness import Sureness
from rynn_brain_ros.models.local.writer import Writer
from rynn_brain_ros.models.progress import Progress, untold
from rynn_brain_ros.values import (
    Answer,
    Cancel,
    EngineError,
    EngineInfo,
    EngineLostError,
    FinishReason,
    Query,
    RynnBrainError,
    UnsupportedTaskError,
)

_LOG = logging.getLogger(__name__)
_Computed = TypeVar("_Computed")
_LOOK_S = 0.02
"""How often a waiting question looks whether it was cancelled."""
_NO_RESUME = (
    "this version of transformers cannot go on reading where a model with linear attention "
    "stopped; every question is read from its beginning (pip install -U transformers)"
)


@dataclass(frozen=True)
class LocalStats:
    """What the caches did so far: pictures, and prompt tokens read or found read already."""

    frames: FrameCacheStats
    tokens_read: int
    tokens_reused: int


class LocalEngine:
    """Answers one question at a time; others wait for their turn within their own budgets.

    ``constrain``: an answer that points at something is held to `language.strict_answer` while it
    is written, and so can always be read. The probabilities that it carries stay the model's own,
    so that what it was held to looks as unlikely as the model found it. ``notes`` says what the
    caches cannot do with this model, ``trouble`` why nothing more can be answered in this process;
    it is empty otherwise.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        frame_cache_bytes: int = FRAME_CACHE_BYTES,
        reuse_prefix: bool = True,
        constrain: bool = True,
    ) -> None:
        checkpoint, profile = loaded.checkpoint, loaded.profile
        device = loaded.model.device
        with told_as(f"{checkpoint.name} cannot compute on {device}"), gpu.current(device):
            backbone = Backbone(loaded.model)
            resumes = not reuse_prefix or backbone.resumes()
        prefix = Prefix(backbone.new_cache, reuses=reuse_prefix and resumes)
        vocabulary = _vocabulary(loaded) if constrain else None
        sureness = Sureness(loaded.chat.tokenizer)
        self._loaded: _Opened | None = _Opened(loaded, backbone, prefix, vocabulary, sureness)
        self._decode = loaded.chat.decode
        self._most_frames = profile.most_frames
        self._frames: FrameCache[ImageFeatures] = FrameCache(frame_cache_bytes)
        self._turn = threading.Lock()
        self.trouble = ""
        self._tokens_read = self._tokens_reused = 0
        self.notes = (*backbone.notes, *(() if resumes else (_NO_RESUME,)))
        for note in self.notes:
            _LOG.warning("%s: %s", checkpoint.name, note)
        self._info = EngineInfo(
            name="local",
            model=checkpoint.name,
            generation=profile.generation,
            revision=checkpoint.revision,
            quantization=loaded.quantization,
            tasks=profile.tasks,
        )

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        device: str = "",
        dtype: str = "",
        quantization: str = "",
        progress: Progress = untold,
        constrain: bool = True,
    ) -> LocalEngine:
        """Loads a checkpoint directory; see `loading.load`. Raises `EngineError`."""
        return cls(load(path, device, dtype, quantization, progress), constrain=constrain)

    @property
    def info(self) -> EngineInfo:
        return self._info

    @property
    def stats(self) -> LocalStats:
        return LocalStats(self._frames.stats, self._tokens_read, self._tokens_reused)

    def ask(
        self,
        query: Query,
        on_text: Callable[[str], None] | None = None,
        cancel: Cancel | None = None,
    ) -> Answer:
        """Raises `UnsupportedTaskError`, `EngineError` for what cannot be shown or computed or
        takes too long, `EngineLostError` where only another process could go on, and `InputError`
        for a question that no model was trained on."""
        if query.task not in self._info.tasks:
            raise UnsupportedTaskError(
                f"{self._info.model} was not trained to answer task {query.task.value}; it knows "
                f"{', '.join(sorted(task.value for task in self._info.tasks))}"
            )
        most = self._most_frames
        if 0 < most < len(query.frames):
            raise UnsupportedTaskError(
                f"{self._info.model} was trained to be shown up to {most} frame(s) and not "
                f"{len(query.frames)}; show it the newest (--frames {most}, frames: {most})"
            )
        run = Run(query, cancel)
        writer = Writer(query, self._decode, on_text)
        if not self._my_turn(run):
            return self._answer(run, writer, FinishReason.CANCELLED)
        try:
            return self._answered(run, writer)
        finally:
            self._turn.release()

    def follow(self, query: Query, tokens: Sequence[int]) -> tuple[int, ...]:
        """What it would write in the place of each of ``tokens``, had it written those before it:
        for comparing engines token by token. Raises as `ask` does."""
        with self._turn, torch.inference_mode():
            loaded = self._opened()
            prompt, pictures = loaded.prompt(query)

            def follow() -> tuple[int, ...]:
                logits = self._read(loaded, prompt, pictures, Run(query, None))
                choices = [int(logits.argmax())] if tokens else []
                for n_before in range(1, len(tokens)):
                    choices.append(int(loaded.step(prompt, tokens[:n_before]).argmax()))
                return tuple(choices)

            try:
                return self._computed(loaded, prompt, follow)
            finally:
                self._computed(loaded, prompt, loaded.prefix.settle)

    def close(self) -> None:
        """Gives the memory back; a question that is being answered is answered first."""
        with self._turn:
            if self._loaded is None:
                return
            device = self._loaded.backbone.device
            self._loaded = None
            self._frames.clear()
            gpu.give_back(device)  # the model refers to itself through the hooks of its layers

    # --- one question ------------------------------------------------------------------------

    def _my_turn(self, run: Run) -> bool:
        """Waits for it; false where the question was cancelled meanwhile."""
        while not run.cancelled:
            if self._turn.acquire(timeout=_LOOK_S):
                run.queue_s = run.elapsed_s
                return True
            if run.left_s <= 0:
                raise EngineError(
                    f"{self._info.model} was busy with other questions for all of this one's "
                    f"{run.query.budget.timeout_s:g} s; ask less often, or allow more time"
                )
        return False

    def _opened(self) -> _Opened:
        if self._loaded is None:
            raise EngineError(f"the engine of {self._info.model} is closed; open it again")
        if self.trouble:
            raise EngineLostError(self.trouble)
        return self._loaded

    def _answered(self, run: Run, writer: Writer) -> Answer:
        loaded = self._opened()
        prompt, pictures = loaded.prompt(run.query)
        run.prompt_tokens = len(prompt)
        reason = FinishReason.CANCELLED
        try:
            with torch.inference_mode(), loaded.backbone.watched(run.look):
                reason = self._write(loaded, prompt, pictures, writer, run)
        except GivenUpError:
            too_slow = not run.cancelled
        else:
            too_slow = False
        finally:
            self._computed(loaded, prompt, loaded.prefix.settle)
        if too_slow:
            raise EngineError(_too_slow(self._info.model, run, writer))
        writer.end()
        return self._answer(run, writer, reason)

    def _write(
        self,
        loaded: _Opened,
        prompt: Prompt,
        pictures: Sequence[Picture],
        writer: Writer,
        run: Run,
    ) -> FinishReason:
        constraint = loaded.constraint(run.query)
        n_most = min(run.query.budget.max_new_tokens, CONTEXT_TOKENS - len(prompt))

        def next_token() -> tuple[int, float]:
            if writer.tokens:
                logits = loaded.step(prompt, writer.tokens)
            else:
                logits = self._read(loaded, prompt, pictures, run)
            token, chances = _chosen(logits, constraint, n_most - len(writer.tokens))
            return token, loaded.sureness(chances, token)

        while len(writer.tokens) < n_most:
            if writer.tokens:
                run.look()
            token, sureness = self._computed(loaded, prompt, next_token)
            if token in loaded.stop_tokens:
                return FinishReason.STOP
            writer.write(token, sureness)
            if writer.complete or (constraint is not None and constraint.complete):
                return FinishReason.STOP
        return FinishReason.LENGTH

    def _computed(
        self, loaded: _Opened, prompt: Prompt, compute: Callable[[], _Computed]
    ) -> _Computed:
        """What goes wrong inside is the model's: nothing that it left behind is used again.

        The error is raised behind the handler and chained to nothing: a traceback would keep the
        tensors of the layers that failed for as long as anybody keeps the error, and a GPU that was
        full would stay full.
        """
        try:
            with gpu.current(loaded.backbone.device):
                return compute()
        except (GivenUpError, RynnBrainError):
            raise
        except Exception as error:  # noqa: BLE001  # triton's have no class of their own
            failure = _failed(self._info.model, len(prompt), error)
            lost = _lost(self._info.model, error)
            _LOG.warning("%s\n%s", failure, traceback.format_exc().rstrip())
        loaded.prefix.clear()
        self._frames.clear()
        if gpu.is_lost(loaded.backbone.device):
            self.trouble = lost
            raise EngineLostError(lost)
        gpu.give_back(loaded.backbone.device)
        raise EngineError(failure)

    def _read(
        self, loaded: _Opened, prompt: Prompt, pictures: Sequence[Picture], run: Run
    ) -> torch.Tensor:
        """Logits after the whole prompt, of which only what is new is computed."""
        started = time.monotonic()
        start = loaded.prefix.keep(prompt)
        self._tokens_reused += start
        self._tokens_read += len(prompt) - start
        features = {
            span: self._frames.get(picture.key, functools.partial(loaded.see, picture))
            for picture, span in zip(pictures, prompt.images, strict=True)
            if span.end > start
        }
        gpu.finish(loaded.backbone.device)
        run.encode_s = time.monotonic() - started
        loaded.prefix.begin()
        middle = loaded.prefix.pause(prompt)
        if start < middle:
            loaded.backbone.read(prompt, start, middle, features, loaded.prefix.cache)
            loaded.prefix.took(prompt.first(middle))
            loaded.prefix.remember()
            loaded.prefix.begin()
            start = middle
        logits = loaded.backbone.read(prompt, start, len(prompt), features, loaded.prefix.cache)
        loaded.prefix.took(prompt)
        gpu.finish(loaded.backbone.device)
        run.prefill_s = time.monotonic() - started - run.encode_s
        return logits

    def _answer(self, run: Run, writer: Writer, reason: FinishReason) -> Answer:
        return Answer(
            query_id=run.query.query_id,
            text=writer.text,
            finish_reason=reason,
            engine=self._info.name,
            model=self._info.model,
            revision=self._info.revision,
            quantization=self._info.quantization,
            prompt_tokens=run.prompt_tokens,
            completion_tokens=len(writer.tokens),
            timings=run.timings(),
            token_probabilities=tuple(writer.probabilities),
        )


@dataclass(frozen=True)
class _Opened:
    """What a loaded model needs at hand while it answers."""

    loaded: Loaded
    backbone: Backbone
    prefix: Prefix
    vocabulary: Vocabulary | None
    sureness: Sureness

    @property
    def chat(self) -> Chat:
        return self.loaded.chat

    @property
    def stop_tokens(self) -> frozenset[int]:
        return self.loaded.stop_tokens

    def prompt(self, query: Query) -> tuple[Prompt, tuple[Picture, ...]]:
        messages = compose(query, self.loaded.profile.generation)
        return self.chat.prompt(messages, query.frames.max_visual_tokens, thinks=query.thinks)

    def step(self, prompt: Prompt, written: Sequence[int]) -> torch.Tensor:
        """Reads the last token that was written behind ``prompt``: the logits after it."""
        self.prefix.begin()
        position = prompt.next_position() + len(written) - 1
        logits = self.backbone.step(written[-1], position, self.prefix.cache)
        self.prefix.wrote(prompt.written(written))
        return logits

    def constraint(self, query: Query) -> Constraint | None:
        """What holds an answer to its grammar; ``None`` for free text."""
        answer = strict_answer(query, self.loaded.profile.generation)
        if answer is None or self.vocabulary is None:
            return None
        return Constraint(self.vocabulary, answer)

    def see(self, picture: Picture) -> ImageFeatures:
        rgb = pixels(picture.frame, picture.size)
        return self.backbone.see(*self.loaded.patcher.cut(rgb))


def _vocabulary(loaded: Loaded) -> Vocabulary:
    check_installed()
    n_tokens = loaded.model.config.get_text_config().vocab_size
    return Vocabulary(loaded.chat.tokenizer, n_tokens, loaded.stop_tokens)


def _chosen(
    logits: torch.Tensor, constraint: Constraint | None, n_left: int
) -> tuple[int, torch.Tensor]:
    """The most probable token, of those that are allowed, and the probabilities that the model
    gave to all. Raises `ArithmeticError` where there are none."""
    chances = torch.softmax(logits, dim=-1)
    if not bool(chances.isfinite().all()):
        raise ArithmeticError("it computed no numbers, its weights are damaged or overflow")
    token = int(logits.argmax()) if constraint is None else constraint.choose(logits, n_left)
    return token, chances


def _too_slow(model: str, run: Run, writer: Writer) -> str:
    return (
        f"{model} did not finish its answer to {run.prompt_tokens} tokens within "
        f"{run.query.budget.timeout_s:g} s; it had written {len(writer.tokens)} tokens, "
        f"{writer.text[-80:]!r}: show fewer frames, or allow more time"
    )


def _failed(model: str, n_tokens: int, error: BaseException) -> str:
    return (
        f"{model} could not compute an answer to {n_tokens} tokens: {cause(error)}. If memory is "
        "short, show fewer or smaller frames"
    )


def _lost(model: str, error: BaseException) -> str:
    return (
        f"{model} cannot answer any more: its GPU failed ({cause(error)}) and takes no more work "
        "from this process; start it again"
    )
