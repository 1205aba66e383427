"""report.html: one file with everything inside, which opens from a folder without a network.

Reviews and answers are strangers' text. In the page they stand only inside a JSON block, from where the script puts
them in as text; everything else goes through the template engine's escaping. The content security policy allows no
source from outside, and no script but the one whose hash it names.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from eval.reporting import wording
from eval.reporting.chart_data import answer_reading, stage_of
from eval.reporting.svg_charts import charts
from eval.robustness.table import COLUMNS, NOTE, WAYS, injection_rows, injection_sentence, injection_ways
from eval.scoring.predictions import headline_pair

TEMPLATES = Path(__file__).parent / "templates"
FACTS = ("task", "recipe", "model", "csv", "limit", "seed", "machine", "git", "started")
FILTERS = (
    "percent signed interval signed_interval decimal p_value number parameters duration milliseconds".split()  # noqa: SIM905
)


def render_html(metrics: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    """The page for one run: `metrics` is metrics.json, `rows` are those of rows.jsonl."""
    script = _template_text("report.js")
    pair = headline_pair(metrics["readings"])
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            m=metrics,
            readings=metrics["readings"],
            pair=pair,
            shown={stage: answer_reading(metrics, stage) for stage in ("before", "after")},
            compared=main_comparison(metrics, pair),
            baseline=best_baseline(metrics),
            charts=charts(metrics),
            slices=slice_tables(metrics, pair),
            facts=run_facts(metrics),
            decision=wording.decision(metrics, pair),
            injection=injection_part(metrics),
            disputed=wording.disputed_note(metrics),
            style=Markup(_template_text("report.css")),  # noqa: S704  our own file
            script=Markup(script),  # noqa: S704  our own file
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            data=Markup(embedded_json(browser_rows(metrics, rows, pair))),  # noqa: S704  it holds no <
        )
    )
    return page.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair, as JSON may hold, is no UTF-8


def injection_part(metrics: Mapping[str, Any]) -> dict[str, Any] | None:
    """The section on reviews that give orders; None where that was not measured."""
    injection = metrics["injection"]
    if not injection:
        return None
    return {
        "sentence": injection_sentence(injection),
        "columns": COLUMNS,
        "ways": [WAYS[name] for name in injection_ways(injection)],
        "rows": injection_rows(injection),
        "note": NOTE,
    }


def browser_rows(
    metrics: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], pair: tuple[str, str] | None
) -> dict[str, Any]:
    """What the error browser shows, packed: rows as lists, labels by their position, answers only where they differ
    from the label word that they were read as."""
    labels, names = list(metrics["labels"]), list(metrics["readings"])
    place = {label: k for k, label in enumerate(labels)} | {None: -1}
    sure = next((n for n in ("after_score", "after_score_threshold") if n in names and _has_p(rows, n)), None)

    def told(reading: Mapping[str, Any]) -> list[Any]:
        answer = reading["answer"] if reading["answer"] != reading["label"] else None
        return [place[reading["label"]], reading["p"], answer]

    return {
        "labels": labels,
        "readings": [{"zh": t.zh, "en": t.en, "stage": stage_of(n)} for n in names for t in [wording.reading_name(n)]],
        "pair": [names.index(name) for name in pair] if pair else [],
        "sure": names.index(sure) if sure else -1,
        "rows": [
            [r["id"], r["review"], place[r["gold"]], r["cut"], r["status"], [told(r["readings"][n]) for n in names]]
            for r in rows
        ],
    }


def embedded_json(value: Any) -> str:
    """JSON that can stand inside a script element: no "<" that could end it, no line separator."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def main_comparison(metrics: Mapping[str, Any], pair: tuple[str, str] | None) -> Mapping[str, Any] | None:
    """The comparison that the verdict rests on."""
    return next((c for c in metrics["comparisons"] if pair and (c["a"], c["b"]) == tuple(pair)), None)


def best_baseline(metrics: Mapping[str, Any]) -> str | None:
    """The baseline with the highest accuracy."""
    baselines = {name: r for name, r in metrics["readings"].items() if r["kind"] == "baseline"}
    return max(baselines, key=lambda name: baselines[name]["accuracy"], default=None)


def slice_tables(metrics: Mapping[str, Any], pair: tuple[str, str] | None) -> dict[str, dict[str, dict[str, Any]]]:
    """The slices of the two readings of the verdict: {by: {value: {reading: slice}}}."""
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for part in metrics["slices"]:
        if pair and part["reading"] in pair:
            tables.setdefault(part["by"], {}).setdefault(part["value"], {})[part["reading"]] = part
    return tables


def run_facts(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What ran, on what, and how long each stage took, as (key, text)."""
    run = metrics["run"]
    facts = [(key, str(run[key])) for key in FACTS if run.get(key) is not None]
    seconds = {stage: wording.duration(s) for stage, s in (run.get("seconds") or {}).items() if s is not None}
    versions = {name: version for name, version in (run.get("versions") or {}).items() if version}
    for key, several in (("seconds", seconds), ("versions", versions)):
        if several:
            facts.append((key, ", ".join(f"{name} {text}" for name, text in several.items())))
    return facts


def _has_p(rows: Sequence[Mapping[str, Any]], reading: str) -> bool:
    return any(row["readings"][reading]["p"] is not None for row in rows)


def _template_text(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({name: getattr(wording, name) for name in FILTERS})
    environment.globals.update(
        name_of=wording.reading_name,
        stage_of=stage_of,
        slice_value=wording.slice_value,
        gain_sentence=wording.gain_sentence,
        selective_sentence=wording.selective_sentence,
        codes=wording.CODES,
        head_note=wording.HEAD_NOTE,
        slice_names=wording.SLICES,
        left_out=wording.LEFT_OUT,
    )
    return environment
