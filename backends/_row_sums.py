"""The statistic of a row that kernels see elements through, as a conforming library computes it.

Adapters override `exp_sums` and `exp_gradient`, or a step of them: by fused kernels, by derivatives
that are stated, without a maximum where none is needed, in blocks on a device.
"""

from typing import Any, ClassVar, NamedTuple

Array = Any


class ExpSums(NamedTuple):
    """Rows of exponentials around one class each, the reference: (..., 1), but z and exps (..., K).

    With m = `row_max`, `other_sum` is Σ exp(z_j − m) over the classes but the reference, and `gap`
    the reference's z less m. m is None where no maximum was taken, and nothing is subtracted.
    """

    z: Array  # logits in the loss's dtype; less `row_max` already where `level` is 0
    reference: Array
    row_max: Any  # None where no maximum was taken
    level: Array | float  # what is to be subtracted from `z` yet
    other_sum: Array
    gap: Any  # None where no maximum was taken
    reference_exp: Any = None  # exp(gap), where it is known
    exps: Any = None  # with 0 at the reference; None where they were not kept
    place: Any = None  # where in `exps` the reference is, for `set_at_label`
    total: Any = None  # other_sum + reference_exp, where it is known
    laid: Any = None  # `exps` as they were summed, where NumPy's adapter laid them out for that


class SpreadSums(NamedTuple):
    """Rows around their largest classes, summed up with the masses q that label smoothing gives."""

    sums: ExpSums
    masses: tuple[Array, Array]  # of q at the largest class, and of the others, (..., 1)
    cross: Array  # Σ q_j (m − z_j) over the others, (..., 1)


