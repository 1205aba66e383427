"""report.html and report.md from their templates.

The page is one file with everything inside, which opens from a folder without a network. Reviews and answers are
strangers' text: in the page they are only inside a JSON block, from where the script puts them in as text; everything
else goes through the template engine's escaping, which for report.md is that of `workspace.markdown`. The page's
content security policy allows no source from outside, and no script but the one whose hash it names.
"""

import base64
import hashlib
import inspect
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.reporting import wording
from eval.reporting.charts import FRAME, RADIUS, line_charts
from eval.reporting.class_tables import MATRIX, class_rows, confusions
from eval.reporting.context import EXAMPLE_KINDS, EXAMPLES, SHOWN, browser_rows, example_rows, report_context, shown_id
from eval.reporting.gain_wording import PARTS, TOO_FEW, gain_finding, gain_sentence
from eval.scoring.decision import METRIC_NAMES
from eval.scoring.predictions import Metrics, Row
from workspace import bilingual
from workspace.markdown import escape

TEMPLATES = Path(__file__).parent / "templates"


def render_html(metrics: Metrics, rows: Sequence[Row]) -> str:
    """The page for one run: `metrics` is metrics.json, `rows` are those of rows.jsonl; without rows none are shown."""
    script = template_text("language.js") + template_text("report.js")
    page = render(
        "report.html.j2",
        **report_context(metrics),
        charts=line_charts(metrics),
        with_rows=bool(rows),
        style=Markup(template_text("report.css")),  # noqa: S704  our own file
        script=Markup(script),  # noqa: S704  our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(embedded_json(browser_rows(metrics, rows))),  # noqa: S704  it holds no <
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair, as JSON may hold, is no UTF-8


def render_markdown(metrics: Metrics, rows: Sequence[Row], pictures: Sequence[str]) -> str:
    """report.md for one run; `pictures` are the file names of the PNGs that were drawn."""
    return render(
        "report.md.j2",
        **report_context(metrics),
        pictures=pictures,
        examples=example_rows(rows),
        example_kinds=EXAMPLE_KINDS,
        examples_shown=EXAMPLES,
        characters_shown=SHOWN,
    )


def render(template: str, **variables: Any) -> str:
    """A template of this room, filled in; of Markdown without superfluous blank lines."""
    markdown = template.endswith(".md.j2")
    text = _environment(markdown).get_template(template).render(**variables)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n" if markdown else text


def embedded_json(value: Any) -> str:
    """JSON that can be put inside a script element: no "<" that could end it, no line separator."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def template_text(name: str) -> str:
    """A file of the templates' folder."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _escape_markdown(value: Any) -> Markup:
    return value if isinstance(value, Markup) else Markup(escape(value))  # noqa: S704  escaped


@cache
def _environment(markdown: bool) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_escape_markdown if markdown else None,
    )
    environment.filters["shown_id"] = shown_id
    environment.filters.update(inspect.getmembers(bilingual, inspect.isfunction))  # percent, number, decimal, …
    environment.globals.update(
        name_of=wording.reading_name,
        stage_of=wording.stage_of,
        slice_value=wording.slice_value,
        classes_note=wording.classes_note,
        gain_sentence=gain_sentence,
        gain_finding=gain_finding,
        gain_parts=PARTS,
        too_few=TOO_FEW,
        metric_names=METRIC_NAMES,
        codes=wording.CODES,
        head_note=wording.HEAD_NOTE,
        slice_name=wording.slice_name,
        left_out=wording.LEFT_OUT,
        unparsed=wording.UNPARSED,
        class_rows=class_rows,
        confusions=confusions,
        matrix=MATRIX,
        frame=FRAME,
        radius=RADIUS,
    )
    return environment
