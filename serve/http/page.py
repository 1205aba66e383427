"""The page at `/`, what it asks of the classifier, and the report and the card that it links to.

The page is one file without anything from elsewhere. Its content security policy names the hashes of its one script
and its one style; texts and answers are put in as text alone.
"""

import base64
import hashlib
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.responses import Response

from eval.reporting.render import template_text
from serve.http.api_key import COOKIE, KeyCheck
from serve.http.refusal import Refusal
from serve.http.service import Service

TEMPLATES = Path(__file__).parent / "templates"
# The report has a policy of its own that names its script's hash; what stands here bounds whatever a bundle brings.
REPORT_POLICY = (
    "sandbox allow-scripts allow-popups; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@cache
def page() -> tuple[str, str]:
    """The page's HTML and its content security policy."""
    own = {name: (TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "table.js", "page.js")}
    style = template_text("report.css") + own["page.css"]
    script = template_text("language.js") + own["table.js"] + own["page.js"]
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    html = environment.get_template("page.html.j2").render(style=Markup(style), script=Markup(script))  # noqa: S704  our own
    hashes = {
        name: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for name, text in (("style", style), ("script", script))
    }
    policy = (
        f"default-src 'none'; script-src 'sha256-{hashes['script']}'; style-src 'sha256-{hashes['style']}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html, policy


def router(service: Service, keys: KeyCheck) -> APIRouter:
    """The routes."""
    routes = APIRouter()

    @routes.get("/", include_in_schema=False)
    async def root() -> Response:
        html, policy = page()
        return Response(html, media_type="text/html", headers={"Content-Security-Policy": policy})

    @routes.get("/v1/classifier", tags=["classifier"])
    async def classifier() -> dict[str, Any]:
        """What the classifier answers, and what that was measured to be worth."""
        file, limits, documents = service.served.classifier.file, service.limits, service.documents
        return {
            "name": service.name,
            "task": file.task,
            "labels": file.labels,
            "synonyms": file.synonyms,
            "columns": file.prompt.columns,
            "reading": file.reading,
            "kind": file.kind,
            "temperature": file.temperature,
            "thresholds": asdict(file.thresholds),
            "costs": file.costs is not None,
            "measured": asdict(file.measured),
            "base_model": Path(file.base_model).name if file.base_model else None,
            "licences": file.licences,
            "max_tokens": file.prompt.max_length,
            "limits": {"rows": limits.rows, "characters": limits.characters, "body": limits.body},
            "report": documents.report is not None,
            "card": documents.card is not None,
        }

    @routes.post("/session", include_in_schema=False)
    async def session() -> Response:
        """A cookie that opens the report alone, as a link carries no key; the guard has checked the key."""
        answer = Response(status_code=204)
        if keys.asks:
            answer.set_cookie(COOKIE, keys.session, httponly=True, samesite="strict", path="/report")
        return answer

    @routes.get("/report", include_in_schema=False)
    async def report() -> Response:
        return _document(service.documents.report, "text/html", REPORT_POLICY)

    @routes.get("/report/card", include_in_schema=False)
    async def card() -> Response:
        return _document(service.documents.card, "text/plain", "default-src 'none'; frame-ancestors 'none'")

    return routes


def _document(path: Path | None, media: str, policy: str) -> Response:
    if path is None or not path.is_file():
        raise Refusal(404, "this classifier came without it")
    return Response(path.read_bytes(), media_type=media, headers={"Content-Security-Policy": policy})
