"""Do these pipelines compute the same loss, and if not, what did the other side do?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xp_xent import backends as libraries
from xp_xent.backends import dtype_name
from xp_xent.conformance._formats import COMPUTE, FORMATS
from xp_xent.verify._case import BinaryCase
from xp_xent.verify._claims import Claim, Evidence
from xp_xent.verify._inputs import compare_inputs
from xp_xent.verify._judge import Judge, Standing
from xp_xent.verify._own import Walked, own_claims, padded, reduced
from xp_xent.verify._predict import Predictor
from xp_xent.verify._problem import ARRAYS, Problem, problem, to_host
from xp_xent.verify._result import BackendResult, ClaimResult, InputResult, Result
from xp_xent.verify._rows import strange_rows, worst_rows
from xp_xent.verify._rules import Facts
from xp_xent.verify._search import Explanation, search
from xp_xent.verify._steps import round_to
from xp_xent.verify._stored import BadInput

__all__ = ["compare"]

NAMED = 5  # rows of a claim
Pictures = dict[str, Standing]


def compare(
    logits: Any,
    targets: Any,
    /,
    *,
    loss: Any = None,
    gradient: Any = None,
    sides: Mapping[str, Mapping[str, Any]] | None = None,
    loss_function: str = "cross_entropy",
    backends: Sequence[str] | None = ("numpy",),
    **options: Any,
) -> Result:
    """Compare what others computed with the true loss, and find out what they did.

    Parameters
    ----------
    logits : array, shape (..., K, ...)
        Of any library; float16, bfloat16, float32 or float64.
    targets : array
        Labels or probabilities, as `loss_function` takes them.
    loss : array, float or str, optional
        What somebody else computed: the reduced loss, or a loss a row. A string keeps its digits:
        half a unit of the last one is allowed.
    gradient : array, the logits' shape, optional
        And by the logits.
    sides : mapping, optional
        Others by name: ``{"torch": {"loss": ..., "gradient": ...}}``, with their own ``logits``,
        ``targets``, ``weight``, ``sample_weight`` and ``where`` where these are not the common ones.
    loss_function : str, default "cross_entropy"
        Or ``"next_token_cross_entropy"``, ``"nll_loss"``, ``"binary_cross_entropy_with_logits"``.
    backends : sequence of str or None, default ("numpy",)
        Where this library computes the loss too; None for all that are installed.
    **options
        Options of the loss: ``ignore_index=0``, ``weight=w``, ``reduction="none"``.

    Returns
    -------
    Result
        Its `agrees` says it; printed, it explains; `to_json` gives the documented JSON.

    Raises
    ------
    BadInput
        An array or an option that does not fit; it is a ValueError.

    References
    ----------
    .. [1] F. Johansson, "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic",
       IEEE Transactions on Computers 66, 2017 (the truth).

    Examples
    --------
    >>> import numpy as np
    >>> from xp_xent.verify import compare
    >>> logits = np.asarray([[2.0, 1.0, 0.1], [0.5, 2.5, 0.3], [0.0, 0.0, 0.0]])
    >>> labels = np.asarray([0, 1, -100])
    >>> print(compare(logits, labels, loss=0.21236, backends=()).claims[0].agrees)
    False
    """
    given = {"logits": logits, "targets": targets}
    given |= {name: options.pop(name) for name in ARRAYS if options.get(name) is not None}
    options = {name: value for name, value in options.items() if name not in ARRAYS}
    named = {"": {"loss": loss, "gradient": gradient}} | {n: dict(s) for n, s in (sides or {}).items()}
    chosen = libraries.installed() if backends is None else tuple(backends)
    return judged(given, named, loss_function, chosen, options)[0]


def judged(
    given: Mapping[str, Any],
    sides: Mapping[str, Mapping[str, Any]],
    loss_function: str,
    backends: Sequence[str],
    options: Mapping[str, Any],
    advance: Callable[[int], None] = lambda _: None,
) -> tuple[Result, Pictures]:
    """Compare; give the result, and how each gradient stands to the truth."""
    common = {name: to_host(array) for name, array in given.items()}
    base = problem(loss_function, common, options)
    shared: list[Standing] = []
    own: list[tuple[str, Problem, list[Standing]]] = []
    inputs: list[InputResult] = []
    for name, side in sides.items():
        theirs = {n: to_host(a) for n, a in side.items() if n in ("logits", "targets", *ARRAYS) and a is not None}  # fmt: skip
        local = base
        if theirs:
            local = problem(loss_function, common | theirs, options, f".{name}")
            if local.case.positions != base.case.positions or local.case.classes != base.case.classes:
                shapes = " and ".join(str(x.arrays["logits"].shape) for x in (local, base))
                raise BadInput(f"logits.{name}: got shapes {shapes}, wanted one")
            inputs += compare_inputs(name, base.case, local.case)
        claims = [Standing(one) for one in claims_of(name, side, local)]
        shared += claims
        own.append((name, local, claims))
    predictor = Predictor(base.case, base.variants)
    results, standings = _on_backends(backends, base, predictor)
    precise = any(one.claim.compute == "float64" for one in (*shared, *standings))
    judge = Judge(base.case, base.pipeline, predictor, precise)
    judge.walk([*shared, *standings], advance)
    results = _finished(results, standings, judge, base)
    loss = None if base.pipeline.reduction == "none" else float(judge.number())
    claims = tuple(
        one for name, local, found in own
        for one in _side(name, local, base, found, judge, [i for i in inputs if i.name == name])
    )  # fmt: skip
    agrees = all(one.agrees for one in (*inputs, *claims, *results))
    pictures = {_who(one.claim): one for one in shared if one.picture is not None}
    asked = dict(options)
    return Result(agrees, tuple(inputs), claims, results, loss, judge.said, asked), pictures


def _who(claim: Claim) -> str:
    return claim.kind if claim.name == claim.kind else f"{claim.kind}.{claim.name}"


# Claims


def claims_of(name: str, side: Mapping[str, Any], local: Problem) -> list[Claim]:
    """Read the claims of one side, and check their shapes."""
    case, found = local.case, []
    ending = f".{name}" if name else ""
    if side.get("loss") is not None:
        value, resolution = side["loss"], 0.0
        if isinstance(value, str):
            value, resolution = decimal(value, f"loss{ending}")
        value = to_host(value)
        found.append(_claim(name or "loss", "loss", *_losses(value, local, ending), local, resolution))
    if side.get("gradient") is not None:
        value = to_host(side["gradient"])
        wanted = local.arrays["logits"].shape
        if value.shape != wanted or dtype_name(value.dtype) not in FORMATS:
            raise BadInput(
                f"gradient{ending}: got {value.dtype} {value.shape}, wanted floating numbers of the "
                f"logits' shape {wanted}"
            )
        binary = isinstance(case, BinaryCase)
        moved = value[..., None] if binary else np.moveaxis(value, case.axis, -1)
        found.append(_claim(name or "gradient", "gradient", moved, None, local))
    return found


def decimal(text: str, name: str) -> tuple[Any, float]:
    """Read a number, and half a unit of its last digit."""
    try:
        value = float(text)
    except ValueError:
        raise BadInput(f"{name}: got {text!r}, wanted a number") from None
    digits, _, exponent = text.strip().lower().partition("e")
    after = len(digits.partition(".")[2])
    return np.asarray(value), 0.5 * 10.0 ** (int(exponent or 0) - after)


def _losses(value: Any, local: Problem, ending: str) -> tuple[Any, Any]:
    """Lay out a loss, one or one a row."""
    case, shape = local.case, np.shape(value)
    shorter = (*case.positions[:-1], case.positions[-1] - 1) if case.positions else None
    if dtype_name(value.dtype) not in FORMATS:
        raise BadInput(f"loss{ending}: got {value.dtype}, wanted floating numbers")
    if shape == () or (shape == (1,) and case.count != 1):
        return np.reshape(value, ()), None
    if shape in (case.positions, (case.count,)):
        return np.reshape(value, -1), None
    if local.loss == "next_token_cross_entropy" and shape == shorter:
        return padded(value, case)
    raise BadInput(
        f"loss{ending}: got shape {shape}, wanted one number or one a row, {case.positions}"
    )


def _claim(name: str, kind: str, value: Any, known: Any, local: Problem, resolution: float = 0.0) -> Claim:  # fmt: skip
    """Tell what a claim was computed in: in float64 only what float32 does not hold."""
    dtype = dtype_name(value.dtype)
    compute = COMPUTE[local.case.dtype]
    if compute == "float64" and COMPUTE[dtype] == "float64":
        some = np.asarray(value[: max(1, 4096 // max(value[:1].size, 1))] if value.ndim else value, np.float64)
        finite = some[np.isfinite(some)]
        if finite.size and np.array_equal(round_to(finite, "float32"), finite):
            compute = "float32" if np.any(finite != np.rint(finite * 16) / 16) else compute
    else:
        compute = "float32"
    return Claim(name, kind, value, dtype if compute == "float64" else _shorter(dtype), compute,
                 resolution, known)  # fmt: skip


def _shorter(dtype: str) -> str:
    return "float32" if dtype == "float64" else dtype


# Backends


def _on_backends(
    names: Sequence[str], base: Problem, predictor: Predictor
) -> tuple[list[BackendResult], list[Standing]]:
    """Compute on each backend what can be."""
    results, standings = [], []
    for name in names:
        problem_there = ""
        try:
            standings += [Standing(one) for one in own_claims(name, base, predictor.targets)]
        except Exception as error:  # noqa: BLE001 (whatever a library raises, the others go on)
            problem_there = " ".join(str(error).split())[:200] or type(error).__name__
        results.append(BackendResult(name, problem=problem_there))
    return results, standings


def _finished(
    results: list[BackendResult], standings: list[Standing], judge: Judge, base: Problem
) -> tuple[BackendResult, ...]:
    """Put together what was found of each backend."""
    done = []
    for one in results:
        mine = {s.claim.kind: s for s in standings if s.claim.name == one.name}
        if one.problem or not mine:
            done.append(one)
            continue
        slope = mine["gradient"]
        if isinstance(slope.claim, Walked):
            mine["loss"] = Standing(reduced(slope.claim, base, judge.targets))
            judge.stand(mine["loss"])
        value = mine["loss"].claim.value
        done.append(BackendResult(
            one.name, float(value) if value.ndim == 0 else None, _finite(mine["loss"].ulp),
            _finite(slope.ulp), slope.where, mine["loss"].agrees and slope.agrees,
        ))  # fmt: skip
    return tuple(done)


def _finite(x: float) -> float | None:
    return x if np.isfinite(x) else None


# Explanations


def _side(
    name: str, local: Problem, base: Problem, standings: list[Standing], judge: Judge,
    inputs: list[InputResult],
) -> list[ClaimResult]:  # fmt: skip
    """Explain what is off of one side: all its claims at once, or else each alone."""
    off = [one for one in standings if not one.agrees]
    explanations: dict[int, list[Explanation]] = {}
    own = tuple(f"{one.array}.{name}" for one in inputs)
    if off:
        predictor = judge.predictor
        if own:
            predictor = Predictor(local.case, local.variants)
        usable = [one for one in standings if _explainable(one)]
        masked = {id(one): strange_rows(one, judge) for one in standings}
        claims = [masked[id(one)][0] for one in usable]
        found = _searched(claims, predictor, local) if claims else []
        for one in usable:
            alone = found
            if not found and len(claims) > 1 and not one.agrees:
                # That one number fits two rules says little where the gradient did not.
                deep = one.claim.form != "number"
                alone = _searched([masked[id(one)][0]], predictor, local, deep=deep)
            explanations[id(one)] = alone
    results = []
    for one in standings:
        why = [] if one.agrees else explanations.get(id(one), [])
        rows = () if one.agrees else strange_rows(one, judge)[1]
        if not one.agrees and not why and not (rows and all(row.why for row in rows)):
            rows = (*rows, *worst_rows(one, judge))[:NAMED]
        used = own if any(not e.rules or own for e in why) else ()
        value = one.claim.value
        loss = float(value) if value.ndim == 0 else None
        results.append(ClaimResult(
            one.claim.name, one.claim.kind, one.agrees, _finite(one.ulp), loss, one.where,
            tuple(why), used, rows,
        ))  # fmt: skip
    return results


def _explainable(one: Standing) -> bool:
    """Tell if a claim is numbers: one that is NaN is explained by rows."""
    return one.claim.form != "number" or bool(np.isfinite(one.claim.value))


def _searched(
    claims: list[Claim], predictor: Predictor, local: Problem, *, deep: bool = True
) -> list[Explanation]:
    kinds = {claim.kind for claim in claims}
    targets = predictor.targets
    weights = targets.weights_of_rows(local.pipeline)
    sizes = (float(np.sum(weights)), float(local.case.count), float(local.case.classes))
    if local.pipeline.reduction == "mean":
        sizes = (float(np.sum(targets.divisor(local.pipeline, weights))), *sizes)
    counts = tuple(n for n in dict.fromkeys(sizes) if n > 0 and n != 1)
    facts = Facts(local.case, "loss" in kinds, "gradient" in kinds, counts)
    evidence = Evidence(predictor, tuple(claims), local.pipeline)
    return search(evidence, local.pipeline, facts, deep=deep)
