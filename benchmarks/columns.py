"""Mixed columns as numbers: for our estimators, for linear models and for trees."""

import numpy as np
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)

MAX_CATEGORIES = 30
# standardised columns are cut here, so that one wild value does not own a small task
LIMIT = 6.0

NUMBERS = make_column_selector(dtype_include="number")
TEXTS = make_column_selector(dtype_exclude="number")


def preprocessing():
    """Return the stock transformer through which mixed columns reach our estimators."""
    impute = SimpleImputer(strategy="median", add_indicator=True)
    one_hot = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        max_categories=MAX_CATEGORIES,
        drop="if_binary",
        sparse_output=False,
    )
    return make_column_transformer(
        (make_pipeline(impute, StandardScaler()), NUMBERS), (one_hot, TEXTS)
    )


def linear_columns(X, train):
    """Return standardised one-hot columns, scaled by the training rows."""
    cut = FunctionTransformer(np.clip, kw_args={"a_min": -LIMIT, "a_max": LIMIT})
    steps = make_pipeline(preprocessing(), StandardScaler(), cut)
    columns = steps.fit(X.iloc[train]).transform(X)
    return columns[:, columns[train].std(0) > 0]


def tree_columns(X, train):
    """Return codes of categories beside numbers, and which columns are categories."""
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
        max_categories=MAX_CATEGORIES,
    )
    steps = make_column_transformer(("passthrough", NUMBERS), (codes, TEXTS))
    columns = steps.fit(X.iloc[train]).transform(X).astype(float)
    n_categorical = len(TEXTS(X))
    n_numbers = columns.shape[1] - n_categorical
    return columns, np.arange(columns.shape[1]) >= n_numbers
