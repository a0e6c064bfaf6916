"""Training, testing and judging a claim; what is taken, gone on with, and refused."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import quickstudy
from quickstudy.errors import CheckpointError, DataError, InputError, NonFiniteLoss, StorageError
from quickstudy.recipes import to_toml
from quickstudy.reproduce import Record, Reproduced, claim, energy, overview, read_duration, reproduce
from quickstudy.reproduce.budget import Budget, StopsAt
from quickstudy.reproduce.energyuse import energy_of
from quickstudy.reproduce.published import read_claims
from quickstudy.reproduce.record import commit, path_of
from quickstudy.reproduce.runs import Session, processor_time_of, run_of
from quickstudy.reproduce.wording import sentence
from quickstudy.train import Interrupted
from tests.reproduce.tiny import use_tiny_claims
from tests.test_pages import script


@pytest.fixture(autouse=True)
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_claims(tmp_path / "claims", monkeypatch)


def run(folder: Path, name: str = "one", **options: Any) -> tuple[Reproduced, list[str]]:
    said: list[str] = []
    given: dict[str, Any] = {
        "seeds": (0,),
        "runs": folder / "runs",
        "results": folder / "results",
        "device": "cpu",
    } | options
    return reproduce(name, tell=said.append, **given), said


def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        pytest.fail(f"trained again: {arguments} {options}")

    monkeypatch.setattr("quickstudy.reproduce.reproducing.train", refuse)


def test_three_seeds_are_trained_tested_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = run(tmp_path, seeds=(0, 1, 2))
    assert found.verdict.kind == "above" and found.verdict.seeds == (0, 1, 2) and not found.verdict.better
    assert found.verdict.mean == pytest.approx(sum(one.result.mean for one in found.records) / 3)
    files = sorted(path.name for path in (tmp_path / "results" / "reproduce").iterdir())
    assert files == ["one-s0.json", "one-s1.json", "one-s2.json"]
    about = Record.load(tmp_path / "results" / "reproduce" / "one-s1.json").about
    assert (about.claim, about.seed, about.step, about.steps, about.row) == ("one", 1, 6, 6, "maml")
    assert about.curve is not None and about.curve.of == "validation tasks"
    assert [step for step, _ in about.curve.points] == [3, 6]
    assert about.processor_seconds is not None and about.processor_seconds > 0 and about.train_seconds > 0
    assert about.energy is not None and "10 W a busy core" in about.energy["assumption"]
    assert about.weights_sha256 is not None and len(about.weights_sha256) == 64
    assert "platform" not in about.versions and about.command == "quickstudy reproduce one --seeds 1"

    no_training(monkeypatch)
    again, said = run(tmp_path, seeds=(0, 1, 2))
    assert again == found and said == []
    # Nor where the runs are elsewhere: the results are of that protocol, and whole.
    assert run(tmp_path, seeds=(0, 1, 2), runs=tmp_path / "others")[0] == found


def test_claims_that_share_a_training_are_tested_on_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = run(tmp_path)
    no_training(monkeypatch)
    two, _ = run(tmp_path, "two")
    assert two.records[0].result.shot == 7 and two.records[0].about.recipe == "one"
    assert two.records[0].about.weights_sha256 == one.records[0].about.weights_sha256
    assert two.verdict.kind == "no published figure verified"


def test_what_a_budget_cut_goes_on_bit_for_bit(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as short:
        short.setattr(Budget, "share", lambda self, seeds: 1e-9)
        cut, said = run(tmp_path, budget=1.0)
    assert (cut.records[0].about.step, cut.verdict.kind, cut.verdict.cut) == (1, "budget-limited", (0,))
    assert any("its share of the budget is over. Stopped after step 1 of 6." in text for text in said)
    curve = cut.records[0].about.curve
    assert curve is not None and curve.of == "training tasks", "nothing was validated by then"
    whole, said = run(tmp_path)
    assert any("goes on with" in text for text in said)
    at_once, _ = run(tmp_path / "at-once")
    assert whole.records[0].about.weights_sha256 == at_once.records[0].about.weights_sha256
    assert whole.records[0].result.per_episode == at_once.records[0].result.per_episode
    spent = whole.records[0].about.processor_seconds, cut.records[0].about.processor_seconds
    assert spent[0] is not None and spent[1] is not None and spent[0] > spent[1], "sessions add up"


def test_a_budget_is_divided_over_the_seeds_that_remain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path, seeds=(1,))
    shares: list[int] = []

    def nothing(self: Budget, seeds: int) -> float:
        shares.append(seeds)
        return 0.0

    monkeypatch.setattr(Budget, "share", nothing)
    found, said = run(tmp_path, seeds=(0, 1, 2), budget=60.0)
    assert shares == [2, 1] and [one.about.seed for one in found.records] == [1]
    assert said.count("Seed 0: no time is left of the budget.") == 1


def test_time_that_is_left() -> None:
    now = [0.0]
    budget = Budget(60.0, clock=lambda: now[0])
    assert budget.share(3) == 20.0
    now[0] = 30.0
    assert budget.share(2) == 15.0
    now[0] = 70.0
    assert budget.share(1) == 0.0 and Budget(None).share(3) is None


def test_an_edited_run_is_not_taken(tmp_path: Path) -> None:
    found, _ = run(tmp_path)
    assert found.records[0].about.versions["torch"] == torch.__version__
    recipe = tmp_path / "runs" / "one-s0-001" / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("inner-steps = 2", "inner-steps = 1"))
    path_of(tmp_path / "results", "one", 0).unlink()
    found, said = run(tmp_path)
    assert any(re.search(r"Not taken: .*one-s0-001, whose recipe is not the claim's", text) for text in said)
    assert found.records[0].about.step == 6 and (tmp_path / "runs" / "one-s0-002").is_dir()


def test_a_run_whose_recipe_was_edited_into_the_claims_is_not_taken(tmp_path: Path) -> None:
    """The checkpoint says by which recipe it was trained."""
    given = {"seed": 0, "name": "one", "learner.inner-steps": 1, "train.steps": 6}
    other = quickstudy.train("sinusoid-maml-fast", overrides=given, runs=tmp_path / "runs", device="cpu")
    (other.path / "recipe.toml").write_text(to_toml(claim("one").recipe_of(0)))
    _, said = run(tmp_path)
    assert any("whose recipe was edited after its training" in text for text in said)
    assert (tmp_path / "runs" / "one-s0-002").is_dir()


def test_a_run_that_was_changed_on_the_way_is_not_taken(tmp_path: Path) -> None:
    run(tmp_path)
    state = tmp_path / "runs" / "one-s0-001" / "checkpoints" / "last" / "state.json"
    about = json.loads(state.read_text()) | {"changes": [{"step": 1, "changed": {"train.lr": [0.1, 0.2]}}]}
    state.write_text(json.dumps(about))
    said: list[str] = []
    assert run_of(claim("one").recipe_of(0), tmp_path / "runs", said.append) is None
    assert re.search(
        r"one-s0-001, which was changed on the way: after step 1, train\.lr changed from 0\.1 to 0", said[0]
    )


def test_an_option_that_a_learner_got_since_changes_no_protocol(tmp_path: Path) -> None:
    """The checkpoint lacks it, and so does the recipe's file, and neither was edited."""
    before, _ = run(tmp_path)
    state = tmp_path / "runs" / "one-s0-001" / "checkpoints" / "last" / "state.json"
    about = json.loads(state.read_text())
    assert about["settings"].pop("learner.memory") == "unrolled"
    state.write_text(json.dumps(about))
    found = run_of(claim("one").recipe_of(0), tmp_path / "runs")
    assert found is not None and found.path.name == "one-s0-001"
    assert claim("one").protocol(0) == before.records[0].about.protocol


