"""Errors about cells that are no finite numbers say in which column and task."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from sklearn_meta import MetaEmbedding, PooledRegressor

NUMBERS = [0.5, 1.0, -1.0, 2.0, 0.0, 1.5]
IDS = np.repeat(["Abilene", "Boston", "Cork"], 2)


def frame_with(**columns):
    """Return a table of six rows with a good column before the given ones."""
    return pd.DataFrame({"u": NUMBERS, **columns})


def message_of(call):
    """Return the text of the error that a call raises."""
    with pytest.raises((TypeError, ValueError)) as info:
        call()
    return str(info.value)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([1, 2, np.nan, 3, np.nan, 4], "In task 'Boston': Input X contains NaN: 2 in"),
        ([1, 2, 3, None, 5, "6"], "In task 'Boston': Input X contains NaN: 1 in"),
        ([1, 2, 3, pd.NA, 5, 6.0], "In task 'Boston': Input X contains NaN: 1 in"),
        ([1, 2, 3, 4, 5, -np.inf], "In task 'Cork': Input X contains infinity: 1 in"),
        (list("123west")[:3] + ["w"] * 3, "In task 'Boston': could not convert"),
        (pd.date_range("2020-01-01", periods=6), "Input X has dates in"),
        ([pd.Timestamp("2020-01-01")] * 5 + ["w"], "In task 'Abilene': float()"),
    ],
    ids=str,
)
def test_fit_when_a_cell_is_no_number_then_names_its_column_and_task(cells, message):
    # Among fifty columns of a thousand tables one must know where to look.
    X = frame_with(wind=cells)
    text = message_of(lambda: PooledRegressor().fit(X, NUMBERS, tasks=IDS))
    assert text.startswith(message)
    assert "column 'wind'" in text and "\n" not in text


def test_fit_when_a_cell_of_an_array_is_text_then_counts_the_column():
    # Arrays have no names.
    X = frame_with(wind=list("wswwww")).to_numpy()
    text = message_of(lambda: PooledRegressor().fit(X, NUMBERS, tasks=IDS))
    assert "could not convert string to float: 'w' in column 1. Encode texts" in text


def test_fit_when_many_columns_have_nan_then_names_three():
    # The message stays one line.
    X = pd.DataFrame(np.full((6, 9), np.nan)).rename(columns=str)
    text = message_of(lambda: PooledRegressor().fit(X, NUMBERS, tasks=IDS))
    assert "6 in column '2' and more in 6 columns. Fill them in a pipeline" in text


def test_fit_when_text_stands_beside_nan_then_names_the_task_of_the_text():
    # The task of the NaN would send the reader to another table.
    X = frame_with(age=[np.nan, 1, 2, 3, 4, 5], wind=["1", "2", "3", "4", "5", "w"])
    text = message_of(lambda: PooledRegressor().fit(X, NUMBERS, tasks=IDS))
    assert text.startswith("In task 'Cork': could not convert string to float: 'w'")


def test_fit_when_rows_are_sparse_then_names_dense_encoders():
    # In a pipeline nobody can call toarray.
    X, pairs = csr_array(np.eye(6)), [(csr_array(np.eye(6)), NUMBERS)] * 2
    expected = "Sparse data was passed for X.*OneHotEncoder\\(sparse_output=False\\)"
    with pytest.raises(TypeError, match=expected):
        PooledRegressor().fit(X, NUMBERS, tasks=IDS)
    with pytest.raises(TypeError, match=f"In task 0: {expected}"):
        PooledRegressor().fit(pairs)


@pytest.mark.parametrize("estimator", [PooledRegressor(), MetaEmbedding()], ids=str)
def test_predict_and_transform_when_a_cell_is_nan_then_name_its_column(estimator, rng):
    # Queries come from another source than the rows of fit.
    X, y, ids = rng.normal(size=(24, 2)), rng.normal(size=24), np.arange(24) // 4
    fitted = estimator.fit(pd.DataFrame(X, columns=["u", "v"]), y, tasks=ids)
    bad = pd.DataFrame({"u": [0.0, 1.0], "v": [0.0, np.nan]})
    ask = fitted.transform if hasattr(fitted, "transform") else None
    ask = ask or fitted.adapt(bad.fillna(1), [0.0, 1.0]).predict
    assert "Input X contains NaN: 1 in column 'v'" in message_of(lambda: ask(bad))
