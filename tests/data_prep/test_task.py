"""task.yaml: the tasks that ship, and every fault told with file, key and the nearest right name."""

import subprocess
import sys

import pytest

from data_prep.settings import replaced
from data_prep.task import canonical_value, find_task, load_task
from tests.prep_tables import SETTINGS, small_task, write_task
from workspace.errors import UserError
from workspace.paths import CONFIGS, ROOT


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/task.yaml")), ids=lambda path: path.parent.name)
def test_tasks_that_ship_load(path):
    task = find_task(path.parent.name)
    assert task.name == path.parent.name
    assert (CONFIGS / "models" / f"{task.default_recipe}.yaml").is_file()
    assert task.label_words == ("正面", "负面")
    assert not any(word in task.prompts["clean"] for word in task.label_words)


def test_hotel_reviews_is_the_original_experiment():
    task = find_task("hotel_reviews")
    assert task.prompts["original"] == "评论内容: {review} 这条评论是正面还是负面？"
    assert task.render("好{x}") == "评论内容: 好{x} 这条评论是正面还是负面？"
    assert task.source.sha256 == "1d414b9c65caf3a836abdb4efded621968502ad3338e1a9d885ae131c86083f0"
    assert task.csv == ROOT / "data" / "ChnSentiCorp_htl_all.csv"
    assert (task.split.scheme, task.split.seed, task.split.val, task.split.test) == ("stratified", 42, 0.1, 0.1)


@pytest.mark.parametrize("name", ["demo", "hotel_reviews"])
def test_a_default_is_a_value_that_may_be_given(name):
    """Every other key is checked anew when one is replaced."""
    task = find_task(name)
    assert replaced(task, {"limit": 10}, str) == replaced(replaced(task, {"limit": 10}, str), {"segments": ()}, str)


def test_importing_the_task_loads_no_heavy_library():
    code = "import sys, data_prep.task; print([m for m in ('pandas', 'numpy', 'tokenizers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("labels", ['{"1": 好, "0": 坏}', "{1: 好, 0: 坏}", "{1.0: 好, 0: 坏}", '{" 1": 好, "０": 坏}'])
def test_label_keys_may_be_quoted_or_not(tmp_path, labels):
    path = write_task(tmp_path, labels=None)
    path.write_text(path.read_text(encoding="utf-8") + f"labels: {labels}\n", encoding="utf-8")
    assert load_task(path).labels == {"1": "好", "0": "坏"}


