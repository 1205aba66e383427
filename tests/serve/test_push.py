"""A bundle sent to a hub: printed alone until it is confirmed, with the user's token, whole, to both kinds of hub."""

import pytest

from serve.bundle import files_in
from serve.push import Destination, check_destination, push
from tests.hub_server import HubServer
from workspace.errors import UserError
from workspace.files import write_json


@pytest.fixture
def bundle(tmp_path):
    folder = tmp_path / "mine"
    files = {"README.md": b"---\nlicense: mit\n---\n# mine\n", "config.json": b"{}", "report/report.md": b"0.8\n"}
    for name, data in {**files, "model.safetensors": bytes(range(256)) * 40, ".swift-sft.json": b"{}"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    write_json(folder / "classifier.json", {"task": "hotels"})
    return folder


@pytest.fixture
def hub(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.url)
        monkeypatch.setenv("HUB_HOSTS", server.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield server


def destination(kind: str) -> Destination:
    found = check_destination(f"{kind}:me/hotels", True)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["hf", "modelscope"])
def test_nothing_is_sent_before_it_is_confirmed(hub, bundle, capsys, kind):
    push(bundle, destination(kind), confirmed=False)
    said = capsys.readouterr().out
    assert "nothing was sent; with --yes these 5 files, 0.0 MB to me/hotels on " + hub.url in said
    assert "       10,240 bytes  model.safetensors" in said
    assert not hub.made and not hub.received and not hub.sent_headers


@pytest.mark.parametrize(
    ("kind", "private"),
    [
        ("hf", lambda asked: asked["visibility"] == "private"),
        ("modelscope", lambda asked: (asked["Visibility"], asked["License"]) == (1, "mit")),
    ],
)
def test_every_file_arrives_whole_in_a_private_repository(hub, bundle, monkeypatch, tmp_path, kind, private):
    token(monkeypatch, tmp_path)
    push(bundle, destination(kind), confirmed=True)
    wanted = {name: path.read_bytes() for name, path in files_in(bundle).items()}
    assert hub.received == {"me/hotels": {**wanted, "classifier.json": (bundle / "classifier.json").read_bytes()}}
    assert private(hub.made["me/hotels"])
    assert sorted(path.name for path in bundle.iterdir()) == [
        ".swift-sft.json", "README.md", "classifier.json", "config.json", "model.safetensors", "report",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["hf", "modelscope"])
def test_what_an_earlier_bundle_left_is_taken_away_and_nothing_else(hub, bundle, monkeypatch, tmp_path, kind):
    token(monkeypatch, tmp_path)
    (bundle / "linear").mkdir()
    earlier = [bundle / "linear" / "coefficients.safetensors", bundle / "stack.json"]
    for path in earlier:
        path.write_bytes(b"{}")
    push(bundle, destination(kind), confirmed=True)
    hub.received["me/hotels"]["notes.txt"] = b"my own"
    for path in earlier:
        path.unlink()
    push(bundle, destination(kind), confirmed=True)
    assert set(hub.received["me/hotels"]) == {*files_in(bundle), "classifier.json", "notes.txt"}


@pytest.mark.parametrize("kind", ["hf", "modelscope"])
def test_without_a_token_that_the_hub_takes_it_is_one_sentence(hub, bundle, monkeypatch, tmp_path, kind):
    token(monkeypatch, tmp_path)
    hub.token = "another"
    with pytest.raises(UserError, match=r"could not be sent to .*; your own token is taken from `") as error:
        push(bundle, destination(kind), confirmed=True)
    assert "\n" not in str(error.value) and not hub.received


def token(monkeypatch, home):
    monkeypatch.setenv("HF_TOKEN", "mine")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "mine")
    monkeypatch.setenv("MODELSCOPE_HOME", str(home / "modelscope"))


@pytest.mark.parametrize("given", ["me/hotels", "hf:hotels", "hf:me/a/b", "github:me/hotels", "hf:me/酒店"])
def test_another_place_is_refused_before_any_work(given):
    with pytest.raises(UserError, match="expected modelscope:OWNER/NAME or hf:OWNER/NAME"):
        check_destination(given, False)


def test_confirming_nothing_and_sending_offline_are_refused(monkeypatch):
    with pytest.raises(UserError, match="--yes confirms --push"):
        check_destination(None, True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="forbids the network"):
        check_destination("hf:me/hotels", True)
    assert check_destination(None, False) is None
