"""Names to objects: what ships, what other packages add, and what they must not replace."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

import quickstudy.registry
from quickstudy.errors import InputError, UnknownName
from quickstudy.registry import Registry

OWN = {"maml": "quickstudy.errors:InputError"}


def announce(monkeypatch: pytest.MonkeyPatch, **points: str) -> Registry:
    found = [EntryPoint(name, value, "quickstudy.test") for name, value in points.items()]
    monkeypatch.setattr(quickstudy.registry, "entry_points", lambda group: found)
    return Registry("learner", "quickstudy.test", OWN)


def test_other_packages_add_names(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = announce(monkeypatch, mine="quickstudy.errors:DataError")
    assert registry.names() == ["maml", "mine"] and registry.get("mine").__name__ == "DataError"


def test_what_ships_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = announce(monkeypatch, maml="quickstudy.errors:DataError")
    with pytest.warns(UserWarning, match=r"announces a learner called 'maml', a name that quickstudy ships"):
        assert registry.names() == ["maml"]
    assert registry.get("maml") is InputError


def test_an_unknown_name_suggests_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownName, match=r"There is no learner called 'mmal'\. Did you mean 'maml'\? Known: maml\."):
        announce(monkeypatch).get("mmal")


def test_a_package_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"The learner 'broken' of the installed package .* cannot be imported from"):
        announce(monkeypatch, broken="no_such_module:Thing").get("broken")
