"""Which addresses a model's download may speak to: https hosts of a list, at public addresses, at every redirect.

A hub's answer decides where the bytes come from; without a rule it could name the machine's own services, or a cloud's
169.254.169.254. Names are checked in each request, numbers in the very look-up whose result is connected to, so that a
name that changes its address in between gains nothing.
"""

import ipaddress
import os
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch
from urllib.parse import urlsplit

from hub.failures import HubFault
from workspace.errors import UserError

# The hubs, and where their files lie: huggingface.co/docs/hub/models-downloading names hf.co and xethub.hf.co;
# ModelScope redirects to cdn-lfs-*.modelscope.cn, and hf-mirror.com to Hugging Face's own.
HOSTS = (
    "huggingface.co", "*.huggingface.co", "hf.co", "*.hf.co", "hf-mirror.com", "*.hf-mirror.com",
    "modelscope.cn", "*.modelscope.cn", "modelscope.ai", "*.modelscope.ai",
)  # fmt: skip
PORTS = {"https": 443, "http": 80}
REMEDY = "where you trust it, name it in HUB_HOSTS (a host, *.host, or all of http://host:port for a hub of your own)"


class Origin(NamedTuple):
    """Scheme, host and port of a URL."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port != PORTS.get(self.scheme) else "")


class Allowed(NamedTuple):
    """What may be spoken to: `hosts` by https at public addresses, `origins` as they stand, private ones too."""

    hosts: tuple[str, ...]
    origins: tuple[Origin, ...]


class HostRefused(HubFault):
    """A request that would leave the allowed hosts."""


def allowed() -> Allowed:
    """The default hosts and those of HUB_HOSTS (separated by commas or spaces). Raises `UserError`."""
    hosts, origins = list(HOSTS), []
    for word in os.environ.get("HUB_HOSTS", "").replace(",", " ").split():
        if "://" in word:
            origins.append(origin(word))
        elif "/" in word or ":" in word or word.removeprefix("*.").strip(".") == "" or "*" in word.removeprefix("*."):
            raise UserError(
                f"HUB_HOSTS: {word}: give a host, *.host, or scheme://host:port, such as http://127.0.0.1:8123"
            )
        else:
            hosts.append(word.lower())
    return Allowed(tuple(hosts), tuple(origins))


def origin(url: str) -> Origin:
    """The origin of a URL. Raises `UserError` where it has none."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS[parts.scheme]
        host = (parts.hostname or "").rstrip(".").lower()
    except (ValueError, KeyError) as error:
        raise UserError(f"{url[:80]}: this is no http or https address: check it") from error
    if not host:
        raise UserError(f"{url[:80]}: this address has no host: check it")
    return Origin(parts.scheme, host, port)


def check_url(url: str) -> None:
    """Raise `HostRefused` unless a download may ask this URL."""
    try:
        asked, rules = origin(url), allowed()
    except UserError as error:
        raise HostRefused(str(error)) from error
    if asked in rules.origins:
        return
    if asked.scheme != "https" or asked.port != PORTS["https"]:
        raise HostRefused(f"{asked} is not plain https, so that nobody could be told from the hub; {REMEDY}")
    if not any(_matches(asked.host, host) for host in rules.hosts):
        raise HostRefused(f"{asked} is none of the hubs' hosts, and was not asked; {REMEDY}")


def check_address(host: str, port: int, address: str) -> None:
    """Raise `HostRefused` for an address that is not public, unless the user has named the host and port as theirs."""
    if any((host, port) == (mine.host, mine.port) for mine in allowed().origins) or public(address):
        return
    raise HostRefused(f"{host} is {address}, an address of this machine or of a private network; {REMEDY}")


def public(address: str) -> bool:
    """Whether an IP address is one of the public internet; for IPv6 that carry an IPv4 address, whether that one is."""
    number = ipaddress.ip_address(address.split("%")[0])
    if isinstance(number, ipaddress.IPv6Address):
        inner = number.ipv4_mapped or number.sixtofour or (number.teredo or (None, None))[1]
        if number in ipaddress.ip_network("64:ff9b::/96") or number in ipaddress.ip_network("::/96"):
            inner = ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)
        if inner is not None:
            return public(str(inner))
    return number.is_global and not number.is_multicast


@contextmanager
def guarded() -> Iterator[None]:
    """Within it every look-up of a name is checked, and every request of `requests`; httpx has a hook of its own.

    A proxy of the environment may have a private address; it looks the names up itself.
    """
    import requests

    look_up, send = socket.getaddrinfo, requests.Session.send
    proxies = {urlsplit(url if "://" in url else f"//{url}").hostname for url in urllib.request.getproxies().values()}

    def checked_look_up(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        found = look_up(host, port, *args, **options)
        name = (host.decode() if isinstance(host, bytes) else str(host)).rstrip(".").lower()
        if name not in proxies:
            for entry in found:
                check_address(name, int(port or 0), entry[4][0])
        return found

    def checked_send(session: Any, request: Any, **options: Any) -> Any:
        check_url(request.url)
        return send(session, request, **options)

    with patch.object(socket, "getaddrinfo", checked_look_up), patch.object(requests.Session, "send", checked_send):
        yield


def _matches(host: str, rule: str) -> bool:
    return host.endswith(rule[1:]) if rule.startswith("*.") else host == rule