def test_a_result_of_another_protocol_is_not_taken(tmp_path: Path) -> None:
    run(tmp_path)
    claims = tmp_path / "claims" / "tiny.toml"
    claims.write_text(claims.read_text().replace('"evaluate.episodes" = 40', '"evaluate.episodes" = 6'))
    from quickstudy.reproduce import published

    published._claims_in.cache_clear()
    said: list[str] = []
    assert all(not one.records for one in overview(tmp_path / "results", said.append))
    assert len(said) == 1 and re.search(r"Not taken: .*one-s0\.json was measured by another recipe or test", said[0])
    run(tmp_path, "two")
    made = script("make_results").page(tmp_path / "results")
    assert "| `two`: second" in made and "`one`" not in made, "a figure of another protocol is not printed"
    assert "not the claim's any more: one-s0." in made
    found, said = run(tmp_path)
    assert found.records[0].result.episodes == 6 and any("its hash differs" in text for text in said)
    published._claims_in.cache_clear()


def test_foreign_files(tmp_path: Path) -> None:
    run(tmp_path)
    folder = tmp_path / "results" / "reproduce"
    (folder / "notes.json").write_text("{}")
    about = json.loads((folder / "one-s0.json").read_text())
    about["provenance"]["claim"] = "gone"
    (folder / "gone-s0.json").write_text(json.dumps(about))
    said: list[str] = []
    found = {one.claim.name: one for one in overview(tmp_path / "results", said.append)}
    assert len(found["one"].records) == 1 and not found["two"].records
    assert re.search(r"Passed over: .*notes\.json does not say how it was measured", said[0])
    assert re.search(r"Passed over: .*gone-s0\.json is of 'gone', and there is no such claim", said[1])

    (folder / "one-s1.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"one-s1\.json is of the claim 'gone' and seed 0.*Move it away"):
        run(tmp_path, seeds=(1,))
    (folder / "one-s1.json").write_text('{"metric": ')
    with pytest.raises(InputError, match=r"one-s1\.json as a result: it is no JSON.*seed 1 would be written there"):
        run(tmp_path, seeds=(1,))
    del about["provenance"]["steps"]
    (folder / "old.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match=r"old\.json as the result of a reproduction: provenance\.steps: Field"):
        Record.load(folder / "old.json")


def test_a_verdict_is_over_all_seeds_on_file(tmp_path: Path) -> None:
    run(tmp_path, seeds=(5, 6))
    found, _ = run(tmp_path, seeds=(0,))
    assert found.verdict.seeds == (0, 5, 6)


def test_a_copy_is_no_further_seed(tmp_path: Path) -> None:
    run(tmp_path)
    file = path_of(tmp_path / "results", "one", 0)
    file.with_name("one-s1.copy.json").write_bytes(file.read_bytes())
    said: list[str] = []
    found = next(one for one in overview(tmp_path / "results", said.append) if one.claim.name == "one")
    assert found.verdict.seeds == run(tmp_path)[0].verdict.seeds == (0,)
    assert re.search(r"one-s1\.copy\.json has the result that one-s0\.json is for", said[0])


def test_a_seed_that_diverges_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(recipe: Any, **options: Any) -> Any:
        if recipe.seed == 0:
            raise NonFiniteLoss("the loss of step 3 is NaN: training diverged.")
        return quickstudy.train(recipe, **options)

    monkeypatch.setattr("quickstudy.reproduce.reproducing.train", diverge)
    found, said = run(tmp_path, seeds=(0, 1))
    assert "Seed 0: the loss of step 3 is NaN: training diverged." in said and found.verdict.seeds == (1,)


def test_a_seed_that_diverged_says_so_and_is_hidden_by_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three seeds that came out do not make it unsaid."""

    def diverge(recipe: Any, **options: Any) -> Any:
        if getattr(recipe, "seed", None) == 3:
            options["callbacks"] = [StopsAt(1e-9)]
            with pytest.raises(Interrupted):
                quickstudy.train(recipe, **options)
            raise NonFiniteLoss("the loss of step 3 is NaN: training diverged.")
        return quickstudy.train(recipe, **options)

    monkeypatch.setattr("quickstudy.reproduce.reproducing.train", diverge)
    found, _ = run(tmp_path, seeds=(3,))
    assert found.records[0].about.diverged and found.verdict.kind == "diverged"
    found, _ = run(tmp_path, seeds=(0, 1, 2))
    assert found.verdict.kind == "above" and found.verdict.cut == (3,)
    assert sentence(found.verdict, found.claim, found.records).endswith("; cut: seed 3 diverged after 1 of 6 steps")


def test_a_run_that_another_process_trains_on_has_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be of other weights than the steps that stand beside it."""

    def trained_on_meanwhile(path: Path, **options: Any) -> Any:
        result = quickstudy.evaluate(path, **options)
        state = path / "checkpoints" / "last" / "state.json"
        state.write_text(json.dumps(json.loads(state.read_text()) | {"weights_sha256": "0" * 64}))
        return result

    monkeypatch.setattr("quickstudy.reproduce.reproducing.evaluate", trained_on_meanwhile)
    found, said = run(tmp_path)
    assert found.records == () and found.verdict.kind == "not run"
    assert re.search(r"Seed 0: .*one-s0-001 was trained on by another process while it was tested", said[-1])


def test_what_is_passed_over_is_said_at_the_end(tmp_path: Path) -> None:
    """A seed that nobody asked for now, and that does not count."""
    run(tmp_path, seeds=(0, 5))
    file = path_of(tmp_path / "results", "one", 5)
    about = json.loads(file.read_text())
    about["provenance"]["protocol"] = "f" * 64
    file.write_text(json.dumps(about))
    found, said = run(tmp_path)
    assert found.verdict.seeds == (0,) and re.search(r"Not taken: .*one-s5\.json was measured by another", said[-1])


def test_an_interruption_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise Interrupted("Stopped after step 2 of 6. Go on with: quickstudy train x --resume")

    monkeypatch.setattr("quickstudy.reproduce.reproducing.train", interrupted)
    with pytest.raises(Interrupted) as told:
        run(tmp_path, seeds=(4, 7), results=tmp_path / "my results")
    assert str(told.value) == (
        "Stopped after step 2 of 6. Go on with: quickstudy reproduce one --seeds 4,7 "
        f"--runs {tmp_path / 'runs'} --results '{tmp_path / 'my results'}'"
    )
    with pytest.raises(Interrupted, match=r"^Stopped after step 2 of 6\. Go on with: quickstudy reproduce one$"):
        run(tmp_path, seeds=(0, 1, 2), runs="runs", results="results")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": ()}, r"with the seeds \[\]: expected different whole numbers"),
        ({"seeds": (1, 1)}, r"with the seeds \[1, 1\]"),
        ({"seeds": (-1,)}, r"with the seeds \[-1\]"),
        ({"budget": 0.0}, r"a budget of 0 seconds: expected a number above 0"),
        ({"budget": float("nan")}, r"a budget of nan seconds"),
        ({"watts": 0.0}, r"with 0 watts a core: expected a number above 0"),
    ],
)
def test_what_cannot_be(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        run(tmp_path, **options)
    assert not (tmp_path / "runs").exists()


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    for call in (lambda: run(tmp_path), lambda: overview(tmp_path / "results")):
        with pytest.raises(InputError, match=r"Cannot use .*results: it is a file, not a folder"):
            call()
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("closed", ["runs", "results"])
def test_a_folder_that_takes_no_files_is_said_before_training(
    closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / closed).mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK or path != tmp_path / closed)
    no_training(monkeypatch)
    with pytest.raises(StorageError, match=rf"Cannot write in .*{closed}: nothing can be written there\. Nothing was"):
        run(tmp_path)


