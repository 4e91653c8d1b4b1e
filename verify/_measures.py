"""A loss and what goes with it, measured in one walk over the rows."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xp_xent import LossAccumulator, cross_entropy, logsumexp
from xp_xent.flow.row_blocks import BLOCK, blocks
from xp_xent.verify._pair import Pair

BINS = 15  # of a reliability diagram, as in the paper
EDGES = np.geomspace(1e-6, 1e2, 33)  # nats, of the histogram
ARRAYS = ("weight", "sample_weight", "where", "class_where")


@dataclass(frozen=True)
class Measures:
    """What `measure` found; a row counts as many times as its sample weight says.

    Parameters
    ----------
    loss : float
        With all options, the mean.
    plain : float
        The mean negative log-likelihood in nats: without smoothing, z-loss and class weights, but
        of capped logits where they are.
    bits_per_byte : float or None
    accuracy : float
    calibration_error : float
        The expected calibration error: over bins of confidence, the mean distance between
        confidence and accuracy [1]_.
    rows : int
        That count.
    broken : int
        Rows that count and whose loss is NaN or infinite; they are in the loss and the
        perplexity, and in nothing else.
    first_broken : tuple of int or None
    by_class : numpy.ndarray, shape (3, K)
        Rows, nats and hits of each class.
    by_confidence : numpy.ndarray, shape (3, 15)
        Rows, confidence and hits, summed in each bin of confidence.
    by_loss : numpy.ndarray, shape (34,)
        Rows by their plain loss: below the first edge, between edges, above the last.

    References
    ----------
    .. [1] C. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """

    loss: float
    plain: float
    bits_per_byte: float | None
    accuracy: float
    calibration_error: float
    rows: int
    broken: int
    first_broken: tuple[int, ...] | None
    by_class: np.ndarray
    by_confidence: np.ndarray
    by_loss: np.ndarray

    @property
    def perplexity(self) -> float:
        """The exponential of the plain loss."""
        return math.exp(self.plain) if self.plain < 709 else self.plain * math.inf


class _Sums:
    """What is added up, block by block."""

    def __init__(self, classes: int) -> None:
        self.loss, self.plain = LossAccumulator(), LossAccumulator()
        self.nats = self.bytes = 0.0
        self.broken = 0
        self.first_broken: tuple[int, ...] | None = None
        self.by_class = np.zeros((3, classes))
        self.by_confidence = np.zeros((3, BINS))
        self.by_loss = np.zeros(len(EDGES) + 1)

    def add(self, share: Any, plain: Any, sure: Any, hit: Any, truth: Any) -> None:
        """Add rows: their shares, losses, confidences, hits and classes."""
        finite = np.isfinite(plain) & (share > 0)
        share, plain, sure, hit, truth = (x[finite] for x in (share, plain, sure, hit, truth))
        bins = np.clip((sure * BINS).astype(np.int64), 0, BINS - 1)
        for into, places, middle in (
            (self.by_class, truth, plain),
            (self.by_confidence, bins, sure),
        ):
            for line, values in zip(into, (share, share * middle, share * hit), strict=True):
                np.add.at(line, places, values)
        np.add.at(self.by_loss, np.searchsorted(EDGES, plain, side="right"), share)

    def note_broken(self, broken: np.ndarray, start: int, shape: tuple[int, ...]) -> None:
        """Count rows whose loss is no number, and remember where the first is."""
        if broken.any() and self.first_broken is None:
            place = np.unravel_index(start + broken.argmax(), shape)
            self.first_broken = tuple(int(i) for i in place)
        self.broken += int(broken.sum())


def measure(
    pair: Pair,
    options: Mapping[str, Any],
    total_bytes: float | None = None,
    advance: Callable[[int], None] = lambda rows: None,
) -> Measures:
    """Walk the rows in blocks, and measure loss, accuracy and calibration.

    Parameters
    ----------
    pair : Pair
        Its arrays `weight`, `sample_weight`, `where` and `bytes` are used where they are there.
    options : mapping
        Options of `cross_entropy`.
    total_bytes : float, optional
        What the rows that count are of, in bytes; None: the array `bytes`, if there is one.
    advance : callable, optional
        Told how many rows were walked.

    Raises
    ------
    BadInput
        What `cross_entropy` refuses.
    """
    options = {name: x for name, x in options.items() if name not in ("axis", "ignore_index")}
    denominator, cap = options.pop("normalizer", None), options.get("softcap")
    temperature = options.get("temperature", 1.0)
    arrays, z, y, counted = pair.arrays, pair.z, pair.y, pair.counted()
    class_weight, sums, start, mask = arrays.get("weight"), _Sums(pair.classes), 0, pair.part
    names = {"logits": pair.logits, "targets": pair.targets} | {name: name for name in ARRAYS}
    for index in blocks(pair.shape, max(1, BLOCK // pair.classes)):
        keep = counted[index].reshape(-1)
        rows = np.array(z[index]).reshape(-1, pair.classes)
        rows = rows.astype(np.float32 if rows.dtype.itemsize == 2 else rows.dtype.newbyteorder("="))
        targets = np.array(y[index]).reshape(len(rows), *y.shape[z.ndim - 1 :])
        targets = targets if pair.soft else np.where(keep, targets, 0)
        part = True if mask is None else np.array(mask[index]).reshape(-1, pair.classes)
        share = np.where(keep, _part(arrays.get("sample_weight"), index, 1.0), 0.0)
        with arrays.asked(**names), np.errstate(all="ignore"):
            model = rows if cap is None else cap * np.tanh(rows / cap)
            model = np.where(part, model / temperature, rows.dtype.type(-np.inf))
            plain = cross_entropy(model, targets, where=keep, reduction="none").astype(np.float64)
            best = np.where(part, rows, -np.inf).argmax(axis=-1)
            sure = np.exp(model.max(axis=-1) - logsumexp(model)).astype(np.float64)
            full = nats = share * plain
            if options or class_weight is not None or mask is not None:
                weight = None if class_weight is None else class_weight.astype(rows.dtype)
                full = share * cross_entropy(
                    rows, targets, where=keep, weight=weight, reduction="none",
                    class_where=None if mask is None else part, **options,
                )  # fmt: skip
        truth = targets.argmax(axis=-1) if pair.soft else targets
        weighted = share if pair.soft or class_weight is None else share * class_weight[truth]
        sums.loss = sums.loss.update(full, weighted)
        sums.plain = sums.plain.update(nats, share)
        sums.nats += float(plain[np.isfinite(plain)].sum())
        sums.bytes += float((keep * _part(arrays.get("bytes"), index, 0.0)).sum())
        sums.note_broken(keep & ~np.isfinite(plain), start, pair.shape)
        sums.add(share, plain, sure, best == truth, truth)
        start += len(rows)
        advance(len(rows))
    if "bytes" in arrays and arrays["bytes"].ndim == 0 and pair.shape:
        sums.bytes = float(arrays["bytes"])
    return _told(sums, int(counted.sum()), denominator, total_bytes or sums.bytes)


def _part(array: np.ndarray | None, index: Any, default: float) -> Any:
    """Give a block of an array with a number for each row, or a number for all."""
    if array is None or array.ndim == 0:
        return default
    return np.asarray(array[index], dtype=np.float64).reshape(-1)


def _told(sums: _Sums, rows: int, denominator: float | None, total_bytes: float) -> Measures:
    loss = sums.loss
    shares, confidence, hits = sums.by_confidence
    total = shares.sum()
    return Measures(
        loss=loss.sum / denominator if denominator else loss.mean,
        plain=sums.plain.mean,
        bits_per_byte=sums.nats / math.log(2) / total_bytes if total_bytes else None,
        accuracy=float(hits.sum() / total) if total else math.nan,
        calibration_error=float(np.abs(confidence - hits).sum() / total) if total else math.nan,
        rows=rows,
        broken=sums.broken,
        first_broken=sums.first_broken,
        by_class=sums.by_class,
        by_confidence=sums.by_confidence,
        by_loss=sums.by_loss,
    )
