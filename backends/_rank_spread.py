"""Label smoothing on the classes that each rank has: two walks around one exchange.

With q = a·δ_y + g, the label's mass and those that smoothing gives, a part is summed up around the
largest k of its classes:

    top = z_k        rest = Σ_{j≠k} exp(z_j − top)        cross = Σ_{j≠k} q_j (top − z_j)

and the masses of q at k and elsewhere. Seen from the largest class of all, a part's own k is one
more of the others, and `cross` is larger by its masses times the difference of the tops: all are
sums of positive terms.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any

from xp_xent.backends._base import Array
from xp_xent.backends._row_sums import ExpSums, SpreadSums


def sums(part: Any, rows: Any, dtype: Any) -> SpreadSums | None:
    """Sum up and merge; None where numbers that are not finite have to be told apart."""
    xp, local, z = part.xp, part.local, rows.logits
    index, here = part._placed_here(z, rows.label)
    mass = 1.0 if rows.label_weight is None else rows.label_weight
    given = rows.smoothing_mass
    if z.shape[part.class_axis] == 0:
        none = part.cast(local.row_sum(z), dtype)
        found = none - xp.inf, part.cast(none, index.dtype), none, none, none, none
    else:
        # Of each class the others' masses, of which nothing is taken away again.
        others = xp.reshape(_others(xp, xp.reshape(given, (-1,))), given.shape)
        step = _sums(local, dtype)
        found = local.map_blocks(step, z, index, here, mass, given, others)
    tops, places, rests, at_top, elsewhere, crosses = part.classes.gather(*found)
    firsts = part.classes.starts(z.shape[part.class_axis])
    top, place, on_top = tops[0], places[0] + firsts[0], at_top[0]
    for one, at, first, on in zip(tops[1:], places[1:], firsts[1:], at_top[1:], strict=True):
        take = one > top
        top = xp.where(take, one, top)
        place, on_top = xp.where(take, at + first, place), xp.where(take, on, on_top)
    other_sum, off_top, cross = [], [], []
    for one, at, first, rest, on, off, own in zip(
        tops, places, firsts, rests, at_top, elsewhere, crosses, strict=True
    ):
        below, elected = top - one, (at + first == place) & (one == top)
        factor = xp.exp(-below)
        other_sum.append(rest * factor + xp.where(elected, 0.0, factor))
        masses = off + xp.where(elected, 0.0, on)
        off_top.append(masses)
        # (a part without classes has no mass, and no top)
        cross.append(own + xp.where(masses == 0, 0.0, masses * below))
    added = [functools.reduce(operator.add, x) for x in (other_sum, off_top, cross)]
    finite = xp.isfinite(added[0] + added[2])
    if not bool(xp.all(finite if rows.valid is None else finite | ~rows.valid)):
        return None
    kept = ExpSums(z, place, top, top, added[0], xp.zeros_like(top))
    return SpreadSums(kept, (on_top, added[1]), added[2])


def _sums(local: Any, dtype: Any) -> Callable[..., tuple[Array, ...]]:
    xp = local.xp

    def on_block(z: Array, index: Array, here: Array, mass: Any, given: Any, others: Any) -> Any:
        z = local.kernel_layout(z, dtype)
        place = local._row_argmax(z)
        top = local.take_label(z, place)
        is_label = here & (index == place)
        off_label = here & (index != place)
        below = z - top
        at_label = local.take_label(below, index)
        exps = local.set_at_label(local._exp(below, 0.0), place, 0.0)
        rest = local.row_sum(exps)
        cross = -local.row_sum(local.scale_rows(below, given))
        cross = cross - xp.where(off_label, mass * at_label, 0.0)
        at_top, off = (
            xp.reshape(xp.take(xp.reshape(x, (-1,)), xp.reshape(place, (-1,))), top.shape)
            for x in (given, others)
        )
        at_top = at_top + xp.where(is_label, mass, 0.0)
        return top, place, rest, at_top, off + xp.where(off_label, mass, 0.0), cross

    return on_block


def gradient(
    part: Any, spread: SpreadSums, by_exp: Array, entry: Array, factor: Any, rows: Any, dtype: Any
) -> Array:
    """Make the exponentials again, block by block, and of them the gradient."""
    local, kept, mass = part.local, spread.sums, rows.label_weight
    z, level = kept.z, kept.row_max
    if z.shape[part.class_axis] == 0:
        return part.cast(z, dtype)
    at_top, label = (part._placed_here(z, x) for x in (kept.reference, rows.label))
    rounded, given = level.dtype, rows.smoothing_mass

    def on_block(z: Array, level: Array, *operands: Any) -> Array:
        by_exp, entry, factor, top, top_here, label, label_here, mass, given, valid = operands
        found = local.scale_rows(local._exp(local.kernel_layout(z, rounded), level), by_exp)
        found -= given
        at_label = local.take_label(found, label)
        found = local.set_at_label(
            found, label, local.xp.where(label_here, at_label - mass, at_label)
        )
        entry = local.xp.where(top_here, entry, local.take_label(found, top))
        found = local.scale_rows(local.set_at_label(found, top, entry), factor, valid)
        return local.cast(found, dtype)

    mass = 1.0 if mass is None else mass
    operands = by_exp, entry, factor, *at_top, *label, mass, given, rows.valid
    return local.map_blocks(on_block, z, level, *operands)


def _others(xp: Any, given: Array) -> Array:
    """Return, for each of the numbers (K,), the sum of the others: a tree, without a difference."""
    count = given.shape[0]
    if count == 1:
        return xp.zeros_like(given)
    half = count // 2
    first, second, left = given[:half], given[half : 2 * half], given[2 * half :]
    above = _others(xp, xp.concat([first + second, left]))
    return xp.concat([above[:half] + second, above[:half] + first, above[half:]])
