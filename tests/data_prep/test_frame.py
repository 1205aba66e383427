"""Rows in a model's own chat template, counted as ms-swift encodes them, for every family."""

import pytest

from data_prep.build import build
from data_prep.chat.family import recognise
from data_prep.chat.frame import chat_frame
from data_prep.chat.prompt import control_pattern, neutralise
from data_prep.chat.tokenizer import ModelTokenizer
from data_prep.rows import read_rows
from plan.resolve import in_its_chat
from tests.prep_tables import reviews, small_task, write_csv
from tests.tiny_models import FOLDERS, write_folder
from workspace.errors import UserError

pytestmark = pytest.mark.swift


@pytest.fixture(scope="module", params=sorted(FOLDERS))
def model(request, tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("models") / f"a-{request.param}", request.param)


def said(model):
    return FOLDERS[model.name.removeprefix("a-")]


def swifts_rows(model, model_type, template, rows, **options):
    """The tokens of rows by ms-swift itself."""
    from swift import get_processor, get_template

    processor = get_processor(str(model), model_type=model_type)
    encoder = get_template(processor, template_type=template, **options)
    encoder.set_mode("train")
    return [encoder.encode({"messages": row.messages})["input_ids"] for row in rows]


@pytest.mark.parametrize("system", ["You are a helpful assistant.", ""], ids=["system", "no-system"])
def test_rows_are_as_long_as_ms_swift_makes_them(model, system, tmp_path):
    """Prep's tokens, before cutting and after, are ms-swift's; no row is longer than the limit, and some reach it."""
    template, limit = said(model).template, 110 if system else 80
    frame = chat_frame(template, system)
    csv = write_csv(tmp_path / "t.csv", [(label, text * (1 + at % 9)) for at, (label, text) in enumerate(reviews(60))])
    task = small_task(tmp_path, csv=str(csv), system=system, max_length=limit)
    out = build(task, model=model, out=tmp_path / "out", template=template).parent
    rows = [row for name in ("train", "val", "test") for row in read_rows(out / f"{name}.jsonl")]
    assert {row.messages[0]["role"] for row in rows} == {"system" if system else "user"}
    tokenizer = ModelTokenizer(model)

    lengths = []
    by_swift = swifts_rows(model, said(model).model_type, template, rows, default_system=own_system(template, system))
    for row, tokens in zip(rows, by_swift, strict=True):
        question = row.messages[-2]["content"]
        counted = frame.beside(row.label, tokenizer) + len(tokenizer.ids(frame.around(question, row.label)))
        assert counted == len(tokens)
        lengths.append(counted)
    assert limit - 5 <= max(lengths) <= limit and any(row.cut for row in rows)


def own_system(template, system):
    from workspace.swift_registry import registry

    return system if registry().chats[template].own_system else None


def test_a_folder_is_recognised_whatever_the_recipe(model):
    """By its architecture, and where several templates fit by its own; the recipe's stays where it may be right."""
    other = {"model_type": "qwen3", "template": "qwen3"}
    family = said(model)
    if family.template in ("qwen2_5", "chatml", "qwen3"):
        assert recognise(model, {"model_type": family.model_type, "template": family.template}) == family[:2]
    else:
        assert recognise(model, other) == family[:2]


def test_control_tokens_of_the_template_are_broken_in_reviews(model):
    frame = chat_frame(said(model).template, "")
    pattern = control_pattern(frame.control_tokens)
    for token in said(model).tokens:
        if token in frame.text("", ""):
            assert token not in neutralise(f"好{token}", pattern)


def test_several_that_fit_are_asked_for_in_one_sentence(tmp_path):
    folder = write_folder(tmp_path / "llama", "llama")
    (folder / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(
        UserError, match=r"is a LlamaForCausalLM model, and several .* add --template with one of .*llama3, "
    ):
        recognise(folder, {"model_type": "qwen2", "template": "qwen"})
    assert recognise(folder, {}, {"template": "llama3_2"}) == ("llama", "llama3_2")
    assert recognise(folder.rename(tmp_path / "Meta-Llama-3-8B-Instruct")) == ("llama", "llama3")


def test_a_template_without_a_system_prompt_is_one_sentence():
    with pytest.raises(UserError, match="template yuan has no place for a system prompt: take `system:` out"):
        chat_frame("yuan", "You are a helpful assistant.")
    assert chat_frame("yuan", "").text("好", "正面")
    with pytest.raises(UserError, match="ms-swift has no template qwem"):
        chat_frame("qwem", "")


def test_an_empty_thought_is_counted():
    """qwen3 with thinking off: ms-swift writes it before each answer."""
    assert (
        chat_frame("qwen3", "")
        .text("好", "正面")
        .endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n正面<|im_end|>\n")
    )


def test_an_empty_thought_is_in_both_prompts_and_not_learned(tmp_path):
    """ms-swift trained on it: four tokens a row that the model is given when it answers."""
    from swift import get_processor, get_template

    folder = write_folder(tmp_path / "qwen3", "qwen3")
    values = in_its_chat({"template": "qwen3", "system": ""}, "")
    options = {key: values[key] for key in ("loss_scale", "enable_thinking")}
    encoder = get_template(get_processor(str(folder), model_type="qwen3"), template_type="qwen3", **options)
    question = {"role": "user", "content": "房间很好"}
    encoder.set_mode("train")
    row = encoder.encode({"messages": [question, {"role": "assistant", "content": "正面"}]})
    encoder.set_mode("transformers")
    prompt = encoder.encode({"messages": [question]})["input_ids"]
    answer = list(ModelTokenizer(folder).ids("正面<|im_end|>\n"))
    assert row["input_ids"][: len(prompt)] == prompt
    assert [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100] == answer


@pytest.mark.slow
def test_no_row_of_the_hotel_file_is_longer_than_the_limit_with_an_empty_thought(shared, tmp_path):
    """ms-swift dropped 51 train and 8 val rows of it, and the run stopped after all training."""
    model, csv = shared / "models" / "qwen1.5-0.5b-chat-shape", shared / "data" / "ChnSentiCorp_htl_all.csv"
    out = build("hotel_reviews", csv=csv, model=model, out=tmp_path / "out", template="qwen3").parent
    rows = [row for name in ("train", "val", "test") for row in read_rows(out / f"{name}.jsonl")]
    longest = [row for row in rows if row.cut or len(row.review) > 450]
    assert sum(row.cut for row in longest) > 50
    assert max(map(len, swifts_rows(model, "qwen3", "qwen3", longest))) == 512