def test_a_test_that_cannot_be_is_said_before_training(tmp_path: Path) -> None:
    claims = tmp_path / "claims" / "tiny.toml"
    wrong = claims.read_text().replace("test = { shot = 7 }", 'test = { overrides = { "learner.inner-step" = 7 } }')
    one = read_claims(wrong, "mine.toml")[1]
    with pytest.raises(InputError, match=r"learner\.inner-step'. Did you mean 'learner\.inner-steps'"):
        reproduce(one, runs=tmp_path / "runs", results=tmp_path / "results")
    assert not (tmp_path / "runs").exists()


def test_the_page_of_results(tmp_path: Path) -> None:
    run(tmp_path, seeds=(0, 1, 2))
    made = script("make_results").page(tmp_path / "results")
    row = next(line for line in made.splitlines() if line.startswith("| `one`: first"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == "0.50 ± 0.10" and "(3 seeds)" in cells[3] and cells[4].startswith("above (worse): +")
    assert cells[5] == "6 of 6 steps" and "torch" in cells[7] and "## Reproductions" in made
    (tmp_path / "results" / "reproduce" / "notes.json").write_text("{}")
    with pytest.raises(DataError, match=r"notes\.json does not say how it was measured"):
        script("make_results").page(tmp_path / "results")


@pytest.mark.parametrize("text", ["", "0m", "20", "m", "-5m", "20 minutes", "1h 30m", "1m x"])
def test_no_time(text: str) -> None:
    with pytest.raises(InputError, match=r"as a time: expected a number above 0 with its unit, such as 90s"):
        read_duration(text)


def test_a_budget_needs_the_main_thread() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool, pytest.raises(InputError, match=r"outside the main thread"):
        pool.submit(StopsAt, 1.0).result()


def test_a_session_that_was_killed_leaves_no_processor_time(tmp_path: Path) -> None:
    """Too little would look like a training that took less."""
    run(tmp_path)
    folder = run_of(claim("one").recipe_of(0), tmp_path / "runs")
    assert folder is not None
    before = processor_time_of(folder)
    assert before is not None
    session = Session(folder)
    assert processor_time_of(folder) is None, "as a killed one would leave it"
    session.add_to(folder)
    after = processor_time_of(folder)
    assert after is not None and after >= before
    Session(folder)
    lost = Session(folder)
    lost.add_to(folder)
    assert processor_time_of(folder) is None
    path_of(tmp_path / "results", "one", 0).unlink()
    (record,) = run(tmp_path)[0].records
    assert record.about.processor_seconds is None and record.about.energy is not None
    assert "busy for the wall time of all steps" in record.about.energy["assumption"]


def test_energy_of_a_run() -> None:
    found = energy_of({"threads": 2, "ranks": 3}, 600.0, watts=10.0)
    assert found is not None and found["watt_hours"] == 10.0 and "and 6 of them busy" in found["assumption"]
    counted = energy_of({"threads": 2, "processor_seconds": 360.0}, 600.0, watts=10.0)
    assert counted is not None and counted["watt_hours"] == 1.0 and "processor time" in counted["assumption"]
    assert energy_of({"cuda": "12.8", "processor_seconds": 360.0}, 600.0) is None


def test_energy() -> None:
    found = energy(3600.0, watts=12.0)
    assert found is not None and found["watt_hours"] == 12.0 and "12 W a busy core" in found["assumption"]
    assert energy(None) is None and energy(1.0, device="cuda") is None


def test_the_commit_is_that_of_the_sources() -> None:
    found = commit()
    assert found is None or re.fullmatch(r"[0-9a-f]{40}(\+changes)?", found)


def test_robustness_is_measured_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quickstudy.stressing.SHOTS", (1,))
    monkeypatch.setattr("quickstudy.stressing.WAYS", (2,))
    path = path_of(tmp_path / "results", "letters", 0)
    run(tmp_path, "letters")
    before = Record.load(path)
    # What each test says of itself; more where it was asked for.
    assert before.about.robustness is not None and not before.about.robustness.is_whole
    assert before.about.robustness.figures[0].value == pytest.approx(before.result.mean)
    bare = json.loads(path.read_text())
    no_training(monkeypatch)
    run(tmp_path, "letters", robustness=True)  # nothing is trained for it, the test is there again
    after = Record.load(path)
    assert after.result.per_episode == before.result.per_episode
    assert after.about.robustness is not None and after.about.robustness.is_whole
    assert after.about.robustness.source_hash == after.result.source_hash
    monkeypatch.setattr("quickstudy.reproduce.reproducing.evaluate", lambda *given, **options: pytest.fail("again"))
    run(tmp_path, "letters", robustness=True)
    path.write_text(json.dumps(bare))
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    found, said = run(tmp_path, "letters", robustness=True)  # hours of training are not begun anew for it
    assert len(found.records) == 1 and json.loads(path.read_text()) == bare
    assert re.search(
        r"Seed 0: its robustness cannot be measured, as its run is not in .* stays as it is\. Name", said[-1]
    )
    with pytest.raises(InputError, match=r"Cannot measure robustness of one: its figure is mean squared error"):
        run(tmp_path, robustness=True)


def test_robustness_of_what_was_trained_on_since_is_of_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe, the checkpoint's name and the tasks are the same, and the weights are not."""
    monkeypatch.setattr("quickstudy.stressing.SHOTS", (1,))
    monkeypatch.setattr("quickstudy.stressing.WAYS", (2,))
    path = path_of(tmp_path / "results", "letters", 0)
    with pytest.MonkeyPatch.context() as short:
        short.setattr(Budget, "share", lambda self, seeds: 1e-9)
        run(tmp_path, "letters", budget=1.0, robustness=True)
    cut = Record.load(path)
    assert cut.about.step < cut.about.steps and cut.about.was_stressed
    run(tmp_path, "letters")
    whole = Record.load(path)
    assert whole.about.step == whole.about.steps and whole.result.mean != cut.result.mean
    found = whole.about.robustness
    assert found is not None and found.figures[0].value == pytest.approx(whole.result.mean)
    assert not whole.about.was_stressed and found.weights_sha256 == whole.about.weights_sha256
    run(tmp_path, "letters", robustness=True)
    asked = Record.load(path).about
    assert asked.robustness is not None and asked.was_stressed
    assert asked.robustness.figures[0].value == pytest.approx(whole.result.mean)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mean": 0.001}, r"one-s0\.json cannot be right\. mean is 0\.001, and the mean of per_episode is"),
        ({"metric": "accuracy"}, r"one-s0\.json cannot be right\. .*the metric accuracy lies between 0 and 1"),
        ({"split": "train"}, r"one-s0\.json cannot be right\. split is 'train'"),
        ({"ci95": 9.0}, r"one-s0\.json cannot be right\. ci95 is 9"),
    ],
)
def test_a_result_whose_figures_cannot_be_right_is_refused(
    changes: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)
    no_training(monkeypatch)
    path = path_of(tmp_path / "results", "one", 0)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=said):
        run(tmp_path)
    told: list[str] = []
    assert not any(one.records for one in overview(tmp_path / "results", told.append))
    assert len(told) == 1 and re.search(f"Passed over: .*{said}", told[0])


