"""Floor 6: train a claim's seeds by the public training call, test them as published, and judge."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from quickstudy.errors import CheckpointError, DataError, InputError, NonFiniteLoss
from quickstudy.evaluate import Result
from quickstudy.evaluate.wording import metric_name
from quickstudy.files import check_writable
from quickstudy.rankcount import Ranks
from quickstudy.recipes import Recipe, recipe_hash
from quickstudy.reproduce.along import read_along
from quickstudy.reproduce.budget import Budget, StopsAt
from quickstudy.reproduce.energyuse import WATTS, energy, energy_of
from quickstudy.reproduce.published import Claim, claim, claims
from quickstudy.reproduce.record import Provenance, Record, commit, path_of, read_all
from quickstudy.reproduce.runs import Session, done_of, processor_time_of, run_of, steps_of_recipe
from quickstudy.reproduce.verdict import LEAST_SEEDS, Verdict, judge
from quickstudy.runs import state_of
from quickstudy.stressing import robustness_of
from quickstudy.testing import evaluate
from quickstudy.train import Interrupted, RunFolder
from quickstudy.train.runfolder import describe_environment
from quickstudy.training import pick_device, train

__all__ = ["Reproduced", "of_records", "overview", "reproduce"]

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Reproduced:
    """What came of a claim.

    Args:
        claim: the published figure and its protocol.
        records: one a seed that has a result of this protocol, by seed; all that are on file.
        verdict: over them.
    """

    claim: Claim
    records: tuple[Record, ...]
    verdict: Verdict


def reproduce(
    name: str | Claim,
    *,
    seeds: Sequence[int] = tuple(range(LEAST_SEEDS)),
    budget: float | None = None,
    runs: str | Path = "runs",
    results: str | Path = "results",
    data_root: str | Path | None = None,
    device: str | None = None,
    ranks: Ranks | None = None,
    watts: float = WATTS,
    robustness: bool = False,
    progress: bool = False,
    tell: Tell = lambda text: None,
) -> Reproduced:
    """Train and test a published protocol, and say whether the paper's figure came out.

    Each seed is a run like any other. One that is finished is not trained again, one that was stopped goes on, bit for
    bit; a result that is there of the same protocol and as many steps is taken as it is. The test takes the same
    episodes for all seeds. The verdict is over all seeds that have a result, asked for now or before.

    Args:
        name: of a claim (``quickstudy reproduce`` lists them), or one of one's own.
        seeds: of the trainings.
        budget: seconds for all of it, divided over the seeds that remain to be trained. A training whose share is over
            finishes its step, is saved, and is tested as far as it came; the tests of the last seeds come on top.
        runs: folder of runs.
        results: folder of results; ``reproduce/<claim>-s<seed>.json`` is written there.
        data_root: see ``quickstudy.train``.
        device: see ``quickstudy.train``.
        ranks: see ``quickstudy.train``.
        watts: of a busy core, for the estimate of energy.
        robustness: measure the figures of docs/robustness.md, too, of the seeds whose run is there; they stand in the
            results' provenance.
        progress: show progress on stderr.
        tell: told what was taken, passed over or cut short, in sentences.

    Raises:
        UnknownName: no such claim.
        InputError: seeds, budget or watts make no sense; a file of another kind lies where a result would; the data is
            not there.
        CheckpointError: a run that was stopped is damaged.
        StorageError: nothing can be written into a folder; the disk refused.
        Interrupted: Ctrl-C; the running step was finished and saved.
    """
    one = name if isinstance(name, Claim) else claim(name)
    _check(seeds, budget)
    if robustness and one.metric != "accuracy":
        raise InputError(
            f"Cannot measure robustness of {one.name}: its figure is {metric_name(one.metric)}, and robustness is of "
            "tasks that tell classes apart. Leave --robustness out."
        )
    energy(None, watts=watts)
    # What a test cannot do, or where nothing can be written, is said before hours of training, not after.
    one.recipe_of(seeds[0], tested=True)
    for folder in (Path(runs), Path(results)):
        _check_folder(folder)
        check_writable(folder, "write", "Nothing was trained. Name another folder (--runs, --results).")
    tell = _once(tell)
    given = (data_root, device, ranks, watts, budget, robustness, progress, tell)
    work = _Work(one, tuple(seeds), Path(runs), Path(results), *given)
    clock, records = Budget(budget), dict[int, Record]()
    for seed in seeds:
        kept = work.kept(seed)
        if kept is not None:
            records[seed] = kept
    remaining = [seed for seed in seeds if seed not in records or not work.is_all(records[seed])]
    finished = {seed for seed, record in records.items() if record.figure.finished}  # whose robustness is asked for
    untrained = [seed for seed in remaining if seed not in finished and not work.is_trained(seed)]
    for seed in remaining:
        share = clock.share(len(untrained) or 1)
        diverged = False
        if seed in untrained:
            untrained.remove(seed)
            diverged = work.train(seed, share)
        work.test(seed, records.get(seed), diverged=diverged)
    # Also of seeds that nobody asked for now: a verdict over chosen seeds would be none.
    return of_records(one, read_all(Path(results), tell, claim=one.name), tell)


def overview(results: str | Path = "results", tell: Tell = lambda text: None) -> list[Reproduced]:
    """All claims, with what results there are of their protocols.

    Args:
        results: folder of results.
        tell: told which files were passed over.

    Raises:
        InputError: a file lies where the folder of results should.
    """
    _check_folder(Path(results))
    by_claim: dict[str, list[Record]] = {}
    for record in read_all(Path(results), tell):
        by_claim.setdefault(record.about.claim, []).append(record)
    for name in sorted(by_claim.keys() - claims().keys()):
        tell(f"Passed over: {by_claim[name][0].path} is of {name!r}, and there is no such claim.")
    return [of_records(one, by_claim.get(one.name, []), tell) for one in claims().values()]


def of_records(one: Claim, records: Sequence[Record], tell: Tell = lambda text: None) -> Reproduced:
    """The verdict over records, without those of another protocol."""
    same = []
    for record in sorted(records, key=lambda record: record.about.seed):
        why = _why_not(record, one)
        if why is None:
            same.append(record)
        else:
            tell(why)
    return Reproduced(one, tuple(same), judge(one.target, [record.figure for record in same], one.metric))


# --- pieces ------------------------------------------------------------------------------------


def _check_folder(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"Cannot use {folder}: it is a file, not a folder. Name another folder.")


def _check(seeds: Sequence[int], budget: float | None) -> None:
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise InputError(f"Cannot reproduce with the seeds {list(seeds)}: expected different whole numbers from 0 on.")
    if budget is not None and not 0 < budget < float("inf"):
        raise InputError(f"Cannot reproduce within a budget of {budget:g} seconds: expected a number above 0.")


def _why_not(record: Record, one: Claim) -> str | None:
    """Why a result is none of this claim's, in a sentence; None where it is."""
    if record.about.protocol != one.protocol(record.about.seed):
        return (
            f"Not taken: {record.path} was measured by another recipe or test than the claim {one.name!r} has now (its "
            "hash differs)."
        )
    recipe, result = one.recipe_of(record.about.seed), record.result
    asked = {"metric": one.metric, "steps": steps_of_recipe(recipe), **one.tested_sizes}
    for name, expected in asked.items():
        found = record.about.steps if name == "steps" else getattr(result, name)
        if expected is not None and found != expected:
            return (
                f"Not taken: {record.path} says {name} {found}, and the claim {one.name!r} has {expected}: it was "
                f"edited. `quickstudy reproduce {one.name}` measures it anew."
            )
    if record.about.step > record.about.steps:
        return (
            f"Not taken: {record.path} says {record.about.step} of {record.about.steps} steps: it was edited. "
            f"`quickstudy reproduce {one.name}` measures it anew."
        )
    return None


