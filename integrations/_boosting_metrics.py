"""Metrics of boosting libraries: the mean loss, in each library's form."""

from dataclasses import dataclass
from typing import Any

from xp_xent.integrations._boosting import BoostedLoss, call_arguments

Array = Any


@dataclass(frozen=True)
class _Metric:
    """A loss and the name it is reported by."""

    loss: BoostedLoss
    name: str

    @property
    def __name__(self) -> str:
        """The name, where scikit-learn's wrappers look for it."""
        return self.name

    def _value(self, first: Any, second: Any, weight: Array | None) -> float:
        return self.loss.value(*call_arguments(first, second, weight))


class XGBoostMetric(_Metric):
    """What `xgboost_metric` returns."""

    def __call__(
        self, first: Any, second: Any, sample_weight: Array | None = None
    ) -> float | tuple[str, float]:
        """Return name and value of a native call, the value alone of one by the wrappers."""
        value = self._value(first, second, sample_weight)
        return (self.name, value) if hasattr(second, "get_label") else value


class LightGBMMetric(_Metric):
    """What `lightgbm_metric` returns."""

    def __call__(
        self, first: Any, second: Any, weight: Array | None = None
    ) -> tuple[str, float, bool]:
        """Return name and value, and that higher is not better."""
        return self.name, self._value(first, second, weight), False
