"""The table of a task: where it lies, and its download from its public source when it is not there."""

import time
from pathlib import Path
from urllib.parse import urlsplit

from data_prep.task import Source, Task
from workspace.errors import UserError
from workspace.paths import cache_folder, shown

TRIES = 3
NO_NEW_TRY_AFTER = 6.0  # seconds: a network that does not answer is reported soon
TIMEOUT = (3.0, 30.0)  # seconds to connect, and between two pieces of the file


def find_table(task: Task, csv: Path | None) -> Path:
    """The path of the table to read: `csv` where given, else the task's, else the task's source, downloaded.

    Raises UserError when there is none; a `csv` that was asked for is never replaced by a download.
    """
    if task.split.files:
        if csv is not None:
            raise UserError(f"{shown(task.path)} names a file for each split: leave --csv out, or change split.files")
        return task.split.files["train"]
    if csv is not None:
        if not Path(csv).exists():
            raise UserError(f"there is no file {shown(csv)}: give the table with --csv PATH")
        return Path(csv)
    if task.csv is not None and task.csv.exists():
        return task.csv
    if task.source is not None:
        name = task.csv.name if task.csv else Path(urlsplit(task.source.url).path).name or "table.csv"
        return fetch(task.source, name)
    missing = f"there is no file {shown(task.csv)}" if task.csv else f"the task {task.name} names no csv"
    raise UserError(f"{missing}: give the table with --csv PATH")


def fetch(source: Source, name: str) -> Path:
    """The file of `source`, in the cache under `name`; downloaded with a progress bar unless it is there already.

    A file is kept only when its SHA-256 is the pinned one. Raises UserError when it cannot be had.
    """
    import pooch  # here, because most runs find the table on disk
    import requests

    pooch.get_logger().setLevel("WARNING")
    folder = cache_folder() / "data"
    remedy = f"download it by hand and give it with --csv PATH, or put it at {folder / name}"
    began = time.monotonic()
    for left in reversed(range(TRIES)):
        try:
            return Path(
                pooch.retrieve(
                    source.url,
                    known_hash=f"sha256:{source.sha256}",
                    fname=name,
                    path=folder,
                    downloader=pooch.HTTPDownloader(progressbar=True, timeout=TIMEOUT),
                )
            )
        except requests.RequestException as error:
            response = getattr(error, "response", None)
            refused = response is not None and 400 <= response.status_code < 500
            if refused or not left or time.monotonic() - began > NO_NEW_TRY_AFTER:
                reason = f"the server answered {response.status_code}" if response is not None else _reason(error)
                raise UserError(f"{source.url} could not be downloaded ({reason}): {remedy}") from error
            time.sleep(1)
        except ValueError as error:  # pooch's error for another hash; it has removed the file again
            raise UserError(
                f"{source.url} is not the file that the task was made for (its SHA-256 differs): {remedy}"
            ) from error
        except OSError as error:
            raise UserError(f"{folder / name} cannot be written ({error.strerror}): {remedy}") from error
    raise AssertionError("unreachable")


def _reason(error: Exception) -> str:
    """A short reason, without the library's chain of objects."""
    names = {
        "ConnectTimeout": "no answer",
        "ReadTimeout": "no answer",
        "ConnectionError": "no connection",
        "ChunkedEncodingError": "the connection was cut",
    }
    return names.get(type(error).__name__, type(error).__name__)
