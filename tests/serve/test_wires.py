"""The official clients of both wires against a real server: what they send is answered, every error is theirs."""

import asyncio
import json

import httpx
import numpy as np
import pytest

from serve.http.api_key import KeyCheck
from serve.http.limits import Limits
from serve.http.questions import confidence
from serve.http.refusal import Refusal
from serve.http.service import Service
from tests.serve.made_up import MadeUp, made_up_file, running

openai = pytest.importorskip("openai", reason="the package openai is not installed")
typesafe = pytest.importorskip("typesafe_sdk", reason="the package typesafe-sdk is not installed")
KEY = "a-key-of-twenty-four-signs"
MODEL = "hotel_reviews"
HTTP = httpx.Client(timeout=None)
NO_RETRY = typesafe.RetryPolicy(max_retries=0)


@pytest.fixture(scope="module")
def server():
    with running(keys=[KEY]) as one:
        yield one


@pytest.fixture
def decisions(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def system_one(server):
    with typesafe.TypeSafeClient(base_url=server.url, api_key=KEY, model=MODEL, retry=NO_RETRY, timeout=3600) as client:
        yield client


def choice(*options):
    return {"type": "choice", "name": "tone", "instructions": "?", "choices": [{"value": one} for one in options]}


def of(text):
    return float(MadeUp().score([text]).probabilities[0, 0])


def test_confidence_is_one_when_all_is_on_one_and_zero_when_flat():
    assert confidence(np.array([0, 1.0, 0])) == 1 and confidence(np.full(4, 0.25)) == 0
    assert confidence(np.array([0.75, 0.25])) == pytest.approx(0.5)


def test_typesafe_asks_every_type_at_once(system_one):
    text = "很好"
    answer = system_one.system_one(
        state=text,
        questions={
            "tone": typesafe.Choice(criteria={"差评": None, "好评": "what pleases"}),
            "good": typesafe.Noul(instructions="正面"),
            "bad": typesafe.Noul(instructions="?", criteria={"true": "差评", "false": "正面"}),
            "not_bad": typesafe.Noul(instructions="?", criteria={"false": "负面"}),
            "stars": typesafe.Score(criteria=["负面", "正面"]),
        },
    )
    p = of(text)
    assert answer.model == MODEL and answer.usage.input_tokens == 2 and answer.usage.output_tokens == 0
    assert answer.choices["tone"].choice == "好评"
    assert answer.choices["tone"].probabilities == pytest.approx({"差评": 1 - p, "好评": p})
    assert answer.choices["tone"].confidence == pytest.approx(abs(2 * p - 1))
    nouls = {name: one.noul for name, one in answer.nouls.items()}
    assert nouls == pytest.approx({"good": p, "bad": 1 - p, "not_bad": p})
    stars = answer.scores["stars"]
    assert stars.score == pytest.approx(p) and stars.legend == {0: "负面", 1: "正面"}
    assert stars.probabilities == pytest.approx({0: 1 - p, 1: p})


def test_typesafe_asynchronously_and_its_models(server):
    async def ask():
        async with typesafe.AsyncTypeSafeClient(base_url=server.url, api_key=KEY, model=MODEL, timeout=3600) as client:
            question = {"tone": typesafe.Choice(criteria={"正面": None, "负面": None})}
            answers = await asyncio.gather(*(client.system_one("差" * n, question) for n in range(1, 9)))
            return answers, await client.models.list()

    answers, models = asyncio.run(ask())
    assert [one.choices["tone"].choice for one in answers] == ["负面"] * 8
    assert [one.usage.input_tokens for one in answers] == list(range(1, 9))
    assert [(one.name, one.release_date) for one in models.models] == [(MODEL, "2026-09-21")]


def test_openai_asks_every_type_at_once(decisions):
    text, p = "好好差", of("好好差")
    answer = decisions.decisions.create(
        model=MODEL,
        input=text,
        questions=[
            choice("负面", "正面"),
            {"type": "predicate", "name": "good", "instructions": "好评"},
            {"type": "predicate", "instructions": [{"type": "input_text", "text": "negative?"}]},
            {"type": "score", "instructions": "", "levels": [{"label": "差评"}, {"label": "好评"}]},
        ],
    )
    tone, good, bad, stars = answer.answers
    assert (tone.type, tone.name, tone.choice) == ("choice", "tone", "正面")
    assert [one.value for one in tone.probabilities] == ["负面", "正面"]
    assert tone.probabilities[1].probability == pytest.approx(p)
    assert (good.type, good.name, good.probability) == ("predicate", "good", pytest.approx(p))
    assert (bad.name, bad.probability) == (None, pytest.approx(1 - p))
    assert stars.score == pytest.approx(p) and [one.value for one in stars.probabilities] == [0, 1]
    assert answer.usage.total_tokens == answer.usage.input_tokens == 3
    assert answer.usage.input_tokens_details.cached_tokens == 0


@pytest.mark.parametrize(
    "given",
    [
        [{"role": "user", "content": "很好"}],
        [{"role": "user", "content": [{"type": "input_text", "text": "很"}, {"type": "input_text", "text": "好"}]}],
        [{"role": "user", "content": [{"type": "input_json", "data": {"review": "很好"}}]}],
        [{"role": "system", "content": "你是助手。"}, {"role": "user", "content": "很好"}],
        [{"role": "user", "content": "评论：很好\n这条评论是正面还是负面？"}],
    ],
)
def test_openai_sends_an_input_in_several_ways(decisions, server, given):
    answer = decisions.decisions.create(model=MODEL, input=given, questions=[choice("正面", "负面")])
    assert answer.answers[0].choice == "正面" and server.classifier.texts[-1] == "很好"


def test_openai_asynchronously_chats_and_lists_models(server):
    async def ask():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY) as client:
            messages = [{"role": "user", "content": "差差"}]
            whole = await client.chat.completions.create(
                model=MODEL, messages=messages, logprobs=True, top_logprobs=2, temperature=0, max_tokens=5
            )
            stream = await client.chat.completions.create(model=MODEL, messages=messages, stream=True)
            parts = [part async for part in stream]
            decided = await client.decisions.create(model=MODEL, input="好", questions=[choice("正面", "负面")])
            return whole, parts, decided, [one.id async for one in client.models.list()]

    whole, parts, decided, models = asyncio.run(ask())
    assert whole.choices[0].message.content == "负面" and whole.choices[0].finish_reason == "stop"
    token = whole.choices[0].logprobs.content[0]
    assert token.token == "负面" and bytes(token.bytes).decode() == "负面"
    assert {one.token: np.exp(one.logprob) for one in token.top_logprobs} == pytest.approx(
        {"正面": of("差差"), "负面": 1 - of("差差")}
    )
    assert "".join(part.choices[0].delta.content or "" for part in parts) == "负面"
    assert decided.answers[0].choice == "正面" and models == [MODEL]


