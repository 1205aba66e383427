"""`Classifier`: the same answers from a run, its bundle and Python, where scikit-learn takes a fitted classifier."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax
from sklearn.base import clone
from sklearn.calibration import CalibrationDisplay
from sklearn.ensemble import VotingClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import accuracy_score

from data_prep.decision_settings import Costs
from eval.scoring.costs import cost_matrix, costs_of
from plan.run import Run
from serve import Classifier
from serve.classifier_file import EVERY_ROW, Thresholds
from serve.export import export
from serve.given_texts import given_texts
from serve.predict import main
from tests.prep_tables import reviews
from tests.serve.small_run import small_run
from tests.small_bundles import LABELS, a_prompt, linear_bundle
from workspace.errors import UserError
from workspace.files import read_json, read_jsonl

TEXTS = [text for _, text in reviews(40, 500)]
GOLD = ["正面" if value == "1" else "负面" for value, _ in reviews(40, 500)]


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    return Classifier.load(linear_bundle(tmp_path_factory.mktemp("linear")))


# in scikit-learn


def test_predict_tells_label_confidence_and_every_probability(linear: Classifier) -> None:
    series = pd.Series(TEXTS[:5], index=list("abcde"))
    found = linear.predict(series)
    assert list(found) == ["label", "confidence", "p_正面", "p_负面"] and list(found.index) == list("abcde")
    shares = found[["p_正面", "p_负面"]].to_numpy()
    np.testing.assert_allclose(shares.sum(1), 1)
    assert found["confidence"].tolist() == shares.max(1).tolist()
    assert found["label"].tolist() == [LABELS[at] for at in shares.argmax(1)]


def test_classes_are_sorted_and_probabilities_in_their_order(tmp_path: Path) -> None:
    found = Classifier.load(linear_bundle(tmp_path, labels=("负面", "正面")))
    assert found.classes_.tolist() == ["正面", "负面"] == sorted(LABELS)
    assert found.predict_proba(TEXTS[:3])[:, 0].tolist() == found.predict(TEXTS[:3])["p_正面"].tolist()


def test_a_calibration_display_takes_it(linear: Classifier) -> None:
    import matplotlib

    matplotlib.use("Agg")
    shown = CalibrationDisplay.from_estimator(linear, TEXTS, GOLD, n_bins=3, pos_label="正面")
    assert shown.estimator_name == "Classifier" and len(shown.prob_true) >= 2
    assert shown.y_prob.tolist() == linear.predict_proba(TEXTS)[:, 0].tolist()


@pytest.mark.parametrize("scoring", [None, "neg_log_loss"])
def test_permutation_importance_shuffles_columns_of_text(linear: Classifier, scoring: str | None) -> None:
    frame = pd.DataFrame({"review": TEXTS})
    found = permutation_importance(linear, frame, GOLD, scoring=scoring, n_repeats=3, random_state=0)
    assert found.importances_mean.shape == (1,) and found.importances_mean[0] > 0.2


def test_a_vote_counts_fitted_parts_as_they_are(linear: Classifier, tmp_path: Path) -> None:
    other = Classifier.load(linear_bundle(tmp_path, rows=30))
    vote = VotingClassifier([("a", linear), ("b", other)], voting="soft").fit(TEXTS, GOLD)
    wanted = (linear.predict_proba(TEXTS) + other.predict_proba(TEXTS)) / 2
    np.testing.assert_allclose(vote.predict_proba(TEXTS), wanted)
    assert accuracy_score(GOLD, vote.predict(TEXTS)) > 0.8


def test_fitting_learns_nothing_and_a_clone_is_not_loaded(linear: Classifier) -> None:
    before = linear.predict_proba(TEXTS)
    assert linear.fit(TEXTS, GOLD[::-1]) is linear
    assert linear.predict_proba(TEXTS).tolist() == before.tolist()
    copied = clone(linear)
    assert not copied.__sklearn_is_fitted__() and copied.path == linear.path
    assert linear.score(TEXTS, GOLD) == np.mean(linear.predict(TEXTS)["label"] == GOLD)


# what is left to a person


def test_thresholds_that_validation_rows_chose_count_until_another_is_given(tmp_path: Path) -> None:
    found = Classifier.load(linear_bundle(tmp_path, thresholds=Thresholds(selective=0.8)))
    shares = np.array([[0.79, 0.21], [0.81, 0.19], [0.3, 0.7]])
    assert found.decide(shares).abstained.tolist() == [True, False, True]
    assert found.decide(shares, 0.75).abstained.tolist() == [False, False, True]
    assert found.decide(shares).labels.tolist() == ["正面", "正面", "负面"]


def test_a_reading_with_a_threshold_answers_by_it(tmp_path: Path) -> None:
    given = {"reported": "tfidf_linear_threshold", "thresholds": Thresholds(label=0.3)}
    found = Classifier.load(linear_bundle(tmp_path, **given))
    decided = found.decide(np.array([[0.35, 0.65], [0.25, 0.75]]))
    assert decided.labels.tolist() == ["正面", "负面"] and decided.confidence.tolist() == [0.35, 0.75]


def test_costs_decide_as_the_report_prices_them(tmp_path: Path) -> None:
    """The label of least expected cost, and not the most probable one beside a threshold for another label's."""
    costs = Costs(confusions={"负面": {"正面": 5}}, ask=0.8)
    shares = np.array([[0.7, 0.3], [0.95, 0.05], [0.2, 0.8], [0.85, 0.15]])
    matrix = cost_matrix(costs, ("正面", "负面"))
    for at, chosen in enumerate((0.8, 0.5, None)):
        cost = EVERY_ROW if chosen is None else chosen
        found = Classifier.load(linear_bundle(tmp_path / str(at), costs=costs, thresholds=Thresholds(cost=cost)))
        decided = found.decide(shares)
        assert decided.labels.tolist() == ["负面", "正面", "负面", "正面"]
        gold = np.zeros(4, int)
        asked = costs_of(shares, gold, matrix, costs.ask, chosen) == costs.ask
        assert decided.abstained.tolist() == asked.tolist() and (chosen is not None or asked.all())
        np.testing.assert_allclose(decided.confidence, [0.3, 0.95, 0.8, 0.85])


