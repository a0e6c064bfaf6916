"""Floor 4: the one training loop.

Step s trains on the tasks s·T .. s·T+T-1 of the source, whatever ``tasks_at_once`` is, or on batch s of plain labelled
batches; a run may have a phase of these first (``phases.py``). The state between two steps is the learner's weights
and buffers, the optimiser's tensors and the number of the next step: nothing is drawn from a generator that would have
to be saved, so a run that goes on equals one never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from quickstudy.data.batches import BatchSource
from quickstudy.data.source import TaskSource
from quickstudy.errors import InputError
from quickstudy.learners.learner import AbstractLearner
from quickstudy.train.averaging import Average, Averaging
from quickstudy.train.callbacks import Callback, EndEvent, Outcome, Validation, ValidationEvent
from quickstudy.train.contexts import polite_interrupt, training_mode
from quickstudy.train.phases import OptimizerName, Pretraining
from quickstudy.train.precision import Precision
from quickstudy.train.ranks import AbstractRanks, OneRank, alike
from quickstudy.train.ranks_state import check_agreement, check_same, share_weights, versions_named
from quickstudy.train.saving import Checkpointing, Saver, Trained
from quickstudy.train.schedules import Schedule, constant
from quickstudy.train.stepping import Engine

if TYPE_CHECKING:
    from quickstudy.train.compiled import Compile

Validate = Callable[[AbstractLearner], Validation]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C: the step was finished and, where there is a folder for it, a checkpoint written."""


def fit(
    learner: AbstractLearner,
    source: TaskSource | BatchSource,
    *,
    steps: int,
    tasks_per_step: int = 1,
    tasks_at_once: int | None = None,
    optimizer: OptimizerName = "adam",
    lr: float = 1e-3,
    schedule: Schedule | None = None,
    weight_decay: float | None = None,
    momentum: float = 0.0,
    seed: int = 0,
    pretrain: Pretraining | None = None,
    validate: Validate | None = None,
    validate_every: int = 0,
    callbacks: Sequence[Callback] = (),
    checkpoints: Checkpointing | None = None,
    resume: bool = False,
    ranks: AbstractRanks | None = None,
    compile: Compile = "no",
    precision: Precision = "float32",
    clip_norm: float | None = None,
    average: Average | None = None,
    patience: int | None = None,
) -> Trained:
    """Meta-train ``learner`` on the tasks of ``source``; it is trained in place, on the device where it lies.

    Args:
        learner: what to train.
        source: where tasks come from; or batches (``tasks.batches(64)``), for a learner that is trained on these.
        steps: steps of the outer optimiser, those of an earlier part of the run included, those of ``pretrain`` not;
            with ``pretrain`` 0 is allowed, for the first phase alone.
        tasks_per_step: T, tasks whose losses are averaged in one step.
        tasks_at_once: how many of them are computed together; smaller needs less memory, the result is the same but
            for rounding (and for dropout, which draws once for each portion). Where memory does not suffice, half as
            many are computed from then on: the metrics of a step say so, and checkpoints keep it.
        optimizer: of the meta-parameters.
        lr: its rate, before the schedule.
        schedule: see ``train.schedules``; constant by default.
        weight_decay: of the optimiser; None: its own default (0.01 for ``"adamw"``, else 0).
        momentum: of ``"sgd"``.
        seed: of the learner's own randomness.
        pretrain: a first phase on plain labelled batches, for a learner whose paper has one.
        validate: measures the learner on validation tasks.
        validate_every: steps between validations; 0 for none.
        callbacks: told of every step; see ``train.callbacks``.
        checkpoints: where and when to save; None keeps everything in memory.
        resume: go on from ``checkpoints.folder/last``, if there is one.
        ranks: the processes that divide the tasks of each step, each of which calls this function with the same
            arguments; see ``train.ranks``. Rank 0 alone writes checkpoints and tells callbacks, but for those that have
            an attribute ``on_every_rank = True``; ``validate`` is called on every rank, and has to give the same.
        compile: how the meta-steps of episodes are computed: ``"no"``: operator by operator, as written; ``"trace"``:
            traced once for each shape of episodes and played again without autograd; ``"inductor"``: the trace compiled
            by torch's inductor. The results are the same but for rounding; see ``train.compiled``.
        precision: what steps compute in: ``"float32"``: that of the weights; ``"tf32"``: a GPU's tensor cores for the
            matrix products and convolutions of float32 (on a CPU it changes nothing); ``"bf16"``, ``"fp16"``: these in
            bfloat16 or float16, by ``torch.autocast`` around the learner's loss. In float16 losses are scaled, and a
            step whose gradient is too large for it is computed again with half the ``scale``, which is logged where it
            changes. Weights and optimiser stay float32, see ``train/precision.py``.
        clip_norm: the largest norm of a step's gradient, over all parameters; a longer one is shortened to it
            (``grad_norm`` in the logs is that before).
        average: of the weights along training: what is validated, saved to be loaded, and left in ``learner`` at the
            end, in place of the last weights; training goes on from those. Of the last phase alone. See
            ``train/averaging.py``.
        patience: how many validations in a row may bring nothing better before training ends; None: all steps are done.
            It counts in the last phase alone.

    Returns:
        How many steps were done, and the best validation.

    Raises:
        InputError: the learner cannot be trained, numbers make no sense, or ranks were given different ones.
        CheckpointError: the checkpoint to go on from is broken, or of another run.
        NonFiniteLoss: a loss or gradient became NaN or infinite; weights and checkpoint are those before.
        Interrupted: Ctrl-C; the running step was finished and saved.
        StorageError: the disk refused; the last checkpoint is whole.
    """
    main: dict[str, Any] = {"steps": steps, "optimizer": optimizer, "lr": lr, "schedule": schedule or constant()}
    main |= {"weight_decay": weight_decay, "momentum": momentum}
    ranks = ranks or OneRank()
    callbacks = [each for each in callbacks if ranks.rank == 0 or getattr(each, "on_every_rank", False)]
    averaging = None if average is None else Averaging(average)
    engine = Engine(
        *(learner, source, pretrain, main, tasks_per_step, tasks_at_once, seed, callbacks, ranks, compile, precision),
        *(clip_norm, averaging),
    )
    with alike(ranks):
        engine.check()
        early = Patience.checked(patience, validate_every if validate is not None else 0, engine)
    steps = engine.steps
    if ranks.size > 1:
        check_agreement(ranks, _facts(engine))
    share_weights(ranks, learner)
    saver = None if checkpoints is None else Saver(engine, checkpoints)
    with alike(ranks):
        progress = saver.restore() if saver is not None and resume else Trained(0)
    outcome: Outcome = "failed"
    with training_mode(learner), polite_interrupt() as interrupted:
        try:
            while progress.step < steps and not early.is_over(progress):
                if engine.begins_anew(progress.step):  # what was best is no measure of another phase
                    progress = Trained(progress.step)
                event = engine.step(progress.step)
                progress = Trained(event.step, progress.best, progress.best_step)
                with alike(ranks):
                    for callback in callbacks:
                        callback.step(event)
                if (
                    validate is not None
                    and validate_every
                    and (event.step % validate_every == 0 or event.step == steps)
                ):
                    progress = _validated(engine, validate, progress, callbacks, saver)
                last = event.step == steps or early.is_over(progress)
                stop = ranks.asked_to_stop(interrupted.is_set()) and not last
                if saver is not None and (stop or event.step % saver.options.every == 0 or last):
                    check_same(ranks, learner)
                    with alike(ranks):
                        saver.save("last", progress, callbacks, ended=last)
                if stop:
                    outcome = "interrupted"
                    raise Interrupted(f"Stopped after step {progress.step} of {steps}.")
            outcome = "finished"
            if averaging is not None and averaging.count:
                learner.load_state_dict(averaging.values)
        finally:
            for callback in callbacks:
                callback.end(EndEvent(progress.step, outcome))
    return progress