def test_classify_has_the_shape_of_vllm(server):
    body = {"model": MODEL, "input": ["好", "差", {"review": "很好"}]}
    answer = HTTP.post(f"{server.url}/classify", json=body, headers={"Authorization": f"Bearer {KEY}"}).json()
    assert [one["label"] for one in answer["data"]] == ["正面", "负面", "正面"]
    assert [one["index"] for one in answer["data"]] == [0, 1, 2] and answer["data"][0]["num_classes"] == 2
    assert answer["data"][0]["probs"] == pytest.approx([of("好"), 1 - of("好")])
    assert answer["object"] == "list" and answer["usage"]["total_tokens"] == 4


def test_no_text_is_refused_and_the_next_one_answered(server):
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = HTTP.post(f"{server.url}/classify", json={"input": []}, headers=headers)
    assert answer.status_code == 422 and "send at least one" in answer.json()["error"]["message"]
    assert HTTP.post(f"{server.url}/classify", json={"input": "好"}, headers=headers).status_code == 200


def test_the_pieces_of_a_text_are_weighed(server):
    body, headers = {"input": "房间好。太吵了"}, {"Authorization": f"Bearer {KEY}"}
    answer = HTTP.post(f"{server.url}/occlusion", json=body, headers=headers).json()
    assert "".join(piece["text"] for piece in answer["pieces"]) == body["input"]
    assert max(answer["pieces"], key=lambda piece: piece["weight"])["text"] == "好"


