"""Compare what others computed with the true loss, and explain what is off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xp_xent import backends as libraries
from xp_xent.verify._changes import Facts
from xp_xent.verify._claims import Claim
from xp_xent.verify._evidence import Evidence
from xp_xent.verify._inputs import compare_inputs
from xp_xent.verify._judge import Judge, Standing
from xp_xent.verify._own import Walked, own_claims, reduced
from xp_xent.verify._predict import Predictor
from xp_xent.verify._problem import ARRAYS, Problem, problem, to_host
from xp_xent.verify._reading import claims_of
from xp_xent.verify._result import BackendResult, ClaimResult, InputResult, Result
from xp_xent.verify._rows import strange_rows, worst_rows
from xp_xent.verify._search import Explanation, search
from xp_xent.verify._stored import BadInput

__all__ = ["compare"]

INPUTS = ("logits", "targets", *ARRAYS)
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
        ``targets``, ``weight``, ``sample_weight``, ``where`` and ``class_where`` where they are not
        the common ones.
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
    named: dict[str, Mapping[str, Any]] = {"": {"loss": loss, "gradient": gradient}}
    named |= sides or {}
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
    inputs: list[InputResult] = []
    opened: list[tuple[str, Problem, list[Standing]]] = []
    for name, side in sides.items():
        local = _own_problem(name, side, base, common)
        if local is not base:
            inputs += compare_inputs(name, base.case, local.case)
        opened.append((name, local, [Standing(one) for one in claims_of(name, side, local)]))
    claimed = [one for _, _, standings in opened for one in standings]
    predictor = Predictor(base.case, base.variants)
    started, own = _on_backends(backends, base, predictor)
    precise = any(one.claim.compute == "float64" for one in (*claimed, *own))
    judge = Judge(base.case, base.pipeline, predictor, precise)
    judge.walk([*claimed, *own], advance)
    results = _finished(started, own, judge, base)
    told: list[ClaimResult] = []
    for name, local, standings in opened:
        told += _side(name, local, standings, judge, [i for i in inputs if i.name == name])
    everything: list[Any] = [*inputs, *told, *results]
    loss = None if base.pipeline.reduction == "none" else float(judge.number())
    result = Result(
        all(one.agrees for one in everything), tuple(inputs), tuple(told), results, loss,
        judge.said, dict(options),
    )  # fmt: skip
    return result, {_who(one.claim): one for one in claimed if one.picture is not None}


def _own_problem(
    name: str, side: Mapping[str, Any], base: Problem, common: Mapping[str, Any]
) -> Problem:
    """Lay out a side's own inputs, beside the common ones; the common problem if it has none."""
    theirs = {n: to_host(side[n]) for n in INPUTS if side.get(n) is not None}
    if not theirs:
        return base
    got, wanted = (np.shape(x["logits"]) for x in ({**common, **theirs}, base.arrays))
    if got != wanted:
        raise BadInput(f"logits.{name}: got shape {got}, wanted that of the others, {wanted}")
    return problem(base.loss, {**common, **theirs}, base.options, f".{name}")


def _who(claim: Claim) -> str:
    return claim.kind if claim.name == claim.kind else f"{claim.kind}.{claim.name}"


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
    name: str, local: Problem, standings: list[Standing], judge: Judge,
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
        value = one.claim.value
        loss = float(value) if value.ndim == 0 else None
        # Of inputs that differ by rounding alone it may be the loss, though not that of the others.
        rounding = all(i.agrees for i in inputs) and any(not e.rules for e in why)
        agrees = one.agrees or (rounding and bool(own))
        results.append(ClaimResult(
            one.claim.name, one.claim.kind, agrees, _finite(one.ulp), loss, one.where,
            () if agrees else tuple(why), own if why and not agrees else (), rows,
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
    sizes = [float(np.sum(weights)), float(local.case.count), float(local.case.classes)]
    if local.pipeline.reduction == "mean":
        sizes.insert(0, float(targets.divisor(local.pipeline, weights)))
    counts = tuple(n for n in dict.fromkeys(sizes) if n > 0 and n != 1)
    facts = Facts(local.case, "loss" in kinds, "gradient" in kinds, counts)
    evidence = Evidence(predictor, tuple(claims), local.pipeline)
    return search(evidence, local.pipeline, facts, deep=deep)
