"""What docs/coming-from.md says of other libraries' calls, asked of them."""

from __future__ import annotations

import numpy as np
import pytest

from xp_xent import cross_entropy, nll_loss, softmax

RNG = np.random.default_rng(5)
LOGITS = RNG.normal(size=(6, 3))
LABELS = np.asarray([0, 1, 2, 2, 1, 0])
SOFT = softmax(RNG.normal(size=(6, 3)))
WEIGHT = np.asarray([1.0, 2.0, 3.0])
ROWS = np.arange(1.0, 7.0)


def test_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="the library is not installed")
    there = torch.nn.functional.cross_entropy
    logits, labels, soft, weight = map(torch.asarray, (LOGITS, LABELS, SOFT, WEIGHT))
    for targets in (labels, soft):
        options = {"weight": weight, "label_smoothing": 0.1}
        torch.testing.assert_close(
            cross_entropy(logits, targets, **options), there(logits, targets, **options)
        )
    maps, places = torch.reshape(logits, (1, 3, 2, 3)), torch.reshape(labels, (1, 2, 3))
    torch.testing.assert_close(cross_entropy(maps, places, axis=1), there(maps, places))


def test_optax() -> None:
    optax = pytest.importorskip("optax", reason="the peer is not installed")
    mask = LABELS != 1
    there = optax.softmax_cross_entropy_with_integer_labels(LOGITS, LABELS)
    np.testing.assert_allclose(cross_entropy(LOGITS, LABELS, reduction="none"), there, rtol=1e-6)
    masked = cross_entropy(LOGITS, LABELS, where=mask)
    np.testing.assert_allclose(masked, there.mean(where=mask), rtol=1e-6)
    smooth = optax.softmax_cross_entropy(LOGITS, optax.smooth_labels(np.eye(3)[LABELS], 0.1))
    ours = cross_entropy(LOGITS, LABELS, label_smoothing=0.1, reduction="none")
    np.testing.assert_allclose(ours, smooth, rtol=1e-6)
    sure, first = np.asarray([[0.0, -np.inf]]), np.asarray([[1.0, 0.0]])
    assert np.isnan(optax.softmax_cross_entropy(sure, first)).all()
    assert cross_entropy(sure, first) == 0


def test_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="the peer is not installed")
    p = softmax(LOGITS)
    ours = nll_loss(np.log(p), LABELS, sample_weight=ROWS)
    np.testing.assert_allclose(ours, metrics.log_loss(LABELS, p, sample_weight=ROWS))
    impossible = metrics.log_loss([0, 1], [[0.0, 1.0], [0.0, 1.0]])
    assert np.isfinite(impossible)  # p is clipped
