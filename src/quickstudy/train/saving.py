"""Floor 4: the checkpoints of one run: what is kept, and whether a run may go on from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from quickstudy.errors import CheckpointError
from quickstudy.train.callbacks import Callback
from quickstudy.train.checkpoint import (
    Checkpoint,
    has_checkpoint,
    load_checkpoint,
    load_weights,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from quickstudy.train.phases import Pretraining
from quickstudy.train.precision import LossScale
from quickstudy.train.stepping import Engine


@dataclass(frozen=True)
class Checkpointing:
    """Where and when to save.

    Args:
        folder: gets ``last/`` and ``best/``.
        every: steps between checkpoints.
        identity: what must be the same for a run to go on (recipe, data); compared by :func:`fit`.
    """

    folder: Path
    every: int = 500
    identity: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """How training ended.

    Args:
        step: steps done, of all phases.
        best: the best validation value of the phase that was trained last, or None.
        best_step: when it was reached.
    """

    step: int
    best: float | None = None
    best_step: int | None = None


@dataclass
class Saver:
    """Checkpoints of one run."""

    engine: Engine
    options: Checkpointing

    @property
    def _identity(self) -> dict[str, Any]:
        engine = self.engine
        return self.options.identity | {
            "learner": type(engine.learner).__name__,
            "source_hash": engine.source.hash,
            "source": engine.source.settings,
            "seed": engine.seed,
            "pretrain": _identity_of(engine.pretrain),
            "tasks_per_step": engine.tasks_per_step,
            # Cut otherwise, sums are rounded otherwise, and the run would not go on to the last bit.
            "tasks_at_once": engine.tasks_at_once,
            "clip_norm": engine.clip_norm,
            "average": None if engine.averaging is None else asdict(engine.averaging.average),
        }

    def save(self, which: str, progress: Trained, callbacks: Sequence[Callback], *, ended: bool = False) -> None:
        """Write ``last`` or ``best``; rank 0 does it, for all.

        Args:
            which: of the two.
            progress: how far training has come.
            callbacks: that are told before.
            ended: whether there will be no further step, also where fewer were done than were asked for.
        """
        if self.engine.ranks.rank:
            return
        for callback in callbacks:
            callback.saving(progress.step)
        engine = self.engine
        state: dict[str, Any] = {
            "step": progress.step,
            "steps": engine.steps,
            "best": progress.best,
            "best_step": progress.best_step,
            "ended": ended,
            "identity": self._identity,
        }
        tensors, averaging = optimizer_tensors(engine.learner, engine.optimizer), engine.averaging
        if engine.at_once != engine.tasks_at_once:
            state["tasks_at_once"] = engine.at_once  # memory was short: sums go on being rounded as they were
        if engine.scale is not None:
            state["loss_scale"] = [engine.scale.value, engine.scale.good]
        used = moved = engine.learner.state_dict()
        if averaging is not None:
            used, state["averaged"] = averaging.values or moved, averaging.count
        checkpoint = Checkpoint(used, tensors, state, {} if used is moved else moved)
        save_checkpoint(self.options.folder / which, checkpoint)

    def restore(self) -> Trained:
        """Go on from ``last``; from nothing where there is none. Rank 0 reads it, for all."""
        folder, ranks = self.options.folder / "last", self.engine.ranks
        mine = load_checkpoint(folder) if ranks.rank == 0 and has_checkpoint(folder) else None
        found = ranks.exchange(mine)[0]
        if found is None:
            return Trained(0)
        absent = {"step", "best", "best_step", "identity"} - found.state.keys()
        if absent:
            raise CheckpointError(
                f"Cannot go on from {folder}: its state.json does not say {sorted(absent)[0]!r}. "
                "Use a checkpoint that training wrote."
            )
        before, now = found.state["identity"], self._identity
        changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
        if changed:
            name = changed[0]
            raise CheckpointError(
                f"Cannot go on from {folder}: its {name} was {before.get(name)!r}, now it is {now.get(name)!r}. "
                "Start a new run, or use the settings of the old one."
            )
        load_weights(self.engine.learner, found, folder)
        averaging = self.engine.averaging
        if averaging is not None and found.moved:
            averaging.values = {name: value.clone() for name, value in self.engine.learner.state_dict().items()}
            load_weights(self.engine.learner, replace(found, learner=found.moved), folder)
        if self.engine.enter(found.state["step"]):
            restore_optimizer(self.engine.learner, self.engine.optimizer, found.optimizer)
        self.engine.at_once = found.state.get("tasks_at_once", self.engine.tasks_at_once)
        if self.engine.scale is not None and "loss_scale" in found.state:
            self.engine.scale = LossScale(*found.state["loss_scale"])
        if averaging is not None and averaging.values:
            averaging.count = int(found.state["averaged"])
        if found.state["step"] > self.engine.steps:
            raise CheckpointError(
                f"Cannot go on from {folder} to step {self.engine.steps}: it is of step {found.state['step']}. "
                "Ask for more steps."
            )
        return Trained(found.state["step"], found.state["best"], found.state["best_step"])


def _identity_of(pretrain: Pretraining | None) -> dict[str, Any] | None:
    if pretrain is None:
        return None
    source = pretrain.source
    return {"source": source.settings, "source_hash": source.hash, "steps": pretrain.steps}
