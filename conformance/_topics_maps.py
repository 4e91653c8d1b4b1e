"""The maps: softmax, log_softmax, logsumexp, sigmoid, log_sigmoid, and their derivatives.

A derivative is asked as a cotangent pulled back. A confident row's holds p (1 − p) or 1 − p, where
p rounds to 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from xp_xent.conformance._case import ALL, BOTH, HALF, INF, NAN, ROWS, Case, case, normal_rows

ROW_MAPS: Final = ("softmax", "log_softmax", "logsumexp")
ELEMENT_MAPS: Final = ("sigmoid", "log_sigmoid")
LEADS: Final = (1.0, 5.0, 9.0, 12.0, 20.0, 30.0, 45.0, 60.0)
PULL: Final = (0.75, -1.5, 2.0)  # a cotangent whose entries do not add up to 0
SUBNORMAL: Final = {"float32": (88.0, 95.0, 103.0), "float64": (709.0, 720.0, 744.0)}


def mapped(function: str, name: str, comment: str, x: Any, cotangent: Any, **more: Any) -> Case:
    """Write a case of a map."""
    own = f"{function.replace('_', '-')}-{name}"
    return case(own, comment, x, None, cotangent=cotangent, **more)._replace(function=function)


def pulls(function: str, rows: int, classes: int) -> dict[str, Any]:
    """Give the cotangents of rows: each class alone, and all together."""
    if function == "logsumexp":
        return {"all": [PULL[i % 3] for i in range(rows)]}
    alone = {f"class-{c}": [[float(c == j) for j in range(classes)]] * rows for c in range(classes)}
    return alone | {"all": [[PULL[j % 3] for j in range(classes)]] * rows}


def ordinary() -> Iterator[Case]:
    """Rows of the usual spread, along any axis, and elements."""
    for function in ROW_MAPS:
        for name, pull in pulls(function, 4, 3).items():
            say = f"Four rows, cotangent of {name.replace('-', ' ')}"
            flags = "MapDerivative Cotangent"
            yield mapped(function, f"rows-{name}", say, ROWS, pull, flags=flags, dtypes=ALL)
        cube = [normal_rows(3, 4, 2.0, seed=910 + i) for i in range(2)]
        for axis in (0, 1, -1, -2):
            shape = [n for i, n in enumerate((2, 3, 4)) if function != "logsumexp" or i != axis % 3]
            say = f"Classes along axis {axis} of three"
            own = f"axis-{axis}".replace("--", "-minus-")
            yield mapped(function, own, say, cube, grid(shape), axis=axis, flags="Axis")
        wide = normal_rows(2, 67, 1.5, seed=920)
        pull = [[PULL[j % 3] for j in range(67)]] * 2
        say = "Sixty-seven classes"
        pull = PULL[:2] if function == "logsumexp" else pull
        yield mapped(function, "many", say, wide, pull, flags="ManyClasses", dtypes=ALL)
        pull = PULL[:2] if function == "logsumexp" else [[0.75], [-1.5]]
        say = "One class: p is 1 and does not move"
        yield mapped(function, "one-class", say, [[5.0], [-3.0]], pull, flags="MapDerivative")
    for function in ELEMENT_MAPS:
        x = [-3.0, -0.5, -(2.0**-20), 0.0, 2.0**-20, 0.25, 2.0]
        pull = [PULL[i % 3] for i in range(len(x))]
        say = "Elements about 0"
        yield mapped(function, "elements", say, x, pull, flags="MapDerivative", dtypes=ALL)
        say = "A table"
        yield mapped(function, "table", say, ROWS, [list(PULL)] * 4, flags="Cotangent", dtypes=ALL)


def grid(shape: list[int], start: int = 0) -> Any:
    """Give nested lists of cotangents, different along every axis."""
    if not shape:
        return PULL[start % 3]
    return [grid(shape[1:], start + i) for i in range(shape[0])]


def confident() -> Iterator[Case]:
    """Leads up to 60 of one class, to either side: p (1 − p) and 1 − p keep their digits."""
    leads = [x for lead in LEADS for x in (lead, -lead)]
    more: dict[str, Any] = {"flags": "Confident MapDerivative", "dtypes": ALL}
    for function in ROW_MAPS:
        for classes, rows in {2: [[x, 0.0] for x in leads],
                              3: [[0.5, x, 0.0] for x in leads]}.items():  # fmt: skip
            for name, pull in pulls(function, len(rows), classes).items():
                say = f"{classes} classes, leads from ±1 to ±60, cotangent of {name}"
                yield mapped(function, f"leads-{classes}-{name}", say, rows, pull, **more)
    for function in ELEMENT_MAPS:
        say = "Elements from ±1 to ±60"
        yield mapped(function, "leads", say, leads, [1.0] * len(leads), **more)
        pull = [PULL[i % 3] for i in range(len(leads))]
        yield mapped(function, "leads-all", say + ", any cotangents", leads, pull, **more)
    for dtype, far in SUBNORMAL.items():
        more = {"flags": "Confident Subnormal", "dtypes": (dtype,)}
        for function in ROW_MAPS:
            pull = [1.0] * len(far) if function == "logsumexp" else [[1.0, 0.0]] * len(far)
            say = "Leads at which 1 − p is next to nothing, or nothing"
            yield mapped(function, "far", say, [[x, 0.0] for x in far], pull, **more)
        for function in ELEMENT_MAPS:
            x = [sign * one for one in far for sign in (1.0, -1.0)]
            say = "Elements at which p or 1 − p is next to nothing, or nothing"
            yield mapped(function, "far", say, x, [1.0] * len(x), **more)


def shifted() -> Iterator[Case]:
    """Offsets and ties: what all classes share changes nothing."""
    for function in ROW_MAPS:
        pull: Any = [0.75, -1.5] if function == "logsumexp" else [[*PULL, 0.5]] * 2
        for dtypes, offset, step in ((BOTH, 1e8, 8.0), (HALF, 256.0, 2.0)):
            steps = [8 * step, 0.0, step, 2 * step]
            x = [[offset + s for s in steps], [-offset + s for s in steps]]
            say = f"Offsets of ±{offset:g}"
            own, flags = f"offset-{offset:g}".replace("+", ""), "SharedOffset MapDerivative"
            yield mapped(function, own, say, x, pull, flags=flags, dtypes=dtypes)
        pull = [0.75, -1.5] if function == "logsumexp" else [[1.0, 0.0, 0.0], list(PULL)]
        say = "Equal logits, and two equal maxima"
        x = [[2.0, 2.0, 2.0], [3.0, 3.0, -1.0]]
        yield mapped(function, "tie", say, x, pull, flags="Ties MapDerivative", dtypes=ALL)


def masked() -> Iterator[Case]:
    """Classes of −inf have no probability and no slope; what has no distribution is NaN."""
    more: dict[str, Any] = {"flags": "MaskedClass MapDerivative", "dtypes": ALL}
    x = [[0.0, -INF, 0.5], [-INF, 1.0, 30.0], [-INF, -INF, 5.0]]
    for function in ROW_MAPS:
        pull: Any = list(PULL)
        if function != "logsumexp":
            of_masked = 0.0 if function == "log_softmax" else 1.0
            pull = [[p if z > -INF else p * of_masked for z, p in zip(row, PULL, strict=True)]
                    for row in x]  # fmt: skip
        yield mapped(function, "masked", "Masked classes, one sure beside another", x, pull, **more)
        pull = [1.0, 1.0] if function == "logsumexp" else [[1.0, 0.0], [1.0, 0.0]]
        say = "A row of nothing but −inf beside another"
        flags = {**more, "flags": "MaskedRow"}
        yield mapped(function, "nothing", say, [[-INF, -INF], [0.0, 1.0]], pull, **flags)
        flags = {**more, "flags": "Overflow"}
        for what, bad in {"nan": NAN, "infinity": INF}.items():
            say = f"A row with {what} beside another"
            yield mapped(function, what, say, [[bad, 0.0], [0.0, 1.0]], pull, **flags)
    for function in ELEMENT_MAPS:
        flags = {**more, "flags": "Overflow MapDerivative"}
        pull = [1.0, 2.0, 1.0, 0.5]
        say = "Limits at the infinities, and NaN"
        yield mapped(function, "limits", say, [INF, -INF, NAN, 1.0], pull, **flags)


def largest() -> Iterator[Case]:
    """Numbers whose differences overflow."""
    for dtype, top in {"float32": 2.0**127, "float64": 2.0**1023}.items():
        for function in ROW_MAPS:
            pull = [1.0] if function == "logsumexp" else [[1.0, 0.0]]
            say = "The largest numbers, of both signs"
            yield mapped(
                function, "largest", say, [[top, -top]], pull, flags="Extreme", dtypes=(dtype,)
            )


TOPICS = (ordinary, confident, shifted, masked, largest)
