"""A few of the cases that ``benchmarks/fuzz.py`` draws by the thousand."""

import numpy as np
import pytest
from fuzz_cases import ENTRIES
from fuzz_laws import Case, check, fingerprint
from hypothesis import HealthCheck, given, settings
from sklearn.linear_model import Ridge

pytest.importorskip("safetensors")
pytest.importorskip("skops")

N_CASES = 12


@pytest.mark.parametrize("entry", ENTRIES)
def test_entry_point_when_input_is_bad_then_obeys_the_laws(entry):
    # A user's mistake may cost an error, and neither the model nor a wrong answer.
    @settings(
        max_examples=N_CASES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(ENTRIES[entry]())
    def obeys(case):
        check(case)

    obeys()


def raise_key_error():
    raise KeyError("task")


def scaled(model, values):
    """Return a call that changes an attribute and an array, and then fails."""

    def call():
        model.alpha = 7.0
        values[0] = 7.0
        raise ValueError("too late")

    return call


def test_check_when_a_law_is_broken_then_fails():
    # Laws that cannot fail guard nothing.
    with pytest.raises(KeyError):
        check(Case("an undocumented error", raise_key_error))
    with pytest.raises(AssertionError, match="left predict"):
        check(Case("nan", lambda: np.nan, probe=lambda value: (value,)))
    with pytest.raises(AssertionError, match="RuntimeWarning"):
        check(Case("a warning", lambda: np.log(np.zeros(1))))
    model, values = Ridge(), np.zeros(2)
    with pytest.raises(AssertionError, match="the input was changed"):
        check(Case("an input", scaled(model, values), inputs=(values,)))
    model = Ridge()
    with pytest.raises(AssertionError, match="the state was changed"):
        check(Case("a state", scaled(model, values), watched=model))


def test_fingerprint_when_a_number_changes_deep_inside_then_differs():
    # What is compared before and after must see all of a model.
    tree = {"a": [np.zeros(3), {"b": Ridge()}]}
    before = fingerprint(tree)
    assert fingerprint(tree) == before
    tree["a"][1]["b"].coef_ = np.zeros(1)
    changed = fingerprint(tree)
    tree["a"][1]["b"].coef_[0] = 1.0
    assert before != changed != fingerprint(tree)
