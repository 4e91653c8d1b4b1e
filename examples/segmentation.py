"""Guess the colour of each pixel of a photograph from its grey neighbourhood: [B, K, H, W] logits.

The images are scikit-learn's two sample photographs; the classes are their five main colours.
Pixels where two classes meet are void, as in most segmentation data: ``ignore_index`` leaves
them out. The left of each photograph trains the model, the right tests it.

    python examples/segmentation.py [--backend torch]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import Adam, Array, parse_options, print_table, progress
from sklearn.cluster import KMeans
from sklearn.datasets import load_sample_images

from xp_xent import backends, balanced_class_weights, cross_entropy, value_and_grad

CLASSES, VOID, HIDDEN = 5, 255, 24
MODELS = (  # name, side of the neighbourhood, balanced class weights
    ("brightness alone", 1, False),
    ("9×9 neighbourhood", 9, False),
    ("9×9, balanced weights", 9, True),
)


def load() -> tuple[np.ndarray, np.ndarray]:
    """Return grey images (B, H, W) in [−1, 1] and labels (B, H, W): a colour's index or VOID."""
    images = np.stack(load_sample_images().images)[:, :424] / 255
    photographs = images.reshape(2, 106, 4, 160, 4, 3).mean(axis=(2, 4))
    colours = KMeans(CLASSES, n_init=1, random_state=0).fit(photographs.reshape(-1, 3)[::7])
    classes = colours.predict(photographs.reshape(-1, 3)).reshape(photographs.shape[:3])
    labels = classes.astype(np.int64)
    down, right = classes[:, 1:] != classes[:, :-1], classes[..., 1:] != classes[..., :-1]
    labels[:, 1:][down] = labels[:, :-1][down] = VOID
    labels[..., 1:][right] = labels[..., :-1][right] = VOID
    return photographs.mean(axis=-1) * 2 - 1, labels


def neighbourhoods(grey: np.ndarray, side: int) -> np.ndarray:
    """Return (B, side² + 1, H·W): what a convolution sees of each pixel, and a constant 1."""
    margin = side // 2
    padded = np.pad(grey, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(1, 2))
    patches = np.moveaxis(windows.reshape(len(grey), -1, side * side), 1, 2)
    return np.concat([patches, np.ones_like(patches[:, :1])], axis=1)


def forward(xp: Any, parameters: tuple[Array, Array], patches: Array) -> tuple[Array, Array]:
    """Return the hidden layer (B, HIDDEN, H·W) and the logits (B, K, H·W)."""
    filters, classifier = parameters
    hidden = xp.tanh(filters @ patches)
    return hidden, classifier @ hidden


def fit(
    backend: Any, patches: Array, labels: np.ndarray, steps: int, balanced: bool, name: str
) -> tuple[Array, Array]:
    """Train filters and classifier on every pixel at once."""
    xp, rng = backend.xp, np.random.default_rng(0)
    targets = backend.asarray(labels)
    weight = balanced_class_weights(targets, CLASSES, ignore_index=VOID) if balanced else None
    shapes = (HIDDEN, patches.shape[1]), (CLASSES, HIDDEN)
    host = [rng.normal(size=shape) / np.sqrt(shape[1]) for shape in shapes]
    parameters = tuple(backend.asarray(p, dtype="float32") for p in host)
    adam = Adam(xp, parameters)
    with progress(name, steps) as show:
        for step in range(1, steps + 1):
            hidden, flat = forward(xp, parameters, patches)
            logits = xp.reshape(flat, (len(labels), CLASSES, *labels.shape[1:]))
            loss, d_logits = value_and_grad(cross_entropy)(
                logits, targets, axis=1, weight=weight, ignore_index=VOID
            )
            d_flat = xp.reshape(d_logits, flat.shape)
            d_classifier = xp.sum(d_flat @ hidden.mT, axis=0)
            d_inner = (parameters[1].T @ d_flat) * (1 - hidden * hidden)
            d_filters = xp.sum(d_inner @ patches.mT, axis=0)
            parameters = adam.step(parameters, (d_filters, d_classifier))
            show(step, loss)
    return parameters


def scores(predicted: np.ndarray, labels: np.ndarray) -> tuple[str, str]:
    """Return pixel accuracy and mean intersection over union, void pixels left out."""
    counted = labels != VOID
    p, y = predicted[counted], labels[counted]
    shared = [np.sum((p == k) & (y == k)) / np.sum((p == k) | (y == k)) for k in range(CLASSES)]
    return f"{np.mean(p == y):.3f}", f"{np.mean(shared):.3f}"


def main() -> None:
    options = parse_options(__doc__, steps=150)
    backend = backends.get(options.backend)
    grey, labels = load()
    middle = grey.shape[2] * 2 // 3
    (train, train_labels), (test, test_labels) = (
        (grey[..., part], labels[..., part]) for part in (slice(middle), slice(middle, None))
    )
    commonest = np.bincount(train_labels[train_labels != VOID]).argmax()
    rows = [("commonest colour everywhere", *scores(np.full(test.shape, commonest), test_labels))]
    for name, side, balanced in MODELS:
        seen, unseen = (
            backend.asarray(neighbourhoods(part, side), dtype="float32") for part in (train, test)
        )
        parameters = fit(backend, seen, train_labels, options.steps, balanced, name)
        _, logits = forward(backend.xp, parameters, unseen)
        predicted = backend.to_numpy(logits).argmax(axis=1).reshape(test.shape)
        rows.append((name, *scores(predicted, test_labels)))
    print(f"\n{np.mean(labels == VOID):.0%} of {labels.size} pixels are void; {options.backend}")
    print_table(("model", "pixel accuracy", "mean IoU"), rows)


if __name__ == "__main__":
    main()
