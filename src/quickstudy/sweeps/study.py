"""Floor 6: the journal of a sweep: which trials there are, what they were given, told and became.

One process writes it, the sweep itself, which holds the folder's lock; its workers tell it what to write. So a trial
is never given twice, and one that was being computed when the sweep was killed is found in the journal and taken up.

T. Akiba, S. Sano, T. Yanase, T. Ohta, M. Koyama, "Optuna: a next-generation hyperparameter optimization framework",
KDD 2019. Trials are drawn by a tree-structured Parzen estimator: J. Bergstra, R. Bardenet, Y. Bengio, B. Kégl,
"Algorithms for hyper-parameter optimization", NeurIPS 2011.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from quickstudy.errors import InputError
from quickstudy.metrics import metric
from quickstudy.sweeps.folder import SweepFolder
from quickstudy.sweeps.space import Dimension
from quickstudy.sweeps.trial import Outcome, Reached

if TYPE_CHECKING:
    from collections.abc import Iterator

    import optuna

__all__ = ["Given", "Prune", "Sampler", "Study", "Trial", "need_optuna"]

Sampler: TypeAlias = Literal["tpe", "random"]
Prune: TypeAlias = Literal["median", "halving", "none"]

DEATHS = 3
"""A trial whose process died so many times is lost."""
_NAME = "sweep"


def need_optuna() -> Any:
    """The package.

    Raises:
        InputError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError(
            "Cannot sweep: Optuna is not installed. Install it with: pip install 'quickstudy[sweep]'"
        ) from error
    # Progress is ours to show; its own lines would stand between.
    optuna.logging.set_verbosity(logging.WARNING)
    return optuna


@dataclass(frozen=True)
class Given:
    """A trial to be computed.

    Args:
        number: from 0 on.
        values: dotted key -> value; of a trial that is taken up those that it was given at first.
    """

    number: int
    values: dict[str, Any]


@dataclass(frozen=True)
class Trial:
    """A trial as it stands in the journal.

    Args:
        number: from 0 on.
        values: dotted key -> value.
        outcome: how it ended; None of one that is being computed.
        value: its best validation figure; None where it has none.
        run: the name of its run folder; empty where there is none.
        why: a sentence, where it did not finish.
        reports: steps done -> validation figure.
        seconds: from its start to its end.
    """

    number: int
    values: dict[str, Any]
    outcome: Outcome | None
    value: float | None
    run: str = ""
    why: str = ""
    reports: dict[int, float] = field(default_factory=dict)
    seconds: float | None = None