def test_a_checkpoint_that_is_damaged_says_how_to_begin_anew(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as short:
        short.setattr(Budget, "share", lambda self, seeds: 1e-9)
        run(tmp_path, budget=1.0)
    folder = tmp_path / "runs" / "one-s0-001"
    weights = folder / "checkpoints" / "last" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=rf"cut off or was changed .*To begin seed 0 anew, move {folder} away\.$"):
        run(tmp_path)


def test_a_result_of_other_tasks_or_steps_than_the_claims_is_not_taken(tmp_path: Path) -> None:
    run(tmp_path)
    path = path_of(tmp_path / "results", "one", 0)
    right = json.loads(path.read_text())
    about = right | {"shot": 9, "source": right["source"] | {"shot": 9}}
    path.write_text(json.dumps(about))
    said: list[str] = []
    assert not any(one.records for one in overview(tmp_path / "results", said.append))
    assert re.search(r"Not taken: .*one-s0\.json says shot 9, and the claim 'one' has 5: it was edited", said[0])
    path.write_text(json.dumps(right | {"provenance": right["provenance"] | {"steps": 3}}))
    found, said = run(tmp_path)
    assert any("says steps 3, and the claim 'one' has 6" in text for text in said)
    assert found.records[0].about.steps == 6, "measured anew, by the run that is there"
    path.write_text(json.dumps(right | {"provenance": right["provenance"] | {"step": 9}}))
    assert any("says 9 of 6 steps: it was edited." in text for text in run(tmp_path)[1])
