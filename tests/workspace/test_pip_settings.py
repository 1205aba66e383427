"""What is set for pip reaches uv."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workspace.pip_settings import no_index, read_listing, uv_environment

DEFAULT = "https://default.example/simple"


def handed_on(environ: dict[str, str] | None = None, **settings: str) -> dict[str, str]:
    return uv_environment({key.replace("_", "-"): value for key, value in settings.items()}, environ or {}, DEFAULT)


def test_nothing_set_is_nothing_handed_on() -> None:
    assert handed_on() == {}


def test_a_mirror_takes_the_place_of_the_default_index() -> None:
    assert handed_on(index_url="https://mirror.example/simple") == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_more_indexes_are_asked_after_the_first_as_by_pip() -> None:
    assert handed_on(extra_index_url="file:///a https://b.example\nhttps://c.example") == {
        "UV_INDEX": f"{DEFAULT} file:///a https://b.example",
        "UV_DEFAULT_INDEX": "https://c.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_places_hosts_certificates_waits_and_retries() -> None:
    assert handed_on(
        find_links="/wheels https://links.example/a",
        trusted_host="a.example b.example:8080",
        cert="/ca.pem",
        client_cert="/me.pem",
        default_timeout="180",
        retries="9",
    ) == {
        "UV_FIND_LINKS": "/wheels,https://links.example/a",
        "UV_INSECURE_HOST": "a.example b.example:8080",
        "SSL_CERT_FILE": "/ca.pem",
        "SSL_CLIENT_CERT": "/me.pem",
        "UV_HTTP_TIMEOUT": "180",
        "UV_HTTP_RETRIES": "9",
    }


@pytest.mark.parametrize("proxy", ["user:word@proxy.example:3128", "http://user:word@proxy.example:3128"])
def test_a_proxy_serves_both_protocols(proxy: str) -> None:
    expected = "http://user:word@proxy.example:3128"
    assert handed_on({"HTTPS_PROXY": "http://other.example"}, proxy=proxy) == {
        "HTTP_PROXY": expected,
        "HTTPS_PROXY": expected,
    }


def test_what_is_set_for_uv_itself_wins() -> None:
    own = {"UV_INDEX_URL": "https://own.example", "UV_FIND_LINKS": "/own", "UV_HTTP_TIMEOUT": "5"}
    assert handed_on(own, index_url="https://a.example", find_links="/pip", timeout="7", retries="2") == {
        "UV_HTTP_RETRIES": "2"
    }


@pytest.mark.parametrize(("value", "is_set"), [("1", True), ("true", True), ("Yes", True), ("0", False), ("", False)])
def test_no_index(value: str, is_set: bool) -> None:
    assert no_index({"no-index": value}) is is_set
    assert not no_index({})


def test_pip_s_own_listing_is_read(tmp_path: Path) -> None:
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://one.example/simple\ntimeout = 60\nextra-index-url =\n    file:///a=b\n    file:///c\n"
        "[install]\ntimeout = 70\nfind-links = /from/file\n[download]\nretries = 1\n"
    )
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    environ |= {"PIP_CONFIG_FILE": str(config), "HOME": str(tmp_path), "PIP_FIND_LINKS": "/from/environment /too"}
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listing = subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout
    settings = read_listing(listing)
    assert settings["index-url"] == "https://one.example/simple"
    assert settings["extra-index-url"].split() == ["file:///a=b", "file:///c"]
    assert settings["timeout"] == "70"
    assert settings["find-links"] == "/from/environment /too"
    assert "retries" not in settings
