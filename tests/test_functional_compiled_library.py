"""The library in C is used where it is that of these sources."""

import ctypes
from types import SimpleNamespace

import pytest

from sklearn_meta.exceptions import DeviceWarning
from sklearn_meta.functional.compiled_library import SWITCH, load_library

# it is loaded once for a process; these tests load it again
load_again = load_library.__wrapped__


class OfOtherSources(SimpleNamespace):
    """A library that has every function, with structures of one byte."""

    def __getattr__(self, name):
        if not name.islower() or name.startswith("_"):
            raise AttributeError(name)
        self.__dict__[name] = lambda: 1
        return self.__dict__[name]


@pytest.mark.parametrize("stale", [SimpleNamespace(), OfOtherSources()])
def test_library_when_of_other_sources_then_a_warning_and_it_is_left(
    stale, monkeypatch
):
    # a call with structures of another layout would end the process
    monkeypatch.delenv(SWITCH, raising=False)
    monkeypatch.setattr(
        "sklearn_meta.functional.compiled_library.find_spec",
        lambda name: SimpleNamespace(origin="old.so"),
    )
    monkeypatch.setattr(ctypes, "CDLL", lambda path: stale)
    with pytest.warns(DeviceWarning, match=r"old\.so was built from other sources"):
        assert load_again() is None


def test_library_when_switched_off_then_not_loaded(monkeypatch):
    # to find out what it is worth, or whether it is at fault
    monkeypatch.setenv(SWITCH, "0")
    assert load_again() is None
