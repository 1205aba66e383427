"""Which addresses a model's download may ask: https hosts of a list, and whole origins that the user names.

What this promises: no endpoint but one of these is asked, and Hugging Face's client follows no redirect elsewhere.
ModelScope's client documents no hook for redirects; it compares every file with the SHA-256 that the hub lists.
"""

import os
from typing import NamedTuple
from urllib.parse import urlsplit

from workspace.errors import UserError

# The hubs, and where their files lie: huggingface.co/docs/hub/models-downloading names hf.co and xethub.hf.co;
# ModelScope redirects to cdn-lfs-*.modelscope.cn, and hf-mirror.com to Hugging Face's own.
HOSTS = (
    "huggingface.co", "*.huggingface.co", "hf.co", "*.hf.co", "hf-mirror.com", "*.hf-mirror.com",
    "modelscope.cn", "*.modelscope.cn", "modelscope.ai", "*.modelscope.ai",
)  # fmt: skip
PORTS = {"https": 443, "http": 80}
REMEDY = "where you trust it, name it in HUB_HOSTS (a host, *.host, or all of http://host:port for a hub of your own)"


class HostRefused(UserError):
    """A request that would leave the allowed hosts."""


class Origin(NamedTuple):
    """Scheme, host and port of a URL."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port != PORTS.get(self.scheme) else "")


def check_url(url: str) -> None:
    """Raise `HostRefused` unless a download may ask this URL, and `UserError` for a HUB_HOSTS that cannot be read."""
    asked = _origin(url)
    hosts, origins = allowed()
    if asked in origins:
        return
    if asked.scheme != "https" or asked.port != PORTS["https"]:
        raise HostRefused(f"{asked} is not plain https, so that anybody could pass for the hub; {REMEDY}")
    if not any(asked.host.endswith(rule[1:]) if rule.startswith("*.") else asked.host == rule for rule in hosts):
        raise HostRefused(f"{asked} is none of the hubs' hosts, and was not asked; {REMEDY}")


def allowed() -> tuple[list[str], list[Origin]]:
    """Hosts that may be asked by https (`host` or `*.host`), and origins that may be asked as they are.

    Both are those of HOSTS and of HUB_HOSTS, separated by commas or spaces. Raises `UserError`.
    """
    hosts, origins = list(HOSTS), []
    for word in os.environ.get("HUB_HOSTS", "").replace(",", " ").split():
        name = word.removeprefix("*.")
        if "://" in word:
            origins.append(_origin(word))
        elif not name.strip(".") or any(sign in name for sign in "/:*"):
            raise UserError(
                f"HUB_HOSTS: {word}: give a host, *.host, or scheme://host:port, such as http://127.0.0.1:8123"
            )
        else:
            hosts.append(word.lower())
    return hosts, origins


def _origin(url: str) -> Origin:
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS[parts.scheme]
        host = (parts.hostname or "").rstrip(".").lower()
    except (ValueError, KeyError) as error:
        raise HostRefused(f"{url[:80]}: this is no http or https address: check it") from error
    if not host:
        raise HostRefused(f"{url[:80]}: this address has no host: check it")
    return Origin(parts.scheme, host, port)