def test_several_values_may_share_a_word(tmp_path):
    task = small_task(tmp_path, labels={"5": "好", "4": "好", "2": "坏", "1": "坏"})
    assert task.label_words == ("好", "坏")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", "1"),
        (" 1 ", "1"),
        ("1.0", "1"),
        ("1.50", "1.50"),
        ("-1.00", "-1"),
        ("１", "1"),
        ("\u3000好评", "好评"),
        (0, "0"),
    ],
)
def test_canonical_value(value, expected):
    assert canonical_value(value) == expected


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"promt": "x"}, "promt is not a known key, did you mean prompt?"),
        ({"name": None}, "name is missing"),
        ({"name": "a/b"}, "name is 'a/b'"),
        ({"columns": {"text": "review"}}, "columns.label is missing"),
        ({"columns": {"text": "review", "label": "label", "key": "n"}}, "columns.key is not a known key"),
        ({"columns": {"text": ["x", "x"], "label": "label"}}, "the same column twice"),
        ({"columns": {"text": 0, "label": 2}}, "columns.text is 0, expected a column's number: they count from 1"),
        ({"columns": {"text": ["title", "review"], "label": "label"}}, "has {title} 0 times, expected once"),
        ({"prompts": {"original": "{title} {review}"}}, "prompts.original has {title}, which stands for nothing"),
        ({"system": "Judge {review}."}, "system has {review}, which stands for nothing"),
        ({"table": {"encoding": "utf-9"}}, "table.encoding is 'utf-9', which is no known encoding"),
        ({"table": {"delimiter": ""}}, "table.delimiter is ''"),
        ({"table": {"header": 0}}, "table.header is 0, expected true, false, or the number of the header's line"),
        ({"split": {"column": "label"}}, "split.column is 'label', which columns has too"),
        ({"split": {"values": {"test": ["x"]}}}, "split.values is given without the column"),
        ({"split": {"column": "s", "values": {"dev": ["x"]}}}, "split.values.dev is not a split"),
        ({"split": {"files": {"train": "a.csv"}}}, "split.files has no test"),
        ({"split": {"files": {"train": "a.csv", "test": "a.csv"}}}, "split.files names the same file twice"),
        ({"columns": {"text": "x", "label": "x"}}, "the same column"),
        ({"columns": "review"}, "columns is 'review', expected `key: value` lines"),
        ({"labels": {"1": "正面"}}, "1 distinct label words, expected 2 to 20"),
        ({"labels": {"1": "正面", "0": "正面"}}, "1 distinct label words"),
        ({"labels": {str(n): f"第{n}类" for n in range(201)}}, "201 distinct label words"),
        ({"labels": {"1": "正面", "1.0": "负面"}}, "labels.1.0 is there twice"),
        ({"labels": {True: "正面", False: "负面"}}, "put the value in quotes"),
        ({"labels": {"1": "正面", "0": ""}}, "labels.0 is '', expected a label word"),
        ({"labels": {"1": "正面", "0": "total"}}, "labels.0 is 'total', which counts and reports use themselves"),
        ({"labels": {"1": "正面", "0": 3}}, "labels.0 is 3, expected a label word"),
        ({"prompts": {"a": "没有"}}, "prompts.a has {review} 0 times, expected once"),
        ({"prompts": {"original": "{review}{review}"}}, "has {review} 2 times"),
        ({"prompts": {}}, "prompts is empty"),
        ({"prompt": "orignal"}, "expected one of original, clean, did you mean original?"),
        ({"split": {"scheme": "random"}}, "split.scheme is 'random', expected one of stratified, original"),
        ({"split": {"sed": 1}}, "split.sed is not a known key, did you mean seed?"),
        ({"split": {"val": 0.5, "test": 0.6}}, "at most 95 %"),
        ({"split": {"test": "a tenth"}}, "split.test is 'a tenth', expected a number"),
        ({"split": {"seed": 1.5}}, "split.seed is 1.5, expected a whole number"),
        ({"max_length": True}, "max_length is True, expected a whole number"),
        ({"max_length": 3}, "max_length is 3, expected a whole number from 16"),
        ({"keep_head": 1.5}, "keep_head is 1.5, expected a number from 0 to 1"),
        ({"max_reject_share": float("nan")}, "max_reject_share is nan"),
        ({"near_duplicates": {"threshold": 0.1}}, "near_duplicates.threshold is 0.1"),
        ({"synonyms": {"正面的": ["好"]}}, "synonyms.正面的 is no label word, did you mean 正面?"),
        ({"synonyms": {"正面": "好"}}, "synonyms.正面 is '好', expected a list"),
        (
            {"synonyms": {"正面": ["好"], "负面": ["好。"]}},
            "labels cannot be told apart in an answer: the word '好。'",
        ),
        (
            {"synonyms": {"正面": ["负面"]}},
            "labels cannot be told apart in an answer: the word '负面' means",
        ),
        ({"labels": {"1": "Good", "0": "GOOD"}}, "labels cannot be told apart in an answer: the word 'GOOD' means two"),
        ({"labels": {"1": "正面", "0": "“”"}}, "has no letter, digit or symbol to know it by"),
        ({"source": {"url": "ftp://x", "sha256": "0" * 64}}, "source.url is 'ftp://x'"),
        ({"source": {"url": "https://x/y", "sha256": "12"}}, "64 hexadecimal digits"),
        ({"conflicts": "drop"}, "expected one of keep, set_aside"),
        ({"primary_metric": "f1"}, "primary_metric is 'f1', expected one of macro_f1, accuracy, balanced_"),
        ({"margin": 1}, "margin is 1.0, expected a number from 0.0001 to 0.5"),
        ({"limit": 0}, "limit is 0"),
        ({"path": "x"}, "path is not a known key"),
        ({"corrections": ""}, "corrections is empty, expected text"),
        ({"corrections_test": True}, "corrections_test is true, but there is no `corrections`"),
        ({"known_public": {"column": "x"}}, "known_public.path is missing: add a line `path: ...` with text"),
        ({"selective": {"target": 95}}, "selective.target is 95.0, expected a number from 0.5 to 0.999"),
        ({"selective": {"levle": 0.1}}, "selective.levle is not a known key, did you mean level?"),
        ({"costs": {"confusions": {"正面": {"负": 3}}}}, "costs.confusions.正面 names '负', which is no label word"),
        ({"costs": {"confusions": {"好": {"负面": 3}}}}, "costs.confusions.好 names '好', which is no label word"),
        ({"costs": {"confusions": {"正面": {"正面": 3}}}}, "costs.confusions.正面 names the right answer"),
        ({"costs": {"ask": -1}}, "costs.ask is -1.0, expected a number from 0"),
        ({"csv": "~no_such_user_here/t.csv"}, "that home folder is not known: write the path out"),
    ],
)
def test_faults_are_told_with_file_and_key(tmp_path, changes, told):
    path = write_task(tmp_path, **changes)
    with pytest.raises(UserError) as caught:
        load_task(path)
    assert told in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("split:\n  seed: 1\n  val: 7", "line 3: split.val is 7"),
        ("labels:\n  '1': 正面\n  '0': total", "line 3: labels.0 is 'total'"),
        ("columns:\n  text: review", "line 1: columns.label is missing: add a line `label: ...` with text"),
        ("limit:", "line 1: limit has no value: give one, or take the line out"),
        ("promt: x", "line 1: promt is not a known key, did you mean prompt?; known are name, columns, labels"),
    ],
)
def test_faults_name_the_line(tmp_path, lines, told):
    path = write_task(tmp_path, **{lines.partition(":")[0]: None})
    path.write_text(f"{lines}\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    with pytest.raises(UserError, match=r"task\.yaml, line") as caught:
        load_task(path)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"name: [", "line 1: not valid YAML"),
        (b"name: a\nname: b\n", "line 2: not valid YAML (the key name stands twice)"),
        (b"", "found nothing"),
        (b"- a\n", "expected `key: value` lines"),
        ("name: 酒店".encode("gbk"), "it is not UTF-8"),
        (b"when: 2024-13-99\n", "not valid YAML"),
        (b"a: !!python/object:os.system x\n", "not valid YAML"),
    ],
)
def test_files_that_are_no_settings(tmp_path, content, told):
    path = tmp_path / "task.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"task\.yaml") as caught:
        load_task(path)
    assert told in str(caught.value)