# texts


def test_several_columns_are_given_by_name_or_in_their_order() -> None:
    columns, wanted = ("标题", "review"), given_texts([("a", "b")], ("标题", "review"))
    frame = pd.DataFrame({"review": ["b"], "x": [1], "标题": ["a"]})
    assert given_texts(frame, columns) == wanted == given_texts([{"review": "b", "标题": "a"}], columns)
    assert given_texts(np.array([["a", "b"]], object), columns) == wanted
    assert given_texts(pd.DataFrame({"review": ["a", None]}), ("review",)) == ["a", ""]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("one text", "put it in brackets"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), "the frame has the columns a, b"),
        ([("a", "b")], "a row has not the texts of the columns review"),
        (3, "put it in brackets"),
    ],
)
def test_what_are_no_texts_is_one_sentence(given: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        given_texts(given, ("review",))


# the same from a run, its bundle, the command and Python


def calibrated(run: Path, reading: str, probabilities: np.ndarray) -> np.ndarray:
    """The probabilities with the temperature and biases that the run's metrics.json has."""
    one = read_json(run / "metrics.json")["readings"][reading]["calibration"]
    biases = np.array([(one["biases"] or {}).get(label, 0) for label in LABELS])
    return softmax(np.log(probabilities) / one["temperature"] + biases, axis=1)


@pytest.mark.torch
@pytest.mark.parametrize("head", [False, True], ids=["words", "head"])
def test_a_run_its_bundle_and_the_command_answer_alike(tmp_path: Path, head: bool) -> None:
    run = small_run(tmp_path, head)
    measured = read_jsonl(run / "after" / "test.jsonl")
    rows = {row["id"]: row for row in read_jsonl(Path(read_json(run / "run.json")["dataset"]) / "test.jsonl")}
    texts = [rows[one["id"]]["review"] for one in measured]
    own = np.array([[one["probabilities"][label] for label in LABELS] for one in measured])
    wanted = calibrated(run, "after_score", own)
    assert np.abs(wanted - own).max() > 0.01
    from_run = Classifier.load(run, "tuned")
    np.testing.assert_allclose(from_run.score(texts).probabilities, wanted, atol=1e-6)
    bundle = tmp_path / "elsewhere" / "bundle"
    export(Run.read(run), bundle, "tuned")
    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps({"review": text}) + "\n" for text in texts), encoding="utf-8")
    assert main([str(bundle), str(table), "--out", str(tmp_path / "o.jsonl")]) == 0
    by_command = [[row[f"p_{label}"] for label in LABELS] for row in read_jsonl(tmp_path / "o.jsonl")]
    np.testing.assert_allclose(by_command, wanted, atol=1e-4)
    reported = read_jsonl(run / "baselines" / "tfidf_linear" / "test.jsonl")
    linear = np.array([[one["probabilities"][label] for label in LABELS] for one in reported])
    found = Classifier.load(run, "linear").score(texts).probabilities
    np.testing.assert_allclose(found, calibrated(run, "tfidf_linear", linear), atol=1e-4)


@pytest.mark.torch
def test_a_run_whose_prompts_would_be_others_is_refused(tmp_path: Path) -> None:
    run = small_run(tmp_path)
    number = read_jsonl(run / "after" / "val.jsonl")[0]["id"]
    (run / "after" / "summary.json").write_text(json.dumps({"val_prompt_sha256": {number: "0" * 64}}), "utf-8")
    with pytest.raises(UserError, match="becomes other tokens than when the run was measured"):
        Classifier.load(run, "tuned")


def test_another_reading_than_the_bundle_s_is_refused(linear: Classifier) -> None:
    with pytest.raises(UserError, match="holds the linear model: export again with --reading tuned"):
        Classifier.load(linear.path, "tuned")
    assert a_prompt().columns == linear.file.prompt.columns
