"""One real run on a stranger's table, task and folders: nothing in it is obeyed, lost or shown as anything but text.

Two hundred hostile cells, hostile names of folders, files, columns, labels and prompts, and secrets in the environment,
from the CSV through real ms-swift to the report.
"""

import csv
import os
import shlex
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.hostile_cells import CELLS
from workspace.files import read_json, read_jsonl
from workspace.paths import CONFIGS, ROOT

pytestmark = pytest.mark.swift

FOLDER = '-n it\'s a "day" $(touch canary) `touch canary` ;& | <b>任务 #7:8 %s {x}\nmodel: evil'
WORDS = ('正面 <b>"', "负面 $(touch canary)")
TEXT, LABEL = 'a,"=HYPERLINK(1)', "标签 $(touch canary)\n二"
SECRETS = {
    "HF_TOKEN": "hf_canaryofhuggingface",
    "HUGGING_FACE_HUB_TOKEN": "hf_canaryofhuggingface2",
    "MODELSCOPE_API_TOKEN": "ms-canaryofmodelscope",
    "WANDB_API_KEY": "0canaryofwandb" * 3,
    "SWANLAB_API_KEY": "canaryofswanlab",
    "HTTPS_PROXY": "http://somebody:canaryoftheproxy@127.0.0.1:9",
}
PLAIN = 60


