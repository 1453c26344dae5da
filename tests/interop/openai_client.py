#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The `openai` package (PyPI) against a running `lowbit serve`:

    openai_client.py URL KEY

Exits 77 where the package is not installed, which tests take for skipped.
"""
import sys

try:
    import openai
except ImportError:
    print("openai_client: skipped, the openai package is not installed")
    sys.exit(77)

url, key = sys.argv[1], sys.argv[2]
client = openai.OpenAI(base_url=url + "/v1", api_key=key, max_retries=0)
turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello there"}]

models = client.models.list().data
assert len(models) == 1 and models[0].owned_by == "lowbit", models
model = models[0].id

# A chat, whole and streamed: the same words from the same seed.
ask = dict(model=model, messages=turns, max_completion_tokens=12, seed=7, temperature=0.7)
whole = client.chat.completions.create(**ask)
choice = whole.choices[0]
assert whole.object == "chat.completion" and choice.message.role == "assistant"
assert choice.finish_reason in ("stop", "length")
assert 0 < whole.usage.completion_tokens <= 12
assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
pieces, usage, finish = [], None, None
for chunk in client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
    assert chunk.object == "chat.completion.chunk"
    usage = chunk.usage or usage
    for c in chunk.choices:
        pieces.append(c.delta.content or "")
        finish = c.finish_reason or finish
assert "".join(pieces) == choice.message.content, (pieces, choice.message.content)
assert finish == choice.finish_reason
assert usage.completion_tokens == whole.usage.completion_tokens
assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1

# Scores.
scored = client.chat.completions.create(**ask, logprobs=True, top_logprobs=3).choices[0]
content = scored.logprobs.content
assert content and all(t.logprob <= 0 and len(t.top_logprobs) == 3 for t in content)
spelled = b"".join(bytes(t.bytes) for t in content).decode("utf-8", "replace")
assert spelled.strip() == scored.message.content.strip(), (spelled, scored.message.content)

# A completion, with a stop that cuts it, by tokens, and greedily twice.
said = client.completions.create(model=model, prompt="Once upon a time", max_tokens=20, temperature=0, logprobs=2)
text = said.choices[0].text
assert said.object == "text_completion" and len(said.choices[0].logprobs.tokens) > 0
assert client.completions.create(model=model, prompt="Once upon a time", max_tokens=20, temperature=0).choices[0].text == text
if len(text) > 4:
    stop = text[2:4]
    cut = client.completions.create(model=model, prompt="Once upon a time", max_tokens=20, temperature=0, stop=[stop])
    assert cut.choices[0].text == text[:text.index(stop)] and cut.choices[0].finish_reason == "stop"
streamed = client.completions.create(model=model, prompt="Once upon a time", max_tokens=20, temperature=0, stream=True)
assert "".join(c.choices[0].text for c in streamed if c.choices) == text
assert client.completions.create(model=model, prompt=[1, 2, 3], max_tokens=2).usage.prompt_tokens == 3


def refuses(kind, words, call):
    try:
        call()
    except kind as problem:
        assert words in str(problem), problem
    else:
        raise AssertionError(f"{words}: not refused")


refuses(openai.BadRequestError, "only 1 answer", lambda: client.chat.completions.create(**ask, n=2))
refuses(openai.BadRequestError, "temperature", lambda: client.chat.completions.create(**{**ask, "temperature": -1}))
refuses(openai.BadRequestError, "context",
        lambda: client.completions.create(model=model, prompt="word " * 12000, max_tokens=1))
refuses(openai.NotFoundError, "nothing at this path", lambda: client.embeddings.create(model=model, input="x"))
if key:
    refuses(openai.AuthenticationError, "API key",
            lambda: openai.OpenAI(base_url=url + "/v1", api_key="wrong", max_retries=0).models.list())

# One that stops listening.
stream = client.chat.completions.create(**{**ask, "max_completion_tokens": 500}, stream=True)
next(iter(stream))
stream.close()
print("openai_client: all good with openai", openai.__version__)