REFUSED = {
    "options of another set": ([choice("angry", "calm")], "“angry”, “calm” are not of this classifier: its labels are"),
    "one label twice": ([choice("正面", "好评", "负面")], "two of the options mean one label"),
    "another statement": ([{"type": "predicate", "instructions": "Is it about billing?"}], "by that word alone"),
    "a denied statement": ([{"type": "predicate", "instructions": "不是正面"}], "正面, 负面"),
    "a truth value": ([choice(True, False)], "“bool” are not of this classifier"),
    "other levels": ([{"type": "score", "instructions": "", "levels": [{"label": "1"}, {"label": "2"}]}], "levels"),
}


@pytest.mark.parametrize(("questions", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_what_the_classifier_did_not_learn_is_refused_with_its_labels(decisions, questions, sentence):
    with pytest.raises(openai.UnprocessableEntityError, match="正面") as refused:
        decisions.decisions.create(model=MODEL, input="好", questions=questions)
    assert sentence in refused.value.message and "\n" not in refused.value.message


def test_a_part_of_the_labels_is_another_set():
    file = made_up_file(labels=("好", "中", "差"), synonyms={})
    with running(MadeUp(file)) as server, openai.OpenAI(base_url=f"{server.url}/v1", api_key="any") as client:
        with pytest.raises(openai.UnprocessableEntityError, match="the options lack 中"):
            client.decisions.create(model=MODEL, input="好", questions=[choice("好", "差")])
        answer = client.decisions.create(model=MODEL, input="好", questions=[choice("差", "好", "中")])
        assert [one.value for one in answer.answers[0].probabilities] == ["差", "好", "中"]


def test_a_classifier_of_several_columns_takes_objects():
    file = made_up_file(columns=("title", "review"))
    with (
        running(MadeUp(file)) as server,
        typesafe.TypeSafeClient(
            base_url=server.url, api_key="any", model=MODEL, retry=NO_RETRY, timeout=3600
        ) as client,
    ):
        question = {"tone": typesafe.Choice(criteria={"正面": None, "负面": None})}
        answer = client.system_one({"review": "好", "title": "差差"}, question)
        assert answer.choices["tone"].choice == "负面"
        assert server.classifier.texts[-1] == "差差|好"
        for state in ("好", {"review": "好"}, {"review": "好", "title": "差", "other": "x"}, ["好"]):
            with pytest.raises(typesafe.TypeSafeUnprocessableEntityError, match="send an object with the texts title"):
                client.system_one(state, question)


def test_images_tools_and_other_prompts_are_refused(decisions, system_one):
    questions = [choice("正面", "负面")]
    image = {"type": "input_image", "image_url": "data:,"}
    for given in (
        [{"role": "user", "content": [image]}],
        [{"role": "system", "content": "Answer in English"}, {"role": "user", "content": "好"}],
        [{"role": "user", "content": "好"}, {"role": "user", "content": "好"}],
        [{"role": "assistant", "content": "好"}],
        [{"type": "function_call", "arguments": "", "call_id": "1", "name": "f"}],
    ):
        with pytest.raises(openai.UnprocessableEntityError, match="this classifier"):
            decisions.decisions.create(model=MODEL, input=given, questions=questions)
    with pytest.raises(openai.UnprocessableEntityError, match="calls no tools"):
        tool = {"type": "function", "function": {"name": "f"}}
        decisions.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "好"}], tools=[tool])
    with pytest.raises(typesafe.TypeSafeUnprocessableEntityError, match="a box is a place in an image"):
        system_one.system_one("好", {"dog": typesafe.Box(instructions="the dog")})


def ask_openai(server, key=KEY, model=MODEL, text="好", timeout=3600, **more):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=timeout, **more) as client:
        return client.decisions.create(model=model, input=text, questions=[choice("正面", "负面")])


