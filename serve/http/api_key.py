"""The API key of a server: from a file or the environment, compared in constant time, and in no log.

On a loopback address none is asked for; a request's Host then has to be a loopback name, so that a page of another
site, whose name was pointed to this machine (DNS rebinding), reaches nothing.
"""

import hashlib
import hmac
import ipaddress
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from serve.http.refusal import Refusal
from workspace.errors import UserError

VARIABLE = "SWIFT_SFT_API_KEY"
SHORTEST = 16  # characters
COOKIE = "report"  # lets the page open the report, as a link carries no key


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def read_keys(file: Path | None) -> tuple[str, ...]:
    """The keys of a file, one a line (two while one replaces the other), else that of the environment; maybe none.

    Raises `UserError` for a file without a key, and for a key that is too short or that no header can carry.
    """
    if file is None:
        where, text = VARIABLE, os.environ.get(VARIABLE, "")
        lines = [text] if text else []
    else:
        where = str(file)
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        except FileNotFoundError:
            raise UserError(f"{file}: there is no such file: write the API key into it, one line") from None
        except UnicodeDecodeError:
            raise UserError(f"{file} is no text: write the API key into it, one line") from None
        if not lines:
            raise UserError(f"{file} is empty: write the API key into it, one line")
    for key in lines:
        if len(key) < SHORTEST or not key.isascii() or not key.isprintable() or " " in key:
            raise UserError(
                f"{where}: a key has at least {SHORTEST} printable ASCII characters and no space; "
                "`openssl rand -hex 24` makes one"
            )
    return tuple(lines)


class KeyCheck:
    """Who may ask. Without keys, whoever reaches a loopback address by its own name."""

    def __init__(self, keys: tuple[str, ...], hosts: frozenset[str] | None = None) -> None:
        """`hosts`: names in a request's Host, None for any."""
        self._digests = [hashlib.sha256(key.encode()).digest() for key in keys]
        self.hosts = hosts
        self.session = secrets.token_urlsafe(32)

    @property
    def asks(self) -> bool:
        """Whether a key is needed."""
        return bool(self._digests)

    def check(self, headers: Mapping[str, str], report: bool = False) -> None:
        """Raise `Refusal`: 403 for another Host, 401 for a request without a right key. `report`: the cookie does."""
        host = _name(headers.get("host", ""))
        if self.hosts is not None and host not in self.hosts and not is_loopback(host):
            raise Refusal(403, "this server answers on its own address alone: start it with --host and an API key")
        if not self._digests:
            return
        scheme, _, given = headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(given.strip().encode("utf-8", "surrogateescape")).digest()
        # All are compared: how long it takes says nothing of which one is near.
        right = [hmac.compare_digest(digest, one) for one in self._digests]
        if scheme.lower() == "bearer" and any(right):
            return
        if report and hmac.compare_digest(_cookie(headers.get("cookie", "")).encode(), self.session.encode()):
            return
        raise Refusal(401, "the API key is missing or is another: send it as `Authorization: Bearer KEY`")


def _name(host: str) -> str:
    """The name in a request's Host, without its port; an IPv6 address stands in brackets."""
    bracket, closed, _ = host.partition("]")
    name = bracket[1:] if closed and host.startswith("[") else host.partition(":")[0]
    return name.lower().rstrip(".")


def _cookie(header: str) -> str:
    pairs = (part.strip().partition("=") for part in header.split(";"))
    return next((value for name, _, value in pairs if name == COOKIE), "")
