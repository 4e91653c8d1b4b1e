"""The loss of this library on its backends, as claims that the truth judges like any other."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import xp_xent
from xp_xent import backends
from xp_xent.backends import Adapter, dtype_name
from xp_xent.conformance._formats import COMPUTE
from xp_xent.verify._case import BinaryCase, Case, Index, take
from xp_xent.verify._claims import Claim
from xp_xent.verify._problem import Problem
from xp_xent.verify._targets import Targets

WHOLE = 1 << 22  # logits that a backend is given at once


def prepare() -> None:
    """Set what JAX and dpnp read when they are imported: a command has the process to itself."""
    os.environ.setdefault("JAX_ENABLE_X64", "1")
    opencl = Path(sys.prefix) / "lib" / "libintelocl.so"
    if opencl.exists():
        os.environ.setdefault("OCL_ICD_FILENAMES", str(opencl))


@dataclass(frozen=True, eq=False)
class Walked(Claim):
    """A gradient that is computed where it is looked at; the rows' losses are kept.

    Attributes
    ----------
    ask : callable
        From an index, and whether the gradient is wanted, to losses and gradient of these rows.
    losses : ndarray, shape (N,)
    """

    ask: Any = None
    losses: Any = None

    def read(self, case: Case, index: Index | None) -> NDArray[np.float64]:
        """Compute some rows."""
        losses, gradient = self.ask(slice(None) if index is None else index, True)
        self.losses[index] = losses
        return np.asarray(gradient, dtype=np.float64)

    def pass_by(self, index: Index) -> None:
        """Compute the losses of some rows, without their gradient."""
        self.losses[index] = self.ask(index, False)[0]


def own_claims(name: str, problem: Problem, targets: Targets) -> tuple[Claim, ...]:
    """Compute loss and gradient on one backend.

    Raises
    ------
    Exception
        Whatever the library raises: it may lack a dtype or a device.
    """
    backend, dtype = backends.get(name), problem.case.dtype
    if dtype not in backend.float_dtypes():
        raise TypeError(f"no {dtype} there")
    if problem.case.size > WHOLE:
        return (_walked(backend, problem, targets),)
    arrays = {n: backend.asarray(a, *_type(n, a, dtype)) for n, a in problem.arrays.items()}
    logits, labels = arrays.pop("logits"), arrays.pop("targets")
    both = xp_xent.value_and_grad(getattr(xp_xent, problem.loss))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value, gradient = both(logits, labels, **arrays, **problem.options)
        value, gradient = backend.to_numpy(value), backend.to_numpy(gradient)
    if isinstance(problem.case, BinaryCase):
        gradient = gradient[..., None]
    else:
        gradient = np.moveaxis(gradient, problem.case.axis, -1)
    loss = value.reshape(-1) if value.ndim else value
    known = None
    if loss.ndim and loss.size != problem.case.count:
        loss, known = padded(value, problem.case)
    return (
        Claim(name, "loss", loss, dtype_name(value.dtype), COMPUTE[dtype], known=known),
        Claim(name, "gradient", gradient, dtype, COMPUTE[dtype]),
    )


def _type(name: str, array: Any, dtype: str) -> tuple[str, ...]:
    kind = dtype_name(array.dtype)
    return (
        () if kind.startswith(("int", "uint", "bool")) else (dtype if name == "logits" else kind,)
    )


def padded(value: Any, case: Case) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Give losses of all positions but the last of each sequence as rows, and which are known."""
    ends = [(0, 0)] * (value.ndim - 1) + [(0, case.positions[-1] - value.shape[-1])]
    known = np.pad(np.ones(value.shape, bool), ends)
    return np.pad(value, ends).reshape(-1), known.reshape(-1)


def _walked(backend: Adapter, problem: Problem, targets: Targets) -> Walked:
    """Ask for rows, block by block: their own losses and gradients, then the mean's factors."""
    case, pipeline = problem.case, problem.pipeline
    binary = isinstance(case, BinaryCase)
    loss = problem.loss if problem.loss != "next_token_cross_entropy" else "cross_entropy"
    call = getattr(xp_xent, loss)
    both = xp_xent.value_and_grad(call)
    factors, weights = targets.factors_of(pipeline), targets.weights_of_rows(pipeline)
    with np.errstate(all="ignore"):
        shares = np.where(weights == 0, 0.0, factors / weights)
    left_out = ("axis", "reduction", "normalizer")
    options = {n: v for n, v in problem.options.items() if n not in left_out}
    fixed = {
        n: backend.asarray(a)
        for n, a in problem.arrays.items()
        if n in ("weight", "pos_weight") and not (binary and n == "weight")
    }

    shifted = None if case.labels is None else targets.later(case.flat_labels, pipeline.shift, 0)

    def ask(index: Index, slope: bool) -> tuple[Any, Any]:
        z = take(case.logits, case.positions, index)
        y = take(case.probabilities, case.positions, index) if shifted is None else shifted[index]
        if binary:
            z, y = z[:, 0], y[:, 0]
        more = {"where": backend.asarray(targets.counted(pipeline)[index])}
        if case.sample_weight is not None:
            kept = weights[index].astype(np.float32 if case.dtype != "float64" else np.float64)
            more["weight" if binary else "sample_weight"] = backend.asarray(kept)
        if (part := case.part(index)) is not None:
            more["class_where"] = backend.asarray(part)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arrays = backend.asarray(z, case.dtype), backend.asarray(y)
            named = {**more, **fixed, **options, "reduction": "none"}
            value, gradient = both(*arrays, **named) if slope else (call(*arrays, **named), None)
        rows = backend.to_numpy(value).astype(np.float64)
        if gradient is None:
            return rows, None
        slopes = backend.to_numpy(gradient).astype(np.float64)
        slopes = slopes[:, None] if binary else slopes
        return rows, slopes * shares[index][:, None]

    empty = np.zeros(0)
    return Walked(backend.name, "gradient", empty, case.dtype, COMPUTE[case.dtype], ask=ask,
                  losses=np.zeros(case.count))  # fmt: skip


def reduced(walked: Walked, problem: Problem, targets: Targets) -> Claim:
    """Give the loss that the walked rows have."""
    dtype = COMPUTE[problem.case.dtype]
    losses = walked.losses
    if problem.pipeline.reduction != "none":
        factors, weights = (
            f(problem.pipeline) for f in (targets.factors_of, targets.weights_of_rows)
        )
        with np.errstate(all="ignore"):
            losses = np.sum(np.where(weights == 0, 0.0, losses * factors / weights))
            losses = np.where((weights != 0).any(), losses, np.nan)
    loss = Claim(walked.name, "loss", np.asarray(losses, dtype=dtype), dtype, dtype)
    return replace(loss)
