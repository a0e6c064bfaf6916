"""Floor 5: what a recipe may say.

    name, seed
    [learner]   name = "maml", and the options of that learner's constructor
    [net]       name = "conv4", and its options
    [data]      name = "omniglot", and its options; path = the folder of data sets, when it is not the usual one
    [episodes.train | .validation | .test]      way, shot, query, dirichlet
    [pretrain]  steps, batch, optimiser: a first phase on plain labelled batches, for learners that have one
    [train]     steps, optimiser, validation ...
    [evaluate]  episodes, role

Keys are kebab-case in TOML and on the command line, snake_case here. What stands in [learner], [net] and [data]
beside ``name`` is checked against the constructor of the registered class, see ``parts.py``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    ValidationInfo,
    model_validator,
)

from quickstudy.data.counts import bounds

__all__ = [
    "Episodes",
    "EvaluateOptions",
    "Part",
    "PretrainOptions",
    "Range",
    "Recipe",
    "Schedule",
    "TaskSize",
    "TrainOptions",
    "kebab",
]


def kebab(name: str) -> str:
    """``inner_lr`` as it stands in TOML and on the command line: ``inner-lr``."""
    return name.replace("_", "-")


class Table(BaseModel):
    """Settings shared by all tables: TOML's types taken exactly, no key that is not known, nothing changes later."""

    model_config = ConfigDict(
        alias_generator=kebab, validate_by_name=True, extra="forbid", strict=True, frozen=True, allow_inf_nan=False
    )


def _check_range(value: Any, info: ValidationInfo) -> int | tuple[int, int]:
    low, high = bounds(info.field_name or "count", value)
    return low if isinstance(value, int) else (low, high)


def _write_range(value: int | tuple[int, int]) -> int | list[int]:
    return value if isinstance(value, int) else list(value)


Range: TypeAlias = Annotated[int | tuple[int, int], PlainValidator(_check_range), PlainSerializer(_write_range)]
"""A number, or a range [low, high] from which each task draws."""


class Part(Table):
    """One of [learner], [net], [data].

    Args:
        name: in its registry.
        options: arguments of its constructor, by their Python names; JSON types only.
    """

    name: str
    options: dict[str, Any] = {}


class TaskSize(Table):
    """How large the tasks are.

    Args:
        way: classes a task; None for tasks that have none (regression).
        shot: support examples a class (a task, for regression).
        query: query examples a class (a task, for regression).
        dirichlet: concentration of the classes' shares of the way x query queries, such as 2.0; as many of each class
            where it is left out.
    """

    way: Range | None = None
    shot: Range
    query: Range
    dirichlet: float | None = Field(default=None, gt=0)


class Episodes(Table):
    """Sizes of the tasks to train on, to validate on (or as in the test), to be tested on (or as in training).

    A learner that is trained on plain labelled batches alone needs no size to train on; it is as in the test.
    """

    train: TaskSize
    validation: TaskSize | None = None
    test: TaskSize

    @model_validator(mode="before")
    @classmethod
    def _test_like_training(cls, given: Any) -> Any:
        if isinstance(given, dict) and "train" in given and "test" not in given:
            return given | {"test": given["train"]}
        if isinstance(given, dict) and "test" in given and "train" not in given:
            return given | {"train": given["test"]}
        return given


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Named = BeforeValidator(_named)
"""``schedule = "cosine"`` says the same as ``schedule = { name = "cosine" }``."""


class Constant(Table):
    """The learning rate stays."""

    name: Literal["constant"] = "constant"


class Step(Table):
    """Every ``every`` steps the learning rate is multiplied by ``factor``."""

    name: Literal["step"] = "step"
    every: int = Field(ge=1)
    factor: float = Field(gt=0)


class Decay(Table):
    """From the learning rate down to ``final`` times it at the last step, in a line or along a cosine."""

    name: Literal["linear", "cosine"]
    final: float = Field(default=0.0, ge=0)


class OfTorch(Table):
    """One of ``torch.optim.lr_scheduler``, by its class's name, with the options of its constructor."""

    name: Literal["torch"]
    scheduler: str
    options: dict[str, Any] = {}


Schedule: TypeAlias = Annotated[Constant | Step | Decay | OfTorch, Field(discriminator="name"), Named]


class AverageOptions(Table):
    """An average of the weights along training, to be used in place of the last; see ``train/averaging.py``.

    Args:
        name: ``"ema"`` or ``"swa"``.
        decay: of ``"ema"``.
        start: of ``"swa"``: the share of the steps after which it begins.
        every: of ``"swa"``: steps between the weights that count.
    """

    name: Literal["ema", "swa"]
    decay: float = Field(default=0.999, ge=0, lt=1)
    start: float = Field(default=0.75, ge=0, lt=1)
    every: int = Field(default=1, ge=1)


_OF_SGD = "momentum is an option of optimizer = 'sgd'; the others have their own"