def test_unknown_task_names_the_nearest():
    with pytest.raises(UserError, match=r"no task hotel_review, did you mean hotel_reviews\?; known are .*demo"):
        find_task("hotel_review")
    with pytest.raises(UserError, match="no task"):
        find_task("../swift_configs/demo")


def test_a_task_is_found_by_path(tmp_path):
    path = write_task(tmp_path)
    assert find_task(str(path)) == find_task(str(tmp_path)) == load_task(path)
    assert load_task(path).name == SETTINGS["name"]


def test_the_original_scheme_keeps_all_rows_and_a_fifth_for_test(tmp_path):
    task = small_task(tmp_path, split={"scheme": "original"})
    assert (task.conflicts, task.split.test, task.split.val) == ("keep", 0.2, 0.1)
    assert small_task(tmp_path).conflicts == "set_aside"


def test_the_only_text_column_may_be_called_by_its_name(tmp_path):
    task = small_task(tmp_path, columns={"text": "body", "label": "label"}, prompts={"original": "读：{body}。"})
    assert task.template == "读：{review}。" and task.render("好") == "读：好。"


def test_braces_that_are_no_place_stay(tmp_path):
    prompt = '{review}\n{"label": "…"} {正面, 负面}'
    assert small_task(tmp_path, prompts={"original": prompt}).template == prompt


def test_two_hundred_label_words_and_no_more(tmp_path):
    words = {str(at): f"类别{at}" for at in range(201)}
    two_hundred = {value: word for value, word in words.items() if value != "200"}
    assert len(load_task(write_task(tmp_path, labels=two_hundred)).label_words) == 200
    with pytest.raises(UserError, match="has 201 distinct label words, expected 2 to 200"):
        load_task(write_task(tmp_path, labels=words))


@pytest.mark.parametrize(
    ("label", "other"),
    [("Apple", "apple"), ("负面", "負面"), ("Ａpple", "apple"), ("推荐", "推荐。"), ("推荐", "推荐！"), ("好", "“好”")],
)
def test_one_pair_of_two_hundred_words_that_a_reader_cannot_tell_apart_is_refused(tmp_path, label, other):
    words = {str(at): f"类别{at}" for at in range(198)} | {"a": label, "b": other}
    with pytest.raises(UserError, match=f"cannot be told apart in an answer: the word .* means two labels, '{label}'"):
        load_task(write_task(tmp_path, labels=words))


@pytest.mark.parametrize(("key", "number"), [("010", 8), ("0x1F", 31), ("1_000", 1000), ("12:30", 750), ("1.50", 1.5)])
def test_a_label_that_yaml_would_read_as_another_number_is_refused(tmp_path, key, number):
    path = write_task(tmp_path, labels=None)
    path.write_text(path.read_text(encoding="utf-8") + f"labels:\n  0: 坏\n  {key}: 好\n", encoding="utf-8")
    with pytest.raises(
        UserError, match=rf"task\.yaml, line \d+: .*key {key} is read as the number {number}: put it in"
    ):
        load_task(path)
    path.write_text(path.read_text(encoding="utf-8").replace(f"{key}:", f"'{key}':"), encoding="utf-8")
    assert load_task(path).labels == {"0": "坏", key: "好"}