class Study:
    """The journal of a sweep, for the process that holds the folder's lock; not for several threads at once.

    Args:
        folder: of the sweep.
        space: what is varied.
        measured: the metric of validations.
        sampler: how values are drawn: ``"tpe"`` learns from the trials before, ``"random"`` does not.
        prune: when a trial is stopped: where it is worse than the ``"median"`` of others at that step, by successive
            ``"halving"``, or never (``"none"``).
        seed: of the draws.
        warm_up: steps of a trial before it may be stopped by the median.
    """

    def __init__(
        self,
        folder: SweepFolder,
        space: Sequence[Dimension],
        measured: str,
        *,
        sampler: Sampler = "tpe",
        prune: Prune = "median",
        seed: int = 0,
        warm_up: int = 0,
    ) -> None:
        self.space, self.metric = tuple(space), measured
        self._optuna = need_optuna()
        folder.mend_journal()
        storage = _storage(self._optuna, folder.journal)
        direction = "minimize" if metric(measured).smaller_is_better else "maximize"
        self._study = self._optuna.create_study(
            storage=storage,
            study_name=_NAME,
            direction=direction,
            load_if_exists=True,
            pruner=self._pruner(prune, warm_up),
        )
        # A sampler keeps no state on the disk. One seeded alike would draw again what it drew before the kill.
        with _experimental(self._optuna):
            self._study.sampler = self._sampler(sampler, seed + 1000003 * len(self._study.trials))
        self._open: dict[int, optuna.Trial] = {}

    def enqueue(self, values: Mapping[str, Any]) -> None:
        """What the first trial is given, where there is none yet."""
        if not self._study.trials:
            self._study.enqueue_trial({one.key: one.kept(values[one.key]) for one in self.space if one.key in values})

    def taken_up(self) -> list[Given]:
        """The trials that were being computed when the sweep was killed, with the values that they had."""
        running = self._optuna.trial.TrialState.RUNNING
        return [
            self._given(self._optuna.Trial(self._study, one._trial_id))
            for one in self._study.get_trials(deepcopy=False, states=(running,))
        ]

    def ask(self) -> Given:
        """A new trial."""
        with _experimental(self._optuna):
            return self._given(self._study.ask())

    def _given(self, trial: optuna.Trial) -> Given:
        with _experimental(self._optuna):
            values = {one.key: one.suggest(trial) for one in self.space}
        self._open[trial.number] = trial
        return Given(trial.number, values)

    def report(self, number: int, step: int, value: float) -> bool:
        """Keep a validation of a trial; whether to stop it."""
        trial = self._open[number]
        known = self._study.get_trials(deepcopy=False)[number].intermediate_values
        if step not in known:  # a trial that is gone on with from an earlier checkpoint says some of it again
            trial.report(value, step)
        return bool(trial.should_prune())  # NumPy's, of some pruners

    def tell(self, number: int, reached: Reached) -> None:
        """How a trial ended."""
        trial, states = self._open.pop(number), self._optuna.trial.TrialState
        for name, said in (("outcome", reached.outcome), ("why", reached.why), ("run", reached.run)):
            if said:
                trial.set_user_attr(name, Path(said).name if name == "run" else said)
        if reached.outcome == "finished" and reached.value is not None:
            self._study.tell(trial, reached.value)
        elif reached.outcome in ("pruned", "diverged", "refused"):
            # Optuna leaves out what failed, and would go on drawing where trainings diverge; what was stopped counts
            # as worse than all that came to an end.
            self._study.tell(trial, state=states.PRUNED)
        else:
            self._study.tell(trial, state=states.FAIL)

    def died(self, number: int) -> bool:
        """Count that the process of a trial died; whether to give the trial up."""
        trial = self._open[number]
        deaths = trial.user_attrs.get("deaths", 0) + 1
        trial.set_user_attr("deaths", deaths)
        return bool(deaths >= DEATHS)

    @property
    def begun(self) -> int:
        """How many trials were given."""
        waiting = self._optuna.trial.TrialState.WAITING
        return sum(one.state != waiting for one in self._study.get_trials(deepcopy=False))

    @property
    def trials(self) -> list[Trial]:
        """All that were given, by number."""
        waiting = self._optuna.trial.TrialState.WAITING
        return [self._trial(one) for one in self._study.get_trials(deepcopy=False) if one.state != waiting]

    def best(self) -> Trial | None:
        """The finished trial of the best validation figure; of equals the first."""
        done = [trial for trial in self.trials if trial.outcome == "finished" and trial.value is not None]
        sign = 1 if metric(self.metric).smaller_is_better else -1
        return min(done, key=lambda trial: (sign * (trial.value or 0.0), trial.number), default=None)

    def importance(self) -> dict[str, float]:
        """Key -> its share of what makes the best trials better than the others; nothing of a few or equal trials."""
        values = [trial.value for trial in self.trials if trial.outcome == "finished"]
        if len(values) < 4 or len(set(values)) < 2:
            return {}
        with _experimental(self._optuna):
            found = self._optuna.importance.get_param_importances(self._study)
        return {name: float(share) for name, share in found.items() if math.isfinite(share)}

    def _trial(self, one: Any) -> Trial:
        values = {}
        for dimension in self.space:
            kept = one.params.get(dimension.key)
            fits = [value for value in dimension.choices if dimension.kept(value) == kept]
            values[dimension.key] = fits[0] if fits else kept
        outcome = one.user_attrs.get("outcome")
        value = one.value if outcome == "finished" else self._best_of(one.intermediate_values)
        seconds = None if one.duration is None else one.duration.total_seconds()
        return Trial(
            one.number,
            values,
            outcome,
            value,
            one.user_attrs.get("run", ""),
            one.user_attrs.get("why", ""),
            dict(one.intermediate_values),
            seconds,
        )

    def _best_of(self, reports: Mapping[int, float]) -> float | None:
        if not reports:
            return None
        return min(reports.values()) if metric(self.metric).smaller_is_better else max(reports.values())

    def _sampler(self, name: Sampler, seed: int) -> Any:
        if name == "random":
            return self._optuna.samplers.RandomSampler(seed=seed)
        # Trials that run side by side are not drawn alike: those without a figure count as bad ones.
        return self._optuna.samplers.TPESampler(seed=seed, constant_liar=True)

    def _pruner(self, prune: Prune, warm_up: int) -> Any:
        pruners = self._optuna.pruners
        if prune == "none":
            return pruners.NopPruner()
        if prune == "halving":
            return pruners.SuccessiveHalvingPruner()
        return pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=warm_up)


def _storage(optuna: Any, journal: Path) -> Any:
    journals = optuna.storages.journal
    return optuna.storages.JournalStorage(journals.JournalFileBackend(str(journal), lock_obj=_Held()))


class _Held:
    """For Optuna's lock of the journal: that of the folder is held already, and no dead process leaves it behind."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


@contextmanager
def _experimental(optuna: Any) -> Iterator[None]:
    """Without its warnings that an interface may change; versions are pinned, and tests would notice."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
