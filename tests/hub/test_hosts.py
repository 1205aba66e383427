"""Which addresses a download may ask: the list, and the redirects of a real server."""

from pathlib import Path

import pytest

from hub.hosts import HostRefused, allowed, check_url
from tests.hub.test_download import HUBS, find, refused, whole
from tests.hub_server import HubServer
from workspace.errors import UserError


@pytest.mark.parametrize(
    "url",
    [
        "https://huggingface.co/api/models/a/b",
        "https://HuggingFace.co:443/a",
        "https://huggingface.co./a",
        "https://cas-bridge.xethub.hf.co/xet?x=1",
        "https://us.aws.cdn.hf.co/x",
        "https://www.modelscope.cn/api/v1",
        "https://cdn-lfs-cn-1.modelscope.cn/prod",
        "https://hf-mirror.com/api",
    ],
)
def test_the_hubs_and_their_storage_are_allowed(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://huggingface.co/a",
        "https://huggingface.co:8443/a",
        "https://huggingface.co.evil.example/a",
        "https://evilhuggingface.co/a",
        "https://huggingface.co@evil.example/a",
        "https://evil.example/huggingface.co",
        "https://127.0.0.1/a",
        "https://2130706433/a",
        "https://0177.0.0.1/a",
        "https://0x7f000001/a",
        "https://[::1]/a",
        "https://[::ffff:169.254.169.254]/a",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "ftp://huggingface.co/a",
        "https:///a",
        "https://huggingface.co:port/a",
    ],
)
def test_what_is_not_on_the_list_is_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(HostRefused) as error:
        check_url(url)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("listed", "url", "taken"),
    [
        ("hub.company.example", "https://hub.company.example/a", True),
        ("hub.company.example", "http://hub.company.example/a", False),
        ("hub.company.example", "https://hub.company.example:8443/a", False),
        ("*.company.example", "https://cdn.hub.company.example/a", True),
        ("*.company.example", "https://company.example/a", False),
        ("a.example, http://127.0.0.1:8123", "http://127.0.0.1:8123/a", True),
        ("http://127.0.0.1:8123", "http://127.0.0.1:8124/a", False),
        ("http://127.0.0.1:8123", "https://127.0.0.1:8123/a", False),
        ("https://hub.company.example:8443", "https://hub.company.example:8443/a", True),
        ("http://[::1]:8123", "http://[::1]:8123/a", True),
    ],
)
def test_the_user_extends_the_list(listed: str, url: str, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_HOSTS", listed)
    if taken:
        check_url(url)
    else:
        with pytest.raises(HostRefused, match="name it in HUB_HOSTS"):
            check_url(url)
    check_url("https://huggingface.co/a")


@pytest.mark.parametrize("word", ["127.0.0.1:8123", "hub/path", "*", "*.", "a.*.example", "ftp://a.example", "http://"])
def test_a_list_that_cannot_be_read_is_told(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_HOSTS", word)
    with pytest.raises(UserError):
        allowed()


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9 is not plain https"),
        ("https://storage.evil.example", "is none of the hubs' hosts"),
        ("http://169.254.169.254", "is not plain https"),
        ("https://[::ffff:127.0.0.1]", "is none of the hubs' hosts"),
    ],
)
def test_a_redirect_elsewhere_is_not_followed(storage: str, words: str, tmp_path: Path) -> None:
    """By Hugging Face's client, which has a hook for it; ModelScope's has none."""
    with HubServer(cdn=storage) as server:
        result = find("hugging-face", server.url, tmp_path)
        refused(result, words)
        assert "name it in HUB_HOSTS" in result.stderr


@pytest.mark.parametrize("hub", HUBS)
def test_an_endpoint_that_is_not_on_the_list_is_not_asked(hub: str, tmp_path: Path) -> None:
    with HubServer() as server:
        result = find(hub, server.url, tmp_path, HUB_HOSTS="")
        assert result.returncode == 2 and not server.sent_headers
        assert result.stderr.startswith(f"error: {server.url} is not plain https") and result.stderr.count("\n") == 1
        whole(find(hub, server.url, tmp_path, HUB_HOSTS=server.url))


def test_an_endpoint_that_redirects_is_taken_to_answer_and_is_not_followed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from hub.find import hub_reachable

    for name in ("USE_HF", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with HubServer("loop") as server:
        monkeypatch.setenv("HUB_HOSTS", server.url)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", f"{server.url}/loop")
        assert hub_reachable()
        assert len(server.sent_headers) == 1