class Done(NamedTuple):
    """The finished run, its dataset's folder, what it printed, and the folder that all lies in."""

    run: Path
    dataset: Path
    said: str
    base: Path


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, small_model: Path):
    base = tmp_path_factory.mktemp("hostile")
    folder = base / FOLDER
    folder.mkdir()
    shutil.copytree(small_model, folder / "--model $(touch canary)")
    table = folder / "-rf 表 $(touch canary).csv"
    plain = [
        f"第{at}次入住，{'房间干净，服务热情' if at % 2 else '房间太脏，服务冷淡'}，{at * 37}元" for at in range(PLAIN)
    ]
    with open(table, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow((LABEL, TEXT, "=1+1"))
        writer.writerows((at % 2, text, "=1+1") for at, text in enumerate([*CELLS, *plain]))
        # Set aside, with label and text, for a label that the task has not.
        writer.writerows((cell, cell, "") for cell in CELLS[40:60])
    task = {
        "name": "-hostile_task",
        "csv": str(table),
        "columns": {"text": TEXT, "label": LABEL},
        "labels": {"1": WORDS[0], "0": WORDS[1]},
        "system": "<script>window.hacked = 1</script> $(touch canary)\n",
        "prompts": {"$(touch canary)\n- a: b": "评论 <b> `touch canary`：{review}\n{0[0]} 是：", "other": "{review}"},
        "prompt": "$(touch canary)\n- a: b",
        "split": {"scheme": "stratified", "seed": 42, "val": 0.1, "test": 0.7},
        "max_length": 160,
        "max_reject_share": 0.5,
        "default_recipe": "minimind2-small",
        "provenance": CELLS[0],
        "licence": CELLS[21],
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(task, allow_unicode=True), encoding="utf-8")
    for file in ("models/minimind2-small.yaml", "infer.yaml"):  # recipes of the task's own, with another length
        (folder / Path(file).name).write_bytes((CONFIGS / file).read_bytes())
    run = folder / "run --fresh"
    result = subprocess.run(
        ["bash", str(ROOT / "run_sft.sh"), f"./{FOLDER}", "--model", f"{FOLDER}/--model $(touch canary)",
         "--max_steps", "3", "--eval_strategy", "no", "--run", f"{FOLDER}/run --fresh"],
        cwd=base, capture_output=True, text=True, env={**os.environ, **SECRETS},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    dataset = Path(read_json(run / "run.json")["dataset"])
    yield Done(run, dataset, result.stdout + result.stderr, base)
    shutil.rmtree(dataset)


def cells_of(path: Path) -> list[list[str]]:
    with open(path, encoding="utf-8-sig", newline="") as stream:
        return list(csv.reader(stream, strict=True))


def test_every_cell_is_in_a_split_or_set_aside_as_it_was(done: Done) -> None:
    rows = [row for split in ("train", "val", "test") for row in read_jsonl(done.dataset / f"{split}.jsonl")]
    aside = cells_of(done.dataset / "rejects.csv")[1:]
    assert len(rows) + len(aside) == len(CELLS) + PLAIN + 20
    by_row = {int(row["id"]): row["review"] for row in rows} | {int(row[0]): row[4] for row in aside}
    for number, cell in enumerate(CELLS, 1):
        assert by_row[number] in (cell, f"'{cell}"), number
    assert len({text for text in by_row.values() if text in CELLS}) > 180


def test_nothing_was_run(done: Done) -> None:
    for place in (done.base, done.dataset, ROOT):
        found = [path for path in place.rglob("canary") if not {".venv", ".git"} & set(path.parts)]
        assert not found


def test_no_secret_of_the_environment_is_in_any_file_or_line(done: Done) -> None:
    files = [path for place in (done.base, done.dataset) for path in place.rglob("*") if path.is_file()]
    assert len(files) > 60 and any(path.suffix == ".log" for path in files)
    for path in files:
        data = path.read_bytes()
        for name in SECRETS:
            for form in (SECRETS[name], "canaryoftheproxy"):
                assert form.encode() not in data, f"{name} in {path.name}"
    assert not any(secret in done.said for secret in SECRETS.values()) and "canaryof" not in done.said


def test_the_terminal_is_told_nothing_that_it_would_obey(done: Done) -> None:
    obeyed = {one for one in done.said if unicodedata.category(one) in ("Cc", "Cf") and one not in "\n\r\t"}
    assert not obeyed, obeyed


def test_the_plan_says_what_was_asked_for(done: Done) -> None:
    plan, sft = read_json(done.run / "run.json"), yaml.safe_load((done.run / "sft.yaml").read_text(encoding="utf-8"))
    assert sft["model"] == str(done.base / FOLDER / "--model $(touch canary)")
    assert sft["output_dir"] == str(done.run / "train") and int(sft["max_steps"]) == 3
    assert shlex.split(plan["command"])[2] == f"./{FOLDER}" and sorted(plan["labels"]) == sorted(WORDS)
    assert done.dataset.parent == ROOT / "dataset_jsonl"


def test_no_cell_of_a_csv_is_a_formula(done: Done) -> None:
    command = [sys.executable, "-m", "data_prep.audit", str(done.dataset), "--split", "test"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0 and "\x1b" not in result.stdout, result.stderr
    audit = cells_of(done.dataset / "audit-test.csv")
    rejects = cells_of(done.dataset / "rejects.csv")
    assert len(audit) > 5 and len(rejects) > 20
    for cells in (audit, rejects):
        assert len({len(row) for row in cells}) == 1
        for cell in (cell for row in cells for cell in row):
            assert not cell.lstrip().startswith(tuple("=+-@＝＋－＠")) and cell[:1] not in ("\t", "\r", "\n"), cell


def test_markdown_shows_it_all_as_text(done: Done) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    parser = markdown_it.MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for path in (done.run / "report.md", done.dataset / "README.md"):
        text = path.read_text(encoding="utf-8")
        parsed = parser.parse(text)
        kinds = {token.type for block in parsed for token in (block, *(block.children or ()))}
        assert not kinds & {"html_inline", "html_block", "link_open", "em_open", "s_open"}, path.name
        assert not {one for one in text if unicodedata.category(one) in ("Cc", "Cf") and one != "\n"}
    images = [token for block in parser.parse((done.run / "report.md").read_text()) for token in block.children or ()]
    assert all("/" not in token.attrs["src"] for token in images if token.type == "image")


@pytest.mark.browser
def test_the_page_shows_it_all_as_text_and_asks_for_nothing(done: Done) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
    from tests.browser import ARGUMENTS, CHROMIUM

    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    reviews = [row["review"] for row in read_jsonl(done.run / "rows.jsonl")]
    assert len(set(reviews) & set(CELLS)) > 100
    troubles: list[str] = []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page()
        address = (done.run / "report.html").as_uri()
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (troubles.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: request.url == address or troubles.append(f"request: {request.url}"))
        page.goto(address)
        shown: list[str] = []
        while True:
            shown += page.locator("#rows p.review").evaluate_all("all => all.map(one => one.textContent)")
            assert page.locator("#rows img, #rows script, #rows a, #rows iframe, #rows style").count() == 0
            if len(shown) >= len(reviews) or not page.locator("#next").is_enabled():
                break
            page.locator("#next").click()
        hacked = page.evaluate("window.hacked")
        browser.close()
    assert troubles == [] and hacked is None and len(shown) == len(reviews)
    for one, review in zip(shown, reviews, strict=True):
        assert one == review or (len(review) > 400 and one == review[:400] + "…")  # a long one opens on demand
