"""Why a download failed, in plain words with a remedy, from the errors of both hubs' clients."""

import os
import ssl
from collections.abc import Iterable
from contextlib import suppress

from workspace.errors import UserError

REMEDY = "give a folder with --model PATH, connect to the hub, or copy the weights into its cache"
BYTES_PER_SECOND = 1024  # slower than this for as long as patience lasts is as good as stalled


class HubFault(Exception):
    """What the hub did wrong, in plain words; another try within this start is of no use."""


class Damaged(Exception):
    """A file that came is not the one the hub lists; it has been removed, so that the next try fetches it anew."""


def patience() -> int:
    """Seconds without progress after which a download is given up: HUB_PATIENCE, else 60."""
    given = os.environ.get("HUB_PATIENCE") or "60"
    if not given.isdecimal() or int(given) < 1:
        raise UserError(f"HUB_PATIENCE={given}: give whole seconds, 1 or more")
    return int(given)


def reason(error: BaseException) -> str:
    """Why a download failed, in plain words, and what to do."""
    causes = list(causes_of(error))
    for cause in causes:
        if isinstance(cause, HubFault | Damaged):
            return str(cause)
    if any(isinstance(cause, ssl.SSLError) or "CERTIFICATE_VERIFY_FAILED" in str(cause) for cause in causes):
        return (
            "its certificate is not trusted; behind a company's proxy, name the proxy's certificate in SSL_CERT_FILE "
            "and REQUESTS_CA_BUNDLE"
        )
    if status := next((code for cause in causes if (code := status_of(cause))), None):
        return _status_reason(status)
    names = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    text = " ".join(str(cause) for cause in causes)
    if "TooManyRedirects" in names or "redirect" in text.lower():
        return f"it redirects in a circle; check the endpoint's address, or {REMEDY}"
    if names & {"FileIntegrityError", "FileSizeMismatchError"} or "Consistency check failed" in text:
        return (
            "a file that came is not the one the hub lists (wrong length or hash, or a login page in its place); "
            f"log in to the network, run the same command again, or {REMEDY}"
        )
    if "JSONDecodeError" in names or "FileMetadataError" in names or "Expecting value" in text:
        return f"its answers are not a hub's (a login page, or another server); log in to the network, or {REMEDY}"
    if names & {"TimeoutException", "Timeout", "TimeoutError", "_DownloadTooSlowError", "_DownloadDeadlineError"}:
        return f"it stalled for {patience()} s or sent less than {BYTES_PER_SECOND} B/s; {REMEDY}"
    if names & {"ConnectionError", "NetworkError", "TransportError", "RemoteProtocolError", "ConnectError"}:
        return f"the connection broke again and again; run the same command again to go on, or {REMEDY}"
    return f"{' '.join(str(error).split())[:200]}; {REMEDY}"


def _status_reason(status: int) -> str:
    if status in (401, 403):
        return (
            f"it refuses (HTTP {status}): the model may be private or gated; accept its terms on the hub's page and "
            "set HF_TOKEN or MODELSCOPE_API_TOKEN"
        )
    if status == 404:
        return "there is no such model or file there (HTTP 404); check the spelling of owner/name, or use the other hub"
    if status == 429:
        return f"it takes no more requests for now (HTTP 429); run the same command again later, or {REMEDY}"
    return f"it fails (HTTP {status}); run the same command again later, or {REMEDY}"


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an error names, where it is one of failure."""
    for holder in (error, getattr(error, "response", None)):
        with suppress(TypeError, ValueError):
            if (code := int(getattr(holder, "status_code", None) or 0)) >= 400:
                return code
    return None


def causes_of(error: BaseException) -> Iterable[BaseException]:
    """The error, what it lists of single files, and what led to it, each once."""
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        files = getattr(one, "failed_files", None)
        waiting += list(files.values()) if isinstance(files, dict) else []
        waiting += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
        waiting += [arg for arg in one.args if isinstance(arg, BaseException)]
