"""``quickstudy reproduce``."""

import json
from pathlib import Path

import pytest

from quickstudy.reproduce.budget import Budget
from tests.cli.conftest import Command
from tests.reproduce.tiny import use_tiny_claims


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_tiny_claims(tmp_path / "claims", monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_claim(tiny: Path, quickstudy: Command) -> None:
    found = quickstudy("reproduce", "one", "--seeds", "0,1", "--ranks", "1", "--watts", "5")
    assert found.status == 0, found.err
    lines = found.out.splitlines()
    assert lines[0] == "one: first" and "0.50 ± 0.10; a paper; read in it" in lines[1]
    assert sum("6 of 6 steps" in line for line in lines) == 2
    assert any(line.startswith("  verdict     too few seeds: 2 of at least 3; so far +") for line in lines)
    assert any("10 % of the figure apart" in line for line in lines) and lines[-1] == "  note: of one"

    listed = quickstudy("reproduce")
    assert listed.status == 0
    assert [line.split()[0] for line in listed.out.splitlines()] == ["claim", "letters", "one", "two"]
    assert "(2 seeds)" in listed.out and "none verified" in listed.out and "not run" in listed.out
    document = json.loads(quickstudy("reproduce", "--json").out)[1]
    assert document["verdict"]["kind"] == "too few seeds" and len(document["seeds"]) == 2
    assert document["seeds"][0]["energy"]["assumption"].startswith("5 W")


def test_a_budget(tiny: Path, quickstudy: Command) -> None:
    with pytest.MonkeyPatch.context() as short:
        short.setattr(Budget, "share", lambda self, seeds: 1e-9)
        found = quickstudy("reproduce", "one", "--seeds", "0", "--ranks", "1", "--budget", "1m", "--json")
    assert found.status == 0, found.err
    document = json.loads(found.out)
    assert document["verdict"]["kind"] == "budget-limited" and document["seeds"][0]["step"] == 1
    assert "cut: seed 0 after 1 of 6 steps" in document["verdict"]["sentence"]
    said = quickstudy("reproduce", "one", "--seeds", "0", "--ranks", "1")
    assert "over episodes (1 seed)" in said.out
    assert "6 of 6 steps" in said.out and "goes on with" in said.err


def test_show(tiny: Path, quickstudy: Command) -> None:
    shown = quickstudy("reproduce", "two", "--show").out
    assert "trained as  one" in shown and "tested with shot 7, checkpoint last" in shown and "steps = 6" in shown
    document = json.loads(quickstudy("reproduce", "one", "--show", "--json").out)
    assert document["recipe"]["train"]["steps"] == 6 and document["claim"]["published"]["mean"] == 0.5
    assert not (tiny / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["on"], "There is no claim called 'on'. Did you mean 'one'? `quickstudy reproduce` lists all."),
        (["one", "--budget", "soon"], "Cannot read 'soon' as a time"),
        (["one", "--budget", "0m"], "Cannot read '0m' as a time"),
        (["one", "--budget", "-5m"], "Cannot read '-5m' as a time"),
        (["one", "--seeds", "0;1"], "--seeds: expected whole numbers with commas between, such as 0,1,2, found '0;1'."),
        (["one", "--seeds", "0,0"], "expected different whole numbers from 0 on"),
        (["one", "--watts", "-1"], "with -1 watts a core"),
    ],
)
def test_bad_input(arguments: list[str], said: str, tiny: Path, quickstudy: Command) -> None:
    found = quickstudy("reproduce", *arguments)
    assert found.status == 2 and said in found.err and "Traceback" not in found.err
    assert not (tiny / "runs").exists() and not found.out


def test_data_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quickstudy: Command) -> None:
    monkeypatch.chdir(tmp_path)
    found = quickstudy("reproduce", "omniglot-protonet-5w1s", "--data-root", tmp_path)
    assert found.status == 2 and "quickstudy fetch omniglot" in found.err and not found.out


def test_names_are_completed(quickstudy: Command) -> None:
    from quickstudy.cli.completion import claim_names
    from quickstudy.reproduce import claims

    assert claim_names("omniglot-protonet") == [one for one in claims() if one.startswith("omniglot-protonet")]
    assert sorted(claim_names("")) == sorted(claims())
