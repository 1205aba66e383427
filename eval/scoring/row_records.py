"""The lines of rows.jsonl: each test row with what every reading said of it."""

from typing import Any

from eval.scoring.predictions import Predictions, RunPredictions
from eval.scoring.reading_names import primary_pair
from eval.scoring.responses import Split

DECIMALS = 4  # of a probability: the file is for reading
STATUS = {(False, True): "fixed", (True, False): "broken", (True, True): "right", (False, False): "wrong"}


def row_records(predictions: RunPredictions, test: Split) -> list[dict[str, Any]]:
    """One a test row: {"id", "review", "gold", "cut", "readings": {reading: …}, "status"}.

    Of each reading that answered the row {"label", "answer", "p", "correct", "finish_reason", "label_mass"}, `p` being
    the label's probability; what there is none of is None. `status` compares the two readings of the verdict (fixed,
    broken, right, wrong), None where one did not answer. Where the table has a column of ids, "source_id" is the row's.
    """
    every, places = predictions.every, predictions.places(test)
    pair = primary_pair(every)
    records = []
    for i, (key, review, gold, cut) in enumerate(zip(test.ids, test.reviews, test.gold, test.cut, strict=True)):
        readings = {name: _said(one, places[name][key], gold) for name, one in every.items() if key in places[name]}
        status = None
        if pair and readings.keys() >= set(pair):
            status = STATUS[readings[pair[0]]["correct"], readings[pair[1]]["correct"]]
        own = {"source_id": test.source_ids[i]} if test.source_ids else {}
        row = {"review": review, "gold": gold, "cut": cut, "readings": readings, "status": status}
        records.append({"id": key, **own, **row})
    return records


def _said(reading: Predictions, at: int, gold: str) -> dict[str, Any]:
    """What a reading said of the row at this place among its own."""
    return {
        "label": reading.predicted[at],
        "answer": None if reading.texts is None else reading.texts[at],
        "p": None if reading.confidence is None else round(float(reading.confidence[at]), DECIMALS),
        "correct": reading.predicted[at] == gold,
        "finish_reason": None if reading.finish_reasons is None else reading.finish_reasons[at],
        "label_mass": None if reading.label_mass is None else round(float(reading.label_mass[at]), DECIMALS),
    }