class RowSums:
    """The part of a backend that sums up rows, and writes what is made of their exponentials."""

    xp: Any
    class_axis: int
    differentiable: ClassVar[bool]
    # Operations of `Backend`.
    cast: Any
    custom_derivative: Any
    indices: Any
    kernel_layout: Any
    row_sum: Any
    scale_rows: Any
    set_at_label: Any
    stop_gradient: Any
    take_label: Any
    _row_argmax: Any
    _row_max: Any

    def exp_sums(
        self,
        z: Array,
        reference: Array | None,
        dtype: Any,
        *,
        valid: Array | None = None,
        need: str = "exps",
        multipliers: tuple[Any, ...] | None = None,
    ) -> ExpSums:
        """Sum the exponentials of rows z (..., K) around a class each: its label, say.

        Parameters
        ----------
        z : array, (..., K)
            Logits in any floating dtype.
        reference : integer array, (..., 1), or None
            The class that is left out of the sum. None: the largest.
        dtype : dtype
            What is computed with.
        valid : boolean array, (..., 1), optional
            Rows that count; another's NaN must not reach a derivative.
        need : {"exps", "gradient", "sums"}
            What is asked for of the exponentials: themselves, `exp_gradient` alone, or nothing but
            their sums, whose derivatives an adapter may then state.
        multipliers : tuple, optional
            What exponentials over their total will be multiplied by, (..., 1) or numbers. Where
            it is given, the result may be one without a maximum taken; None says that mass lies on
            several classes, or that a multiplier may be too small for it.

        Returns
        -------
        ExpSums
        """
        sums = None
        if reference is not None and need != "exps":  # the exponentials need not be kept
            sums = self._sums_alone(z, reference, dtype)
        if sums is not None:
            return sums
        xp = self.xp
        z = self.kernel_layout(z, dtype)
        # Blanked after its maximum is taken, not before: compilers fuse what is done to elements
        # with what follows, but not with a reduction.
        row_max = self._row_max(z)
        at_row_max = reference is None
        given = z, self.stop_gradient(row_max)
        if valid is not None and self.differentiable:
            z, row_max = xp.where(valid, z, 0.0), xp.where(valid, row_max, 0.0)
        if at_row_max:
            reference = self._row_argmax(z)
        if need == "sums" and (stated := self._stated_sums(*given, reference, valid)):
            row_max, other_sum, gap = stated
            return ExpSums(z, reference, row_max, row_max, other_sum, gap)
        # The shift drops out of every result, so it must not enter a derivative either.
        row_max = level = self.stop_gradient(row_max)
        if self.differentiable and not at_row_max:
            z, row_max = self.custom_derivative(less, self._less_largest, z, row_max)
            level = 0.0
        exps, other_sum, reference_z = self._exps(z, level, reference)
        return ExpSums(
            z, reference, row_max, level, other_sum, reference_z - level, None, exps, reference
        )

    def exp_gradient(
        self, sums: ExpSums, factor: Array, entry: Array, valid: Array | None, dtype: Any
    ) -> Array:
        """Return exponentials times a factor, with an entry at the reference, rounded to a dtype.

        It is 0 in rows that are not valid, and may use up the exponentials.
        """
        if sums.exps is None:
            return self._gradient_again(sums, factor, entry, valid, dtype)
        gradient = self.set_at_label(self.scale_rows(sums.exps, factor), sums.place, entry)
        return self.cast(self.scale_rows(gradient, valid=valid), dtype)

    def _spread_sums(self, rows: Any, dtype: Any) -> SpreadSums | None:
        """Sum up rows of labels that are smoothed uniformly, and keep no masses; None: `exp_sums`.

        It is for an adapter to which each sum over the classes is an exchange.
        """
        return None

    def _at_largest(self, sums: ExpSums) -> Array:
        """Return whether each row's reference is its largest class, (..., 1); ties count."""
        return sums.gap >= 0

    # Steps of these two, which adapters of compilers and devices take in other ways

    def _exps(self, z: Array, level: Array | float, reference: Array) -> tuple[Array, ...]:
        """Return exp(z − level) with 0 at each row's reference, their sum, and z there."""
        exps = self.set_at_label(self._exp(z, level), reference, 0.0)
        return exps, *self._summed(exps, z, reference)

    def _summed(self, exps: Array, z: Array, reference: Array) -> tuple[Array, Array]:
        """Return the sum of the exponentials of each row, and z at its reference."""
        return self.row_sum(exps), self.take_label(z, reference)

    def _exp(self, z: Array, level: Array | float) -> Array:
        """Return exp(z − level) as an array that may be written over."""
        return self.xp.exp(z - level)

    def _sums_alone(self, z: Array, reference: Array, dtype: Any) -> ExpSums | None:
        """Return sums around labels without the exponentials, walking z in any dtype; or None."""
        return None

    def _gradient_again(
        self, sums: ExpSums, factor: Array, entry: Array, valid: Array | None, dtype: Any
    ) -> Array:
        """Do as `exp_gradient` where exponentials were not kept."""
        exps = self._exp(sums.z, sums.level)
        again = sums._replace(exps=exps, place=sums.reference)
        return self.exp_gradient(again, factor, entry, valid, dtype)

    def _stated_sums(
        self, z: Array, row_max: Array, reference: Array, valid: Array | None
    ) -> tuple[Array, Array, Array] | None:
        """Return `row_max`, `other_sum` and `gap` with derivatives the adapter states; or None.

        Differentiated again, they are to be what `exp_sums` keeps. Neither array is blanked yet;
        what is returned is, in rows that are not valid.
        """
        return None

    def _less_largest(self, z: Array, row_max: Array) -> tuple[Array, Array]:
        """Return z − row_max and row_max, in a form for a library that differentiates.

        Where a class holds more than half of the probability, the maximum carries the derivative of
        its logit, and its own difference none. So none of the row's further derivatives is
        1 − p for a p near 1, whatever the reference is.
        """
        xp = self.xp
        below = z - row_max
        sure = self.row_sum(xp.exp(self.stop_gradient(below))) < 2
        largest = self._row_argmax(z)
        row_max = xp.where(sure, self.take_label(z, largest), row_max)
        at_centre = sure & (self.indices(z) == largest)
        return xp.where(at_centre, 0.0, z - row_max), row_max


def less(z: Array, row_max: Array) -> tuple[Array, Array]:
    """Return z − row_max and row_max."""
    return z - row_max, row_max
