"""Peers, dressed as the functions here: what one does not offer raises NotImplementedError.

An adapter moves axes, names options and takes the mean where a peer leaves that to its user. It
never repairs a number.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np

from xp_xent import backends
from xp_xent.conformance._derive import jax_gradient, torch_gradient
from xp_xent.conformance._onnx import operator
from xp_xent.conformance._peer_options import (
    BINARY,
    along,
    as_logits,
    elements,
    for_pytorch,
    no_ignored,
    require_int64,
    soft,
    softmax_rows,
    takes,
)
from xp_xent.conformance._rank_subjects import RANK_PEERS
from xp_xent.conformance._subject import Subject

Array = Any


def pytorch() -> Subject:
    """torch.nn.functional, and the maps beside it."""
    import torch
    from torch.nn import functional

    def cross_entropy(logits: Array, targets: Array, **options: Any) -> Array:
        logits, targets, given = for_pytorch(logits, targets, options)
        return functional.cross_entropy(logits, targets, **given)

    def binary(logits: Array, targets: Array, **options: Any) -> Array:
        given = takes(options, "weight", "pos_weight", "reduction")
        targets, given = targets.to(logits.dtype), as_logits(given, logits)
        return functional.binary_cross_entropy_with_logits(logits, targets, **given)

    functions = {
        "cross_entropy": cross_entropy,
        BINARY: binary,
        "softmax": along(torch.softmax, "dim"),
        "log_softmax": along(torch.log_softmax, "dim"),
        "logsumexp": along(torch.logsumexp, "dim"),
        "sigmoid": torch.sigmoid,
        "log_sigmoid": functional.logsigmoid,
    }
    gradients = {name: torch_gradient(call) for name, call in functions.items()}
    return Subject("PyTorch F.*", "torch", functions, gradients, packages=("torch",))


def transformers() -> Subject:
    """The loss of causal language models; its labels are given shifted."""
    from transformers.loss.loss_utils import ForCausalLMLoss

    def cross_entropy(logits: Array, targets: Array, **options: Any) -> Array:
        given = takes(options, "ignore_index", "normalizer", "reduction")
        if given["reduction"] != "mean" or given["ignore_index"] is None:
            raise NotImplementedError("the mean only")
        if soft(logits, targets):
            raise NotImplementedError("labels only")
        require_int64(targets)
        return ForCausalLMLoss(
            logits, None, logits.shape[-1], num_items_in_batch=given["normalizer"],
            ignore_index=given["ignore_index"], shift_labels=targets,
        )  # fmt: skip

    dtypes = ("float16", "bfloat16", "float32")  # it computes in float32
    gradients = {"cross_entropy": torch_gradient(cross_entropy)}
    functions, packages = {"cross_entropy": cross_entropy}, ("transformers", "torch")
    name = "Transformers ForCausalLMLoss"
    return Subject(name, "torch", functions, gradients, dtypes, packages=packages)


def liger() -> Subject:
    """Liger's kernel, on a copy on the GPU that it needs."""
    import torch

    if not torch.cuda.is_available():
        raise ImportError("needs a GPU")
    from liger_kernel.transformers.functional import liger_cross_entropy

    def cross_entropy(logits: Array, targets: Array, **options: Any) -> Array:
        offered = ("weight", "ignore_index", "label_smoothing", "softcap", "z_loss", "reduction")
        given = takes(options, *offered)
        if soft(logits, targets):
            raise NotImplementedError("labels only")
        require_int64(targets)
        weight, scale = given.pop("weight"), given.pop("z_loss")
        rows = logits.cuda().reshape(-1, logits.shape[-1])
        weight = None if weight is None else weight.cuda()
        loss = liger_cross_entropy(
            rows, targets.cuda().reshape(-1), weight, lse_square_scale=scale, **given
        )
        return (loss.reshape(targets.shape) if given["reduction"] == "none" else loss).cpu()

    gradients = {"cross_entropy": torch_gradient(cross_entropy)}
    functions, packages = {"cross_entropy": cross_entropy}, ("liger-kernel", "torch")
    return Subject("Liger", "torch", functions, gradients, packages=packages)


# JAX


def optax() -> Subject:
    """optax.losses."""
    from optax import losses

    def rows(logits: Array, targets: Array, axis: int) -> Array:
        if soft(logits, targets):
            return losses.softmax_cross_entropy(logits, targets, axis=axis)
        return losses.softmax_cross_entropy_with_integer_labels(logits, targets, axis=axis)

    functions = {
        "cross_entropy": softmax_rows(rows),
        BINARY: elements(losses.sigmoid_binary_cross_entropy),
        "sigmoid_focal_loss": elements(losses.sigmoid_focal_loss, "alpha", "gamma"),
    }
    gradients = {name: jax_gradient(call) for name, call in functions.items()}
    return Subject("optax", "jax", functions, gradients, packages=("optax", "jax"))


def jax_nn() -> Subject:
    """The maps of jax.nn."""
    from jax import nn

    functions = {
        "softmax": along(nn.softmax, "axis"),
        "log_softmax": along(nn.log_softmax, "axis"),
        "logsumexp": along(nn.logsumexp, "axis"),
        "sigmoid": nn.sigmoid,
        "log_sigmoid": nn.log_sigmoid,
    }
    gradients = {name: jax_gradient(call) for name, call in functions.items()}
    return Subject("jax.nn", "jax", functions, gradients, packages=("jax",))


