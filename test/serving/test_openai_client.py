"""OpenAI's own client library talks to the server unchanged."""

from __future__ import annotations

from typing import Any

import pytest
from parts import MODEL, PATIENCE_S, ScriptedEngine, chat, picture

from rynn_brain_ros.values import EngineError, UnreadableQuestionError

openai = pytest.importorskip("openai", reason="OpenAI's client library is not installed")


def client(server: Any, token: str = "none", **more: Any) -> Any:
    return openai.OpenAI(base_url=server.url, api_key=token, timeout=PATIENCE_S, **more)


def ask(server: Any, **more: Any) -> Any:
    return client(server).chat.completions.create(**chat("What is it?", picture(1)), **more)


def test_models_are_listed(serve):
    (model,) = client(serve(ScriptedEngine())).models.list().data
    assert model.id == MODEL
    assert client(serve(ScriptedEngine())).models.retrieve(MODEL).id == MODEL


def test_an_answer_comes_whole(serve):
    engine = ScriptedEngine()
    completion = ask(serve(engine), logprobs=True, max_tokens=9)
    (choice,) = completion.choices
    assert choice.message.content == "Two cubes."
    assert choice.finish_reason == "stop"
    assert completion.usage.total_tokens == 9
    assert [token.token for token in choice.logprobs.content] == ["Two ", "cubes."]
    (query,) = engine.asked
    assert query.frames[0].image == picture(1).image
    assert query.budget.max_new_tokens == 9


def test_an_answer_is_streamed(serve):
    server = serve(ScriptedEngine())
    chunks = list(ask(server, stream=True, stream_options={"include_usage": True}))
    text = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert [piece for piece in text if piece] == ["Two ", "cubes."]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == 2


def test_a_stream_may_be_left_early(serve):
    engine = ScriptedEngine("one ", "two ", "three")
    engine.hold()
    engine.allow()
    stream = ask(serve(engine), stream=True)
    next(iter(stream))
    stream.close()
    assert engine.cancelled.wait(PATIENCE_S)


@pytest.mark.parametrize(
    ("more", "error", "code"),
    [
        ({"temperature": 1.0}, "BadRequestError", "unsupported_value"),
        ({"model": "gpt-5"}, "NotFoundError", "model_not_found"),
        ({"messages": []}, "BadRequestError", None),
    ],
)
def test_refusals_are_the_clients_own_errors(serve, more, error, code):
    record = {**chat(), **more}
    with pytest.raises(getattr(openai, error)) as caught:
        client(serve(ScriptedEngine())).chat.completions.create(**record)
    assert caught.value.code == code
    assert caught.value.type == "invalid_request_error"


def test_a_wrong_token_is_an_authentication_error(serve):
    server = serve(ScriptedEngine(), token="right")
    with pytest.raises(openai.AuthenticationError):
        client(server, "wrong").models.list()
    assert client(server, "right").models.list().data


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (EngineError("out of memory"), "InternalServerError"),
        (UnreadableQuestionError("too long"), "BadRequestError"),
    ],
)
def test_an_engine_that_fails_is_not_asked_again(serve, error, kind):
    engine = ScriptedEngine(error=error)
    with pytest.raises(getattr(openai, kind), match=str(error)):
        ask(serve(engine), stream=True)
    assert len(engine.asked) == 1


def test_too_many_requests_are_a_rate_limit_error(serve):
    impatient = client(serve(ScriptedEngine(), rate=10.0), max_retries=0)
    impatient.chat.completions.create(**chat())
    with pytest.raises(openai.RateLimitError):
        impatient.chat.completions.create(**chat())
