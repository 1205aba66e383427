"""Pairs of similar texts, by MinHash and locality-sensitive hashing over character n-grams.

The similarity of two texts is the Jaccard similarity of their sets of character n-grams. MinHash (Broder 1997): under
a random permutation of all n-grams, two sets have the same least element with a probability equal to that similarity.
Rows of permutations are joined into bands; texts that agree in a whole band are candidates (Rajaraman and Ullman,
Mining of Massive Datasets, section 3.4). A candidate pair whose signatures are far from the threshold is dropped, every
other is compared exactly.

numpy computes the signatures, by the 32-bit scheme of datasketch 2 (a * h + b mod 2**32 after a MurmurHash3
finalizer): a million reviews take about 4 s, where datasketch takes minutes and its index more memory than we allow.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from data_prep.task import NearDuplicates
from workspace.progress import progress

PERMUTATIONS = 128
MISS = 1e-4  # at most this chance that a pair of texts just at the threshold is never compared
NEIGHBOURS = 8  # texts of one bucket are compared with this many behind them, and with the bucket's first
DOUBT = 5  # standard deviations: less than one similar pair in a million is taken for not similar
CHUNK = 2_000  # texts hashed at a time: the n-grams of a chunk stay in the processor's cache


def bands_and_rows(threshold: float) -> tuple[int, int]:
    """(bands, rows a band): as many rows, so as few false candidates, as the chance of a miss allows.

    A pair of similarity s becomes a candidate with the chance 1 - (1 - s**rows)**bands.
    """
    for rows in range(16, 1, -1):
        bands = PERMUTATIONS // rows
        if (1 - threshold**rows) ** bands <= MISS:
            return bands, rows
    return PERMUTATIONS, 1


class Comparison:
    """Some texts, none of them empty, and which of them are similar.

    Of each text's MinHash are kept: `keys`, its bucket in each band, uint32, shape (bands, texts); and `sketch`, the
    last byte of each of its least hashes, uint8, shape (texts, permutations): two texts agree in one of them with a
    chance of their similarity (and 1/256).
    """

    def __init__(self, texts: Sequence[str], settings: NearDuplicates, seed: int):
        """Sign the texts, with the permutations drawn by `seed`."""
        self.texts = texts
        self.settings = settings
        bands, rows = bands_and_rows(settings.threshold)
        draw = np.random.RandomState(seed)  # its streams are the same in every version of numpy
        factors = draw.randint(0, 2**31, bands * rows, dtype=np.int64).astype(np.uint32) * np.uint32(2) + np.uint32(1)
        offsets = draw.randint(0, 2**32, bands * rows, dtype=np.int64).astype(np.uint32)
        self.keys = np.empty((bands, len(texts)), np.uint32)
        self.sketch = np.empty((len(texts), bands * rows), np.uint8)
        self._unlike = np.empty(0, np.int64)  # pairs that were compared and are not similar, sorted, as a * texts + b
        with progress(len(texts), "prep: looking for copies") as bar:
            for start in range(0, len(texts), CHUNK):
                piece = texts[start : start + CHUNK]
                self._sign(start, *_hashed_ngrams(piece, settings.ngram), factors, offsets)
                bar.update(len(piece))

    def _sign(
        self, start: int, hashes: np.ndarray, starts: np.ndarray, factors: np.ndarray, offsets: np.ndarray
    ) -> None:
        """Enter the signatures of texts from `start` on: `starts` says where each text's `hashes` begin."""
        rows, part = len(factors) // len(self.keys), slice(start, start + len(starts))
        permuted = np.empty_like(hashes)
        key = np.zeros(len(starts), np.uint64)
        for index, (factor, offset) in enumerate(zip(factors, offsets, strict=True)):
            np.multiply(hashes, factor, out=permuted)
            permuted += offset
            least = np.minimum.reduceat(permuted, starts)
            self.sketch[part, index] = least  # its last byte
            key *= np.uint64(0x9E3779B97F4A7C15)  # an odd number, so that the order of a band's rows counts
            key ^= least
            if (index + 1) % rows == 0:
                # Half of the bits: two buckets in one cost a comparison, not a mistake.
                self.keys[index // rows, part] = (key * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
                key[:] = 0

    def candidates(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Arrays (a, b), a < b, of pairs of texts that share a bucket; a pair may come more than once.

        In a bucket each text is paired with the bucket's first, then with the NEIGHBOURS before it. So the work grows
        with the number of texts, and a text added at the end changes no pair of the others.
        """
        for band in self.keys:
            order = np.argsort(band, kind="stable")
            ordered = band[order]
            new = np.concatenate([[True], ordered[1:] != ordered[:-1]])
            first = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
            yield order[first[~new]], order[~new]
            for distance in range(1, NEIGHBOURS + 1):
                same = ordered[distance:] == ordered[:-distance]
                if not same.any():
                    break
                yield order[:-distance][same], order[distance:][same]

    def similar(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Whether texts[a[i]] and texts[b[i]], a[i] < b[i], have a Jaccard similarity of the threshold or more: bool.

        Pairs whose signatures agree in DOUBT standard deviations fewer places than at the threshold are taken for not
        similar; every other is compared exactly, once.
        """
        codes = a * len(self.texts) + b
        verdict = self._may_be_similar(a, b)
        if len(self._unlike):
            at = np.minimum(np.searchsorted(self._unlike, codes), len(self._unlike) - 1)
            verdict &= self._unlike[at] != codes
        compared = verdict.copy()
        held, left = -1, set()
        for at in np.flatnonzero(verdict).tolist():
            if a[at] != held:
                held, left = a[at], ngrams(self.texts[a[at]], self.settings.ngram)
            right = ngrams(self.texts[b[at]], self.settings.ngram)
            shared = len(left & right)
            verdict[at] = shared >= self.settings.threshold * (len(left) + len(right) - shared)
        if (unlike := codes[compared & ~verdict]).size:
            # Two sorted runs, which a stable sort merges; no pair is in both.
            self._unlike = np.sort(np.concatenate([self._unlike, np.sort(unlike)]), kind="stable")
        return verdict

    def _may_be_similar(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        places, threshold = self.sketch.shape[1], self.settings.threshold
        enough = places * threshold - DOUBT * (places * threshold * (1 - threshold)) ** 0.5
        verdict = np.empty(len(a), bool)
        for start in range(0, len(a), 50 * CHUNK):
            part = slice(start, start + 50 * CHUNK)
            verdict[part] = np.count_nonzero(self.sketch[a[part]] == self.sketch[b[part]], axis=1) >= enough
        return verdict


def ngrams(text: str, ngram: int) -> set[str]:
    """The character n-grams of a text; of one that is shorter than `ngram`, the text itself."""
    return {text[at : at + ngram] for at in range(max(len(text) - ngram + 1, 1))}


def _hashed_ngrams(texts: Sequence[str], ngram: int) -> tuple[np.ndarray, np.ndarray]:
    """The 32-bit hashes of all n-grams, text after text, and where each text's begin."""
    padding = "\0" * (ngram - 1)
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    joined = padding.join(texts) + padding
    points = np.frombuffer(joined.encode("utf-32-le"), np.uint32)
    size = len(points) - ngram + 1
    hashes = np.zeros(size, np.uint32)
    for at in range(ngram):
        hashes = _mixed(hashes * np.uint32(31) + points[at : at + size])
    counts = np.maximum(lengths - ngram + 1, 1)
    starts = np.cumsum(counts) - counts
    # Where each text begins among the joined ones, less where its n-grams begin among those that are kept.
    shift = np.cumsum(lengths + ngram - 1) - (lengths + ngram - 1) - starts
    return hashes[np.repeat(shift, counts) + np.arange(counts.sum())], starts


def _mixed(values: np.ndarray) -> np.ndarray:
    """MurmurHash3's 32-bit finalizer: each bit of the input changes about half of the output's."""
    values = values ^ (values >> np.uint32(16))
    values = values * np.uint32(0x85EBCA6B)
    values ^= values >> np.uint32(13)
    values *= np.uint32(0xC2B2AE35)
    return values ^ (values >> np.uint32(16))