def _once(tell: Tell) -> Tell:
    """The same, which says nothing twice."""
    said: set[str] = set()

    def told(text: str) -> None:
        if text not in said:
            said.add(text)
            tell(text)

    return told


@dataclass(frozen=True)
class _Work:
    """One claim, seed by seed."""

    claim: Claim
    seeds: tuple[int, ...]
    runs: Path
    results: Path
    data_root: str | Path | None
    device: str | None
    ranks: Ranks | None
    watts: float
    budget: float | None
    robustness: bool
    progress: bool
    tell: Tell

    def recipe(self, seed: int) -> Recipe:
        return self.claim.recipe_of(seed)

    @property
    def command(self) -> str:
        """What goes on with the same seeds in the same folders."""
        usual = (tuple(range(LEAST_SEEDS)), Path("runs"), Path("results"), None)
        mine = (self.seeds, self.runs, self.results, self.data_root)
        given = [f"--seeds {','.join(map(str, self.seeds))}"] + [
            f"{option} {shlex.quote(str(value))}"
            for option, value in zip(("--runs", "--results", "--data-root"), mine[1:], strict=True)
        ]
        said = [text for text, one, other in zip(given, mine, usual, strict=True) if one != other]
        return " ".join(["quickstudy reproduce", shlex.quote(self.claim.name), *said])

    def kept(self, seed: int) -> Record | None:
        """What was measured before by the same protocol."""
        path = path_of(self.results, self.claim.name, seed)
        if not path.exists():
            return None
        try:
            record = Record.load(path)
        except DataError as error:
            raise InputError(
                f"{error} The result of seed {seed} would be written there; move that file away."
            ) from error
        if (record.about.claim, record.about.seed) != (self.claim.name, seed):
            raise InputError(
                f"{path} is of the claim {record.about.claim!r} and seed {record.about.seed}, and the result of "
                f"{self.claim.name!r} and seed {seed} would be written there. Move it away."
            )
        why = _why_not(record, self.claim)
        if why is not None:
            self.tell(why)
            return None
        return record

    def is_all(self, record: Record) -> bool:
        """Whether nothing is left to be trained or asked of its seed."""
        return record.figure.finished and (record.about.was_stressed or not self.robustness)

    def is_trained(self, seed: int) -> bool:
        run = run_of(self.recipe(seed), self.runs)
        return run is not None and done_of(run).finished

    def train(self, seed: int, seconds: float | None) -> bool:
        """Begin or go on, for so long; whether it diverged."""
        recipe = self.recipe(seed)
        old = run_of(recipe, self.runs, self.tell)
        if seconds is not None and seconds <= 0:
            self.tell(f"Seed {seed}: no time is left of the budget.")
            return False
        stop, session = StopsAt(seconds), Session(old)
        given: dict[str, Any] = {"data_root": self.data_root, "device": self.device, "progress": self.progress}
        try:
            if old is None:
                self.tell(f"Seed {seed}: {recipe.train.steps:,} steps of {self.claim.training or self.claim.name}.")
                train(recipe, runs=self.runs, ranks=self.ranks, callbacks=[stop], **given)
            else:
                self.tell(f"Seed {seed}: goes on with {old.path}.")
                train(old.path, resume=True, ranks=self.ranks, callbacks=[stop], **given)
        except Interrupted as interrupted:
            if not stop.spent:
                said = str(interrupted).partition(" Go on with")[0]
                raise Interrupted(f"{said} Go on with: {self.command}") from None
            self.tell(f"Seed {seed}: its share of the budget is over. {str(interrupted).partition(' Go on')[0]}")
        except CheckpointError as error:  # of a run that was gone on with
            place = self.runs if old is None else old.path
            raise CheckpointError(f"{error} To begin seed {seed} anew, move {place} away.") from error
        except NonFiniteLoss as diverged:  # the other seeds go on, and this one never counts as finished
            self.tell(f"Seed {seed}: {diverged}")
            return True
        finally:
            run = run_of(recipe, self.runs)
            if run is not None:
                session.add_to(run)
        return False

    def test(self, seed: int, before: Record | None, *, diverged: bool) -> None:
        """Test the seed's run as far as it came, unless that was done before."""
        run = run_of(self.recipe(seed), self.runs)
        step = None if run is None else done_of(run).step
        if run is None or step is None:
            if before is not None and before.figure.finished:
                self.tell(
                    f"Seed {seed}: its robustness cannot be measured, as its run is not in {self.runs}. {before.path} "
                    "stays as it is. Name the folder of its run (--runs)."
                )
            return
        missing = before is not None and (
            (self.robustness and not before.about.was_stressed) or (diverged and not before.about.diverged)
        )
        if before is not None and (before.about.step > step or (before.about.step == step and not missing)):
            self.tell(f"Seed {seed}: {before.path} is of as many steps, or more; it stays as it is.")
            return
        how, tested = self.claim.test, self._weights(run)
        result = evaluate(
            run.path,
            way=how.way,
            shot=how.shot,
            query=how.query,
            episodes=how.episodes,
            checkpoint=how.checkpoint,
            overrides=how.overrides,
            data_root=self.data_root,
            device=self.device,
            progress=self.progress,
            ranks=self.ranks,
            report=False,
            robustness=self.robustness,
        )
        about = self._about(seed, run, result, diverged=diverged)
        if self.robustness and about.robustness is not None:
            self.tell(
                f"Seed {seed}: {len(about.robustness.figures)} figures of robustness are measured; "
                f"`quickstudy leaderboard --results {self.results} --robustness` prints them."
            )
        if self._weights(run) != tested:
            self.tell(
                f"Seed {seed}: {run.path} was trained on by another process while it was tested, so that nobody can "
                "say of which step the result is. It is not kept; call again when that training is over."
            )
            return
        Record(path_of(self.results, self.claim.name, seed), result.by(self.claim.metric), about).save()

    def _weights(self, run: RunFolder) -> str | None:
        """Digest of the checkpoint that is tested."""
        return state_of(run.checkpoints / self.claim.test.checkpoint).get("weights_sha256")

    def _about(self, seed: int, run: RunFolder, result: Result, *, diverged: bool) -> Provenance:
        recipe, done = self.recipe(seed), done_of(run)
        along = read_along(run.metrics, done.steps)
        where = pick_device(self.device)
        robust = robustness_of(run, result)
        return Provenance(
            claim=self.claim.name,
            row=recipe.learner.name,
            recipe=recipe.name,
            recipe_hash=recipe_hash(recipe),
            protocol=self.claim.protocol(seed),
            seed=seed,
            step=done.step or 0,
            steps=done.steps,
            diverged=diverged,
            train_seconds=round(along.seconds, 3),
            test_seconds=round(result.seconds, 3),
            processor_seconds=processor_time_of(run),
            energy=energy_of(run.about, along.seconds, watts=self.watts),
            budget=self.budget,
            curve=along.curve,
            weights_sha256=self._weights(run),
            robustness=robust,
            commit=commit(),
            # Of the training, as its folder says. Whose kernel of which build it ran on is nobody's business.
            versions={
                name: run.about.get(name, now) for name, now in describe_environment().items() if name != "platform"
            },
            device="cpu" if where.type == "cpu" else torch.cuda.get_device_name(where),
            command=f"quickstudy reproduce {self.claim.name} --seeds {seed}",
            made=datetime.now(UTC).strftime("%Y-%m-%d"),
        )
