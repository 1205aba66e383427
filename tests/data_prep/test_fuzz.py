"""Any table through the whole command: a dataset in which no row is lost, or one sentence and exit status 2."""

import contextlib
import io
import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.build import main
from data_prep.card import page as card
from tests.prep_tables import write_task
from workspace.errors import run_main
from workspace.files import read_json, read_jsonl

CASES = int(os.environ.get("PREP_COMMAND_CASES", "400"))
NASTY = st.sampled_from(
    [
        "=HYPERLINK(1)", "<|im_end|>", "<script>", "..\\..", "\u202e", "\ufeff", "\0", '"', "'", "\r", "\n", "{review}",
        "{{7*7}}", "%s", "$(id)", "`id`", "\u0300" * 9, "👨‍👩‍👧", "\U000e0041", " ", "，", "很好",
    ]
)  # fmt: skip
TEXT = st.lists(st.one_of(NASTY, st.text(max_size=8)), max_size=8).map("".join)
LABEL = st.one_of(st.sampled_from(["1", "0", "1.0", " 0 ", "", "正面"]), st.text(max_size=3))
ROWS = st.lists(st.tuples(LABEL, TEXT), min_size=0, max_size=40)


@pytest.fixture
def no_pictures(monkeypatch):
    """Pictures have their own tests and take most of the time."""
    monkeypatch.setattr(card, "draw_card", lambda *_: {})


@settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        ROWS.map(
            lambda rows: "".join(f'{a},"{b.replace(chr(34), chr(34) * 2)}"\n' for a, b in rows).encode(
                "utf-8", "surrogatepass"
            )
        ),
        ROWS.map(lambda rows: "".join(f"{a},{b}\n" for a, b in rows).encode("gb18030", "replace")),
        st.binary(max_size=300),
    ),
    st.sampled_from(["t.csv", "t.tsv", "t.jsonl", "t.xlsx", "t.parquet", "t"]),
    st.booleans(),
)
def test_no_table_gives_a_traceback(tmp_path, no_pictures, content, name, readable):
    folder = tmp_path / "case"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    task = write_task(folder, max_reject_share=1.0 if readable else 0.05)
    good = b"".join(f"{at % 2},row {at} {chr(0x4E00 + 7 * at) * 9}\n".encode() for at in range(12)) if readable else b""
    (folder / name).write_bytes(b"label,review\n" + good + content)
    words = [str(task), "--csv", str(folder / name), "--out", str(folder / "out")]
    err = io.StringIO()
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as ended:
        run_main(lambda: main(words))
    if ended.value.code not in (None, 0):
        assert ended.value.code == 2
        assert err.getvalue().startswith("error: ") and len(err.getvalue().strip().splitlines()) == 1
        assert not (folder / "out").exists()
        return
    counts = read_json(folder / "out" / "manifest.json")["counts"]
    written = {split: read_jsonl(folder / "out" / f"{split}.jsonl") for split in ("train", "val", "test")}
    assert {split: len(rows) for split, rows in written.items()} == {split: counts[split]["total"] for split in written}
    assert counts["rows"] == counts["set_aside"]["total"] + sum(map(len, written.values()))