def ask_typesafe(server, key=KEY, model=MODEL, text="好", timeout=3600, path="", headers=None):
    with typesafe.TypeSafeClient(
        base_url=server.url + path, api_key=key, model=model, retry=NO_RETRY, timeout=timeout, headers=headers
    ) as client:
        return client.system_one(text, {"tone": typesafe.Choice(criteria={"正面": None, "负面": None})})


def test_errors_of_openai(server):
    with pytest.raises(openai.AuthenticationError, match="the API key is missing or is another"):
        ask_openai(server, key="another-key-of-its-own")
    with pytest.raises(openai.NotFoundError, match=f"this server has {MODEL}"):
        ask_openai(server, model="gpt-6-luna")
    with pytest.raises(openai.UnprocessableEntityError, match="input is empty") as error:
        ask_openai(server, text=" ")
    assert error.value.param == "input" and error.value.request_id
    with pytest.raises(openai.BadRequestError, match="the body is no zstd"):
        ask_openai(server, default_headers={"Content-Encoding": "zstd"})
    with pytest.raises(openai.APIStatusError, match="more than 4,194,304 bytes") as error:
        ask_openai(server, text="好" * 2_000_000)
    assert error.value.status_code == 413


def test_errors_of_typesafe(server):
    with pytest.raises(typesafe.TypeSafeAuthenticationError, match="the API key is missing or is another"):
        ask_typesafe(server, key="another-key-of-its-own")
    with pytest.raises(typesafe.TypeSafeNotFoundError, match=f"this server has {MODEL}") as error:
        ask_typesafe(server, model="jev-latest")
    assert error.value.request_id
    with pytest.raises(typesafe.TypeSafeNotFoundError, match="there is nothing at this address"):
        ask_typesafe(server, path="/elsewhere")
    with pytest.raises(typesafe.TypeSafeUnprocessableEntityError, match="state is empty"):
        ask_typesafe(server, text=" ")
    with pytest.raises(typesafe.TypeSafeBadRequestError, match="the body is no gzip"):
        ask_typesafe(server, headers={"Content-Encoding": "gzip"})
    with pytest.raises(typesafe.TypeSafeAPIError, match="413"):
        ask_typesafe(server, text="好" * 2_000_000)


def test_another_name_of_this_machine_is_refused_without_a_key():
    with running() as server:
        with pytest.raises(openai.PermissionDeniedError, match="answers on its own address"):
            ask_openai(server, default_headers={"Host": "evil.example"})
        with pytest.raises(typesafe.TypeSafePermissionDeniedError):
            ask_typesafe(server, headers={"Host": "evil.example:8000"})


def test_every_name_of_a_loopback_address_is_answered():
    check = KeyCheck((), frozenset())
    for host in ("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]", "[::1]:8000", "LOCALHOST."):
        check.check({"host": host})
    for host in ("", "evil.example", "127.0.0.1.evil", "[::1", "::1.evil:1", "[2001:db8::1]:8000"):
        with pytest.raises(Refusal):
            check.check({"host": host})


@pytest.mark.parametrize(("ask", "kind"), [(ask_openai, openai), (ask_typesafe, typesafe)])
def test_full_late_and_broken_servers_are_each_clients_own_error(ask, kind):
    of_kind = {
        "full": getattr(kind, "RateLimitError", None) or kind.TypeSafeRateLimitError,
        "server": getattr(kind, "InternalServerError", None) or kind.TypeSafeInternalServerError,
        "late": getattr(kind, "APITimeoutError", None) or kind.TypeSafeAPITimeoutError,
        "gone": getattr(kind, "APIConnectionError", None) or kind.TypeSafeAPIConnectionError,
    }
    classifier = MadeUp()
    with running(classifier, Limits(seconds=0.5, reading=3600, waiting=1, linger=0)) as server:
        with pytest.raises(of_kind["server"], match="the classifier failed on this text"):
            ask(server, text="坏文本")
        classifier.gate.clear()
        with pytest.raises(of_kind["server"], match=r"no answer within 0\.5 seconds"):
            ask(server)
        with pytest.raises(of_kind["late"]):
            ask(server, timeout=0.1)
        classifier.gate.set()
    with running(classifier, Limits(seconds=3600, reading=3600, waiting=1, linger=0)) as server:
        classifier.gate.clear()

        async def fill():
            async with httpx.AsyncClient(base_url=server.url, timeout=None) as client:
                sent = []
                for waiting in (0, 1):  # one is being scored, one waits
                    sent.append(asyncio.create_task(client.post("/classify", json={"input": "好"})))
                    while server.service.batcher.taken != 1 or server.service.batcher.waiting != waiting:
                        await asyncio.sleep(0.01)
                with pytest.raises(of_kind["full"], match="1 rows are waiting already") as error:
                    await asyncio.to_thread(ask, server)
                classifier.gate.set()
                return error.value, [one.status_code for one in await asyncio.gather(*sent)]

        error, statuses = asyncio.run(fill())
        assert statuses == [200, 200]
        headers = getattr(error, "headers", None) or error.response.headers
        assert int(headers["retry-after"]) >= 1
    with pytest.raises(of_kind["gone"]):
        ask(server)