def _facts(engine: Engine) -> dict[str, Any]:
    """What has to be the same on every rank, by what it is called."""
    pretrain = engine.pretrain
    return versions_named() | {
        "the learner": type(engine.learner).__name__,
        "the hash of the data": engine.source.hash,
        "the settings of the data": engine.source.settings,
        "the hash of the first phase's data": None if pretrain is None else pretrain.source.hash,
        "the seed": engine.seed,
        "the number of steps": engine.steps,
        "the number of tasks a step": engine.tasks_per_step,
        "the optimiser": engine.main["optimizer"],
        "its rate": engine.main["lr"],
        "the precision": engine.precision,
    }


@dataclass(frozen=True)
class Patience:
    """When training ends early. What it goes by stands in each checkpoint, so that a run that goes on ends there, too.

    Args:
        validations: how many in a row may bring nothing better; None: any number.
        every: steps between them.
        first: steps before the last phase, in which alone they count.
    """

    validations: int | None
    every: int
    first: int

    @staticmethod
    def checked(patience: int | None, validate_every: int, engine: Engine) -> Patience:
        """The same with numbers that make sense.

        Raises:
            InputError: it is below 1, or nothing is validated.
        """
        if patience is not None and patience < 1:
            raise InputError(f"patience must be a whole number of at least 1, received {patience}.")
        if patience is not None and not validate_every:
            raise InputError(
                f"Training cannot end early after {patience} validations: there are none. Say how often to validate "
                "(validate_every), or leave patience out."
            )
        return Patience(patience, validate_every, engine.phases[-1].first)

    def is_over(self, progress: Trained) -> bool:
        """Whether the last validation was one too many."""
        if self.validations is None or progress.step <= self.first:
            return False
        since = self.first if progress.best_step is None else max(progress.best_step, self.first)
        # In whole validations: between two of them nothing is decided.
        return progress.step // self.every - since // self.every >= self.validations


def _validated(
    engine: Engine, validate: Validate, progress: Trained, callbacks: Sequence[Callback], saver: Saver | None
) -> Trained:
    """Measure, tell, and keep the best."""
    with alike(engine.ranks), engine.as_used():
        found = validate(engine.learner)
    better = found.better_than(progress.best)
    if better:
        progress = Trained(progress.step, found.value, progress.step)
    with alike(engine.ranks):
        for callback in callbacks:
            callback.validation(ValidationEvent(progress.step, found, better))
        if better and saver is not None:
            saver.save("best", progress, callbacks)
    return progress
