"""scikit-learn's L1 logistic regression, the oracle of ours."""

from __future__ import annotations

from typing import Any

import sklearn
from packaging.version import Version
from sklearn.linear_model import LogisticRegression

L1 = {"l1_ratio": 1.0} if Version(sklearn.__version__) >= Version("1.8") else {"penalty": "l1"}  # as each spells it


def l1_regression(**options: Any) -> LogisticRegression:
    """Return liblinear's classifier with an L1 penalty."""
    return LogisticRegression(solver="liblinear", **L1, **options)
