"""Which addresses a download may speak to: the list, the numbers behind the names, the redirects of a real server."""

import socket
from pathlib import Path

import pytest

from hub import hosts as hub_hosts
from hub.hosts import HostRefused, check_address, check_url, guarded, public
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
        hub_hosts.allowed()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254",
        "100.100.100.200", "198.18.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1",
        "fd00:ec2::254",         "ff02::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "::127.0.0.1", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_addresses_that_are_not_of_the_public_internet(address: str) -> None:
    assert not public(address)
    with pytest.raises(HostRefused, match="a private network"):
        check_address("huggingface.co", 443, address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses(address: str) -> None:
    check_address("huggingface.co", 443, address)


@pytest.mark.parametrize(
    "name", ["localhost", "127.0.0.1", "2130706433", "0177.0.0.1", "0x7f.1", "::ffff:127.0.0.1", "::1"]
)
def test_what_the_system_makes_of_a_name_is_checked(name: str) -> None:
    with HubServer() as server, guarded(), pytest.raises(HostRefused, match="an address of this machine"):
        socket.create_connection((name, server.port), 5)


def test_outside_of_a_download_nothing_is_checked() -> None:
    with HubServer() as server:
        with guarded():
            pass
        socket.create_connection(("127.0.0.1", server.port), 5).close()


@pytest.mark.parametrize("library", ["httpx", "requests"])
@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1"])
def test_a_hubs_name_that_leads_inside_is_refused_where_it_is_connected_to(
    library: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resolver that lies, as by DNS rebinding: the first answer is public, those that follow are not."""
    import httpx
    import requests

    answers = ["8.8.8.8"]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def lying(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        number = answers.pop() if answers else address
        return [(family, socket.SOCK_STREAM, 6, "", (number, port))]

    monkeypatch.setattr(socket, "getaddrinfo", lying)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    socket.getaddrinfo("huggingface.co", 443)  # a check before, by itself, would have been content
    with guarded(), pytest.raises(HostRefused, match=r"huggingface\.co is "):
        (httpx.Client() if library == "httpx" else requests.Session()).get("https://huggingface.co/api")


@pytest.mark.parametrize("hub", HUBS)
@pytest.mark.parametrize(
    ("storage", "words"),
    [
        ("http://127.0.0.1:9", "http://127.0.0.1:9 is not plain https"),
        ("https://storage.evil.example", "is none of the hubs' hosts"),
        ("http://169.254.169.254", "is not plain https"),
        ("https://[::ffff:127.0.0.1]", "is none of the hubs' hosts"),
    ],
)
def test_a_redirect_elsewhere_is_not_followed(hub: str, storage: str, words: str, tmp_path: Path) -> None:
    with HubServer(cdn=storage) as server:
        result = find(hub, server.url, tmp_path)
        refused(result, words)
        assert "name it in HUB_HOSTS" in result.stderr


@pytest.mark.parametrize("hub", HUBS)
def test_a_listed_host_with_a_private_address_is_refused(hub: str, tmp_path: Path) -> None:
    """localhost as a name on the list is no permission for 127.0.0.1: only the whole http://host:port is."""
    with HubServer(cdn="https://localhost") as server:
        refused(find(hub, server.url, tmp_path, HUB_HOSTS=f"{server.url} localhost"), "an address of this machine")


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
