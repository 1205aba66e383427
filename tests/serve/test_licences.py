"""Licences in plain words: the base's as its recipe or its own card has it, and nothing guessed."""

import pytest

from plan.run import Run
from serve.licences import base_licence
from tests.serve.small_run import LABELS


def a_run(tmp_path, model: str, card: str | None = None) -> Run:
    if card is not None:
        (tmp_path / "README.md").write_text(card, encoding="utf-8")
    return Run(tmp_path, "task/recipe", "task", LABELS, tmp_path, model=model, model_folder=tmp_path)


@pytest.mark.parametrize(
    ("model", "card", "id_", "name", "said"),
    [
        ("Qwen/Qwen1.5-0.5B-Chat", None, "other", "tongyi-qianwen-research", "no commercial use"),
        ("minimind2-small", None, "apache-2.0", None, "under Apache-2.0"),
        ("Qwen/Qwen3-0.6B", None, "apache-2.0", None, "under Apache-2.0"),
        ("me/other", "---\nlicense: mit\n---\n", "mit", None, "under mit"),
        ("me/other", "---\nlicense: other\nlicense_name: my-own\n---\n", "other", "my-own", "under my-own"),
        ("me/other", "---\n: [\n---\n", "unknown", None, "not known here"),
        ("me/other", "no front matter", "unknown", None, "not known here"),
        ("me/other", None, "unknown", None, "not known here"),
    ],
)
def test_the_bases_licence(tmp_path, model, card, id_, name, said):
    found = base_licence(a_run(tmp_path, model, card))
    assert (found.id, found.name) == (id_, name)
    assert said in found.sentence.en and found.sentence.zh
