"""Ten thousand requests that nobody should send: each has a refusal of its own, none is a failure of the server."""

import asyncio
import json
import random

import httpx
import pytest

from serve.http.limits import Limits
from tests.serve.made_up import MadeUp, application

CASES = 10_000
MODEL = "hotel_reviews"
GOOD = {
    "/v1/systemone": {
        "model": MODEL,
        "state": "好",
        "questions": {
            "a": {"type": "choice", "criteria": {"正面": None, "负面": "x"}},
            "b": {"type": "noul", "instructions": "正面", "criteria": {"true": "正面", "false": "负面"}},
            "c": {"type": "score", "criteria": ["负面", "正面"]},
        },
    },
    "/v1/decisions": {
        "model": MODEL,
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "好"}]}],
        "questions": [
            {"type": "choice", "name": "a", "instructions": "", "choices": [{"value": "正面"}, {"value": "负面"}]},
            {"type": "predicate", "instructions": "正面"},
            {"type": "score", "instructions": "", "levels": [{"label": "负面"}, {"label": "正面"}]},
        ],
    },
    "/classify": {"model": MODEL, "input": ["好", {"review": "差"}]},
    "/v1/chat/completions": {
        "model": MODEL,
        "messages": [{"role": "system", "content": "你是助手。"}, {"role": "user", "content": "好"}],
        "logprobs": True,
        "top_logprobs": 2,
        "stream": False,
    },
    "/occlusion": {"input": "很好"},
}
VALUES = [
    None, True, False, 0, -1, 1e308, 10**400, float("nan"), float("inf"), "", " ", "\0", "\ud800", "好" * 3000,
    "\ufdd0", "=cmd()", "<script>", "{review}", "%s%n", "../../etc/passwd", "正面", "positive", "<|im_end|>", [], {},
    [[]], {"": ""}, [None], {"type": "choice"}, {"type": "box"}, {"type": "x"}, {"review": None},
    {"review": "好", "x": "y"},
    [{"role": "user", "content": "好"}], [{"role": "tool"}], ["好"] * 2000, {str(n): None for n in range(300)},
]  # fmt: skip
DEEP = b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BODIES = [
    b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", "好".encode("gb18030"), b"\x00" * 64, DEEP, DEEP[:50_000],
    b'{"input": "\\ud800"}', b'{"input": 1' + b"0" * 10_000 + b"}", b'{"a":1,"a":2}', b"NaN", b"'x'",
    b"\xef\xbb\xbf{}", b'{"input": "x", "input": {"review": 1}}', b"x" * 5_000_000,
]  # fmt: skip


def mutated(value, draw):
    """`value` with one thing in it replaced, taken out or doubled."""
    if draw.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return draw.choice(VALUES)
    if isinstance(value, list):
        at = draw.randrange(len(value))
        kind = draw.random()
        if kind < 0.15:
            return value[:at] + value[at + 1 :]
        if kind < 0.3:
            return value + value
        return [*value[:at], mutated(value[at], draw), *value[at + 1 :]]
    name = draw.choice(list(value))
    if (kind := draw.random()) < 0.15:
        return {key: one for key, one in value.items() if key != name}
    if kind < 0.25:
        return {(draw.choice(["", "x", "负面", name + " "]) if key == name else key): one for key, one in value.items()}
    return {**value, name: mutated(value[name], draw)}


def requests(draw):
    """Method, path, headers and body of a request."""
    while True:
        path = draw.choice(list(GOOD))
        body, headers, method = GOOD[path], {"Content-Type": "application/json"}, "POST"
        for _ in range(draw.choice([1, 1, 1, 2, 3])):
            body = mutated(body, draw)
        content = json.dumps(body).encode()
        kind = draw.random()
        if kind < 0.1:
            content = draw.choice(BODIES)
        elif kind < 0.2:
            cut = draw.randrange(len(content) + 1)
            content = content[:cut] + bytes(draw.randrange(256) for _ in range(draw.randrange(4))) + content[cut + 1 :]
        elif kind < 0.25:
            headers["Content-Type"] = draw.choice(["", "text/plain", "multipart/form-data", "application/json; x=\xe9"])
        elif kind < 0.3:
            headers["Content-Encoding"] = draw.choice(["zstd", "gzip", "br", "identity", "\xff"])
        elif kind < 0.35:
            method = draw.choice(["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "XX"])
        elif kind < 0.4:
            path = draw.choice(
                ["/v1", "/v1/models/x", "/classify/", "/report", "//", "/%00", "/%ff", "/..%2f", "/报告"]
            )
        elif kind < 0.43:
            headers["Host"] = draw.choice(["", "x", "[::1", "localhost:x", "\xff", "127.0.0.1.evil"])
        yield method, path, headers, content


@pytest.mark.slow
def test_no_malformed_request_is_a_failure_of_the_server(caplog):
    draw, statuses = random.Random(0), {}
    app, service = application(MadeUp(), Limits(seconds=3600, reading=3600, linger=0))

    async def ask(client, request):
        method, path, headers, content = request
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        answer = await client.request(method, path, headers=raw, content=content)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, (request, answer.text)
        assert "Traceback" not in answer.text and len(answer.content) < 200_000
        if answer.status_code >= 400 and method != "HEAD":
            error = answer.json()["error"]
            assert error["message"] and "\n" not in error["message"] and len(error["message"]) < 1500

    async def all_of_them():
        transport = httpx.ASGITransport(app)
        async with (
            application_runs(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client,
        ):
            while not service.ready:
                await asyncio.sleep(0)
            every = requests(draw)
            for _ in range(CASES // 50):
                await asyncio.gather(*(ask(client, next(every)) for _ in range(50)))
            good = [await client.post(path, json=body) for path, body in GOOD.items()]
            assert [one.status_code for one in good] == [200] * len(GOOD)

    asyncio.run(all_of_them())
    assert sum(statuses.values()) == CASES and {200, 400, 403, 404, 405, 413, 415, 422} <= statuses.keys()
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


class application_runs:
    """The application's lifespan, which httpx's transport leaves out."""

    def __init__(self, app):
        self.app, self.out = app, asyncio.Queue()

    async def __aenter__(self):
        self.given = asyncio.Queue()
        self.task = asyncio.create_task(self.app({"type": "lifespan", "state": {}}, self.given.get, self.out.put))
        await self.given.put({"type": "lifespan.startup"})
        assert (await self.out.get())["type"] == "lifespan.startup.complete"

    async def __aexit__(self, *_):
        await self.given.put({"type": "lifespan.shutdown"})
        await self.task