class PretrainOptions(Table):
    """A first phase on plain labelled batches over all training classes.

    Args:
        steps: batches.
        batch: rows a batch.
        optimizer: of the meta-parameters.
        lr: its learning rate.
        schedule: what becomes of the learning rate within the phase.
        weight_decay: the optimiser's; None leaves it at its own default (0.01 for ``"adamw"``, else 0).
        momentum: of ``"sgd"``.
    """

    steps: int = Field(ge=1)
    batch: int = Field(default=64, ge=1)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(default=1e-3, gt=0, le=1e3)
    schedule: Schedule = Constant()
    weight_decay: float | None = Field(default=None, ge=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _has_momentum(self) -> PretrainOptions:
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(_OF_SGD)
        return self


class TrainOptions(Table):
    """How the meta-parameters are trained.

    Args:
        steps: meta-training steps; 0 for what is tested as it is: baselines that learn nothing, untrained networks; or
            what [pretrain] made of it.
        tasks_per_step: tasks whose losses are averaged in one step.
        tasks_at_once: how many of them are computed together; None leaves the choice to the engine.
        batch: rows a step, for a learner that is trained on plain labelled batches and not on tasks (64 by default).
        optimizer: of the meta-parameters.
        lr: its learning rate.
        schedule: what becomes of the learning rate.
        weight_decay: the optimiser's; None leaves it at its own default (0.01 for ``"adamw"``, else 0).
        momentum: of ``"sgd"``.
        warmup: steps at the beginning in which the rate rises in a line, before the schedule.
        clip_norm: the largest norm of a step's gradient.
        average: of the weights along training, which is used in place of the last ones.
        patience: validations in a row without a better one, after which training ends.
        validate_every: steps between validations; 0 for none.
        validate_episodes: tasks of a validation.
        precision: ``"float32"`` or ``"float64"``: that of the weights and of all that is computed; ``"tf32"``,
            ``"bf16"`` or ``"fp16"``: weights in float32, and steps whose matrix products and convolutions are shorter;
            see docs/performance.md.
        compile: how meta-steps are computed: ``"no"``, ``"trace"`` or ``"inductor"``; see docs/compiled.md.
        role: the classes to train on. With ``"train+validation"`` there is nothing left to validate on, so
            ``validate_every`` must be 0.
    """

    steps: int = Field(ge=0)
    tasks_per_step: int = Field(default=1, ge=1)
    tasks_at_once: int | None = Field(default=None, ge=1)
    batch: int | None = Field(default=None, ge=1)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(default=1e-3, gt=0, le=1e3)
    schedule: Schedule = Constant()
    weight_decay: float | None = Field(default=None, ge=0)
    momentum: float = Field(default=0.0, ge=0, lt=1)
    warmup: int = Field(default=0, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    average: Annotated[AverageOptions | None, Named] = None
    patience: int | None = Field(default=None, ge=1)
    validate_every: int = Field(default=0, ge=0)
    validate_episodes: int = Field(default=200, ge=2)
    precision: Literal["float32", "float64", "tf32", "bf16", "fp16"] = "float32"
    compile: Literal["no", "trace", "inductor"] = "no"
    role: Literal["train", "train+validation"] = "train"

    @model_validator(mode="after")
    def _can_validate(self) -> TrainOptions:
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(_OF_SGD)
        if self.role == "train+validation" and self.validate_every:
            raise ValueError(
                "cannot validate on classes that are trained on (role = 'train+validation'); "
                "set validate-every = 0, or role = 'train'"
            )
        if self.patience is not None and not self.validate_every:
            raise ValueError(
                "patience counts validations, and there are none: set validate-every, or leave patience out"
            )
        if self.warmup and self.warmup >= self.steps:
            raise ValueError(f"warmup = {self.warmup} leaves none of {self.steps} steps for the schedule; take fewer")
        return self


class EvaluateOptions(Table):
    """How the result is measured.

    Args:
        episodes: on how many tasks.
        role: of which role.
        precision: how its learner computes then, whatever it was trained in: ``"float32"`` (weights in float64 compute
            in float64), ``"tf32"``, ``"bf16"`` or ``"fp16"``.
    """

    episodes: int = Field(default=600, ge=2)
    role: Literal["validation", "test"] = "test"
    precision: Literal["float32", "tf32", "bf16", "fp16"] = "float32"


class Recipe(Table):
    """Everything that makes a result; see the top of this file and ``NAMES`` in docs/architecture.md.

    Args:
        name: names the run's folder.
        seed: of the tasks, the initial weights and all else that is random.
        learner: what is meta-trained.
        net: its network, when it has one.
        data: where tasks come from.
        episodes: how large they are.
        pretrain: a first phase on plain labelled batches, if there is one.
        train: how it is meta-trained.
        evaluate: how the result is measured.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")
    seed: int = Field(default=0, ge=0)
    learner: Part
    net: Part | None = None
    data: Part
    episodes: Episodes
    pretrain: PretrainOptions | None = None
    train: TrainOptions
    evaluate: EvaluateOptions = EvaluateOptions()

    @model_validator(mode="after")
    def _has_weights_for_it(self) -> Recipe:
        if self.train.precision == "float64" and self.evaluate.precision != "float32":
            raise ValueError(
                f"cannot test weights in float64 in {self.evaluate.precision}, which is for weights in float32; leave "
                "evaluate.precision out, or train in another precision"
            )
        return self

    def settings(self, exclude: dict[str, Any]) -> dict[str, Any]:
        """What is hashed and compared: JSON types, without what the first recipes could not say and leave as it was.

        Args:
            exclude: what else is left out, as pydantic takes it.
        """
        found = self.model_dump(mode="json", exclude=exclude)
        if found.get("pretrain") is None:
            found.pop("pretrain", None)
        for name in ("batch", "weight_decay", "momentum", "compile", "warmup", "clip_norm", "average", "patience"):
            if found["train"][name] == TrainOptions.model_fields[name].default:
                del found["train"][name]
        if found.get("evaluate", {}).get("precision") == "float32":
            del found["evaluate"]["precision"]
        return found