# Keras


def keras(backend: str) -> Subject:
    """keras.ops on the backend that KERAS_BACKEND names: one in a process."""
    os.environ.setdefault("KERAS_BACKEND", backend)
    try:
        import keras
    except ValueError as error:  # a backend that Keras does not know
        raise ImportError(str(error)) from error
    if keras.config.backend() != backend:
        raise ImportError(f"Keras runs on {keras.config.backend()} in this process")
    if backend not in backends.installed():
        raise ImportError(f"{backend} is not installed")
    ops = keras.ops

    def rows(logits: Array, targets: Array, axis: int) -> Array:
        if soft(logits, targets):
            return ops.categorical_crossentropy(targets, logits, from_logits=True, axis=axis)
        return ops.sparse_categorical_crossentropy(targets, logits, from_logits=True, axis=axis)

    def binary(logits: Array, targets: Array) -> Array:
        return ops.binary_crossentropy(targets, logits, from_logits=True)

    functions = {"cross_entropy": softmax_rows(rows), BINARY: elements(binary)}
    derive = {"torch": torch_gradient, "jax": jax_gradient}.get(backend)
    gradients = {name: derive(call) for name, call in functions.items()} if derive else {}
    packages, found = ("keras", backend), backends.get(backend).float_dtypes()
    dtypes = None if "float64" in found else found  # JAX without its 64 bits, as Keras runs it
    return Subject(f"Keras on {backend}", backend, functions, gradients, dtypes, packages=packages)


KERAS: Final = ("numpy", "torch", "jax")


# NumPy


def scipy() -> Subject:
    """SciPy has no loss: log_softmax and a gather, and softmax minus one-hot; and its maps."""
    from scipy.special import expit, log_expit, log_softmax, logsumexp, softmax

    def rows(logits: Array, targets: Array, axis: int) -> Array:
        if soft(logits, targets):
            raise NotImplementedError("labels only")
        log_p = log_softmax(logits, axis=axis)
        picked = np.take_along_axis(log_p, np.expand_dims(targets, axis), axis=axis)
        return -np.squeeze(picked, axis=axis)

    def gradient(logits: Array, targets: Array, **options: Any) -> Array:
        no_ignored(targets, options)
        given = takes(options, "axis", "reduction")
        if soft(logits, targets):
            raise NotImplementedError("labels only")
        axis = given["axis"]
        slope, place = softmax(logits, axis=axis), np.expand_dims(targets, axis)
        at_label = np.take_along_axis(slope, place, axis=axis)
        np.put_along_axis(slope, place, at_label - np.ones((), slope.dtype), axis=axis)
        count = np.asarray(targets.size, slope.dtype)
        return slope / count if given["reduction"] == "mean" else slope

    functions = {
        "cross_entropy": softmax_rows(rows),
        "softmax": along(softmax, "axis"),
        "log_softmax": along(log_softmax, "axis"),
        "logsumexp": along(logsumexp, "axis"),
        "sigmoid": expit,
        "log_sigmoid": log_expit,
    }
    gradients, dtypes = {"cross_entropy": gradient}, ("float16", "float32", "float64")
    packages = ("scipy", "numpy")
    return Subject("SciPy + gather", "numpy", functions, gradients, dtypes, packages=packages)


def scikit_learn() -> Subject:
    """sklearn.metrics.log_loss, which takes probabilities: SciPy's softmax of the logits."""
    from scipy.special import softmax
    from sklearn.metrics import log_loss

    def cross_entropy(logits: Array, targets: Array, **options: Any) -> Array:
        no_ignored(targets, options)
        given = takes(options, "sample_weight", "reduction")
        if given["reduction"] == "none" or logits.ndim != 2 or soft(logits, targets):
            raise NotImplementedError("the mean or sum of rows with labels only")
        loss = log_loss(
            targets, softmax(logits, axis=-1), normalize=given["reduction"] == "mean",
            sample_weight=given["sample_weight"], labels=np.arange(logits.shape[-1]),
        )  # fmt: skip
        return np.asarray(loss, dtype=logits.dtype)  # it is a Python float

    functions = {"cross_entropy": cross_entropy}
    dtypes, packages = ("float32", "float64"), ("scikit-learn", "scipy")
    return Subject("scikit-learn log_loss", "numpy", functions, {}, dtypes, packages=packages)


# Name for the command line -> how to make it, which raises ImportError where it is not installed
PEERS: Final[dict[str, Callable[[], Subject]]] = {
    "PyTorch F.*": pytorch,
    "optax": optax,
    "jax.nn": jax_nn,
    **{f"Keras on {backend}": partial(keras, backend) for backend in KERAS},
    "SciPy + gather": scipy,
    "scikit-learn log_loss": scikit_learn,
    "Transformers ForCausalLMLoss": transformers,
    "Liger": liger,
    "ONNX SoftmaxCrossEntropyLoss in onnxruntime": operator,
    **RANK_PEERS,
}
