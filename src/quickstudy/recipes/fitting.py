"""Floor 5: train what a recipe describes, and the curves of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from quickstudy.data.ahead import read_ahead
from quickstudy.evaluate import Curve, meta_test
from quickstudy.learners.learner import AbstractLearner
from quickstudy.recipes.building import Built
from quickstudy.recipes.schema import Constant, OfTorch, Schedule, Step
from quickstudy.train import Average, Callback, Checkpointing, Pretraining, Trained, Validation, fit, schedules
from quickstudy.train.ranks import AbstractRanks

__all__ = ["curves_of", "fit_built"]


def fit_built(
    built: Built,
    *,
    callbacks: Sequence[Callback] = (),
    checkpoints: Checkpointing | None = None,
    resume: bool = False,
    ranks: AbstractRanks | None = None,
) -> Trained:
    """Meta-train the learner of ``built`` in place, as its recipe says.

    Args:
        built: from ``build``; its learner on the device that it is to be trained on.
        callbacks: see ``train.fit``.
        checkpoints: see ``train.fit``.
        resume: see ``train.fit``.
        ranks: see ``train.fit``; validations are divided too.
    """
    with _read_ahead(built) as drawn:
        return _fit(drawn, callbacks, checkpoints, resume, ranks)


@contextmanager
def _read_ahead(built: Built) -> Iterator[Built]:
    """The same, whose training tasks are read ahead where that pays."""
    with ExitStack() as reading:
        yield replace(
            built,
            train=built.train if built.batches else reading.enter_context(read_ahead(built.train)),
            batches=built.batches and reading.enter_context(read_ahead(built.batches)),
            pretrain=built.pretrain and reading.enter_context(read_ahead(built.pretrain)),
        )


def _fit(
    built: Built,
    callbacks: Sequence[Callback],
    checkpoints: Checkpointing | None,
    resume: bool,
    ranks: AbstractRanks | None,
) -> Trained:
    options = built.recipe.train
    return fit(
        built.learner,
        built.batches or built.train,
        steps=options.steps,
        tasks_per_step=options.tasks_per_step,
        tasks_at_once=options.tasks_at_once,
        optimizer=options.optimizer,
        lr=options.lr,
        schedule=_schedule(options.schedule, options.lr, options.warmup),
        weight_decay=options.weight_decay,
        momentum=options.momentum,
        seed=built.recipe.seed,
        pretrain=_pretraining(built),
        validate=_validation(built, ranks),
        validate_every=options.validate_every,
        callbacks=callbacks,
        checkpoints=checkpoints,
        resume=resume,
        ranks=ranks,
        compile=options.compile,
        precision="float32" if options.precision == "float64" else options.precision,
        clip_norm=options.clip_norm,
        average=None if options.average is None else Average(**options.average.model_dump()),
        patience=options.patience,
    )


def _pretraining(built: Built) -> Pretraining | None:
    options = built.recipe.pretrain
    if options is None or built.pretrain is None:
        return None
    return Pretraining(
        built.pretrain,
        options.steps,
        optimizer=options.optimizer,
        lr=options.lr,
        schedule=_schedule(options.schedule, options.lr),
        weight_decay=options.weight_decay,
        momentum=options.momentum,
    )


def _schedule(schedule: Schedule, lr: float, warmup: int = 0) -> schedules.Schedule:
    if warmup:
        return schedules.warmed(_schedule(schedule, lr), warmup)
    if isinstance(schedule, Constant):
        return schedules.constant()
    if isinstance(schedule, Step):
        return schedules.decay_by(schedule.factor, schedule.every)
    if isinstance(schedule, OfTorch):
        options = {name.replace("-", "_"): value for name, value in schedule.options.items()}
        return schedules.of_torch(schedule.scheduler, options, lr)
    return {"linear": schedules.linear, "cosine": schedules.cosine}[schedule.name](schedule.final)


def _validation(built: Built, ranks: AbstractRanks | None) -> Callable[[AbstractLearner], Validation] | None:
    source = built.validation
    if source is None:
        return None

    def validate(learner: AbstractLearner) -> Validation:
        found = meta_test(learner, source, episodes=built.recipe.train.validate_episodes, division=ranks)
        return Validation(found.metric, found.mean, found.ci95)

    return validate


def curves_of(records: Iterable[Mapping[str, Any]], name: str) -> list[Curve]:
    """What was measured along training, to be drawn.

    Args:
        records: as in ``metrics.jsonl``: ``step``, and what was measured after it.
        name: whose curves they are.
    """
    records = list(records)
    curves = []
    for key, quantity in (
        ("loss", "loss"),
        ("accuracy", "training accuracy"),
        ("return", "training return"),
        ("return_before", "training return before adapting"),
        *_validations(records),
        ("grad_norm", "gradient norm"),
    ):
        # A loss over all training classes is no loss of a task, and that of a student none of its teacher's: each
        # phase has a curve of its own.
        for phase in sorted({_phase(record) for record in records if key in record}):
            of_phase = [record for record in records if key in record and _phase(record) == phase]
            steps, values = [record["step"] for record in of_phase], [record[key] for record in of_phase]
            spread = [record["ci95"] for record in of_phase] if all("ci95" in record for record in of_phase) else []
            values, spread = [[float(value) for value in one] for one in (values, spread)]  # infinities are texts
            called = _PREFIX.get(phase, "") + quantity
            curves.append(Curve(name, called, steps, values, spread, log=key == "grad_norm"))
    return curves


def _validations(records: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The keys under which validations are written, and what they are called."""
    keys = dict.fromkeys(key for record in records for key in record if key.startswith("validation_"))
    named = {"validation_mse": "validation error"}
    return [(key, named.get(key, key.replace("_", " "))) for key in keys]


_PREFIX = {("batches", 0): "batches: ", ("batches", 1): "batches, second time: "}


def _phase(record: Mapping[str, Any]) -> tuple[str, int]:
    """What a step was trained on, and in which phase, where that matters; validations say neither."""
    name = record.get("phase", "episodes")
    return name, record.get("phase_number", 0) if name == "batches" else 0