def test_whatever_model_is_asked_for_it_is_503_while_the_one_that_is_here_is_loaded():
    service = Service(None, MadeUp, Limits())  # whose name is its task's, and not known yet
    with pytest.raises(Refusal, match="is being loaded") as error:
        service.check_model("hotel_reviews")
    assert error.value.status == 503


def test_a_classifier_that_is_being_loaded_answers_503():
    classifier = MadeUp()
    classifier.gate.clear()
    with running(classifier, wait=False) as server:
        with pytest.raises(openai.InternalServerError, match="is being loaded") as error:
            ask_openai(server)
        assert error.value.status_code == 503 and error.value.response.headers["retry-after"] == "2"
        assert HTTP.get(f"{server.url}/ready").status_code == 503
        assert HTTP.get(f"{server.url}/health").json() == {"status": "ok"}
        classifier.gate.set()
        with typesafe.TypeSafeClient(
            base_url=server.url, api_key="any", model=MODEL, timeout=3600
        ) as client:  # it tries again
            answer = client.system_one("好", {"tone": typesafe.Choice(criteria={"正面": None, "负面": None})})
        assert answer.choices["tone"].choice == "正面" and HTTP.get(f"{server.url}/ready").status_code == 200


def test_a_packed_body_is_unpacked_and_bounded(server):
    import pyarrow as pa

    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    for packing in ("zstd", "gzip"):
        for text, status in (("好" * 5000, 200), ("好" * 9_000_000, 413)):
            sink = pa.BufferOutputStream()
            with pa.CompressedOutputStream(sink, packing) as stream:
                stream.write(json.dumps({"input": text}).encode())
            packed = sink.getvalue().to_pybytes()
            answer = HTTP.post(
                f"{server.url}/classify", content=packed, headers={**headers, "Content-Encoding": packing}
            )
            assert answer.status_code == status, answer.text


def test_metrics_count_what_was_answered_and_hold_no_text():
    with running() as server:
        HTTP.post(f"{server.url}/classify", json={"input": ["好好好", "秘密" * 300]})
        HTTP.get(f"{server.url}/秘密")
        text = HTTP.get(f"{server.url}/metrics").text
    for line in (
        'classifier_answers_total{label="正面"} 2.0',
        "classifier_abstained_total 1.0",
        "classifier_cut_total 1.0",
        'classifier_requests_total{route="/classify",status="200"} 1.0',
        'classifier_requests_total{route="other",status="404"} 1.0',
        "classifier_ready 1.0",
    ):
        assert line in text
    assert "秘密" not in text and "process_resident_memory_bytes" in text


def test_the_interface_is_described(server):
    answer = HTTP.get(f"{server.url}/openapi.json", headers={"Authorization": f"Bearer {KEY}"}).json()
    paths = {"/v1/systemone", "/v1/decisions", "/classify", "/v1/chat/completions", "/v1/models", "/metrics", "/ready"}
    assert paths <= answer["paths"].keys()
    assert HTTP.get(f"{server.url}/openapi.json").status_code == 401
