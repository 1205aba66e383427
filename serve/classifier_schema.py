"""Write serve/classifier.schema.json: what classifier.json holds, for programs that know nothing of this project.

Run as: python -m serve.classifier_schema, after serve/classifier_file.py has changed.
"""

from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from serve.classifier_file import FORMAT, ClassifierFile
from workspace.errors import run_main
from workspace.files import write_json

SCHEMA = Path(__file__).with_name("classifier.schema.json")


def schema() -> dict[str, Any]:
    """The JSON schema of classifier.json; every key is there in each."""
    found = TypeAdapter(ClassifierFile).json_schema(mode="validation")
    found["required"] = list(found["properties"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:swift-sft:classifier:{FORMAT}",
        **found,
        "title": f"classifier.json of a bundle, format {FORMAT}",
    }


def main() -> int:
    """Write the file."""
    write_json(SCHEMA, schema())
    return 0


if __name__ == "__main__":
    run_main(main)
