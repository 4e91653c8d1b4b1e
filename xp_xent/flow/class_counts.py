"""Counts of the classes among labels, and sums of their weights."""

from typing import Any

Array = Any


def class_counts(
    num_classes: int, ignored: int | None, backend: Any, labels: Array, sample_weight: Array | None
) -> Array:
    """Count each class, or sum its labels' weights, in the default floating dtype."""
    xp = backend.xp
    classes = backend.indices(backend.full((num_classes + 1,), 0, labels.dtype, like=labels), -1)
    labels = backend.kernel_layout(labels, classes.dtype)
    flat = xp.reshape(labels, (-1,))
    if ignored is not None:
        flat = xp.where(flat == ignored, -1, flat)
    dtype = default_float(backend, labels)
    # In sorted labels each class is one run, found by bisection: no table of N × K.
    if sample_weight is None or flat.shape[0] == 0:
        edges = xp.searchsorted(xp.sort(flat), classes)
        return backend.cast(edges[1:] - edges[:-1], dtype)
    order = xp.argsort(flat)
    flat = xp.take(flat, order, axis=0)
    edges = xp.searchsorted(flat, classes)
    weight = xp.reshape(backend.cast(sample_weight, dtype), (-1,))
    sums = _sums_of_runs(xp, flat, xp.take(weight, order, axis=0))
    last, some = edges[1:] - 1, edges[1:] > edges[:-1]
    return xp.where(some, xp.take(sums, xp.where(some, last, 0), axis=0), 0.0)


def _sums_of_runs(xp: Any, labels: Array, weight: Array) -> Array:
    """Sum weights from the beginning of each run of equal labels to each of its positions.

    In steps of doubled length, so that nothing is taken away again: a running sum over all would
    leave its rounding errors to a rare class.
    """
    step, count = 1, labels.shape[0]
    while step < count:
        same = labels[step:] == labels[:-step]
        grown = weight[step:] + xp.where(same, weight[:-step], 0.0)
        weight = xp.concat([weight[:step], grown], axis=0)
        step *= 2
    return weight


def over_rows(backend: Any, *counts: Array) -> tuple[Array, ...]:
    """Add up what each part of the rows counts, in one exchange."""
    return counts if backend._rows is None else backend._rows.sum(*counts)


def default_float(backend: Any, like: Array) -> Any:
    """Return the library's default floating dtype where that array lives."""
    # Imported here: it takes 30 ms, which `import xp_xent` need not spend.
    import array_api_extra as xpx

    return xpx.default_dtype(backend.xp, "real floating", device=backend.device(like))
