"""How much a server takes at once, and for how long it waits."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What is more than this is refused: by 413, 422, 429 or 504 as the fields say."""

    body: int = 4 * 2**20  # bytes of a request, unpacked: 413
    rows: int = 1024  # texts of a request: 422
    characters: int = 100_000  # of a text: 422; the classifier cuts to its own length
    waiting: int = 4096  # rows in the queue: 429
    seconds: float = 60.0  # from a request's arrival to its answer: 504
    reading: float = 20.0  # seconds in which a request's head, and its body, have to arrive: 408, or the line is cut
    ending: float = 30.0  # seconds for what is under way once the server is asked to end: 503
    batch_rows: int = 64
    batch_characters: int = 32_768  # of a batch with more than one row
    linger: float = 0.002  # seconds in which a batch that is not full waits for more rows
