"""Floor 4: the checkpoints of one run: what is kept, and whether a run may go on from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from quickstudy.errors import CheckpointError
from quickstudy.train.callbacks import Callback
from quickstudy.train.changes import HOW_TO_GO_ON, Changes, changed, flat, in_sentence
from quickstudy.train.checkpoint import (
    Checkpoint,
    has_checkpoint,
    load_checkpoint,
    load_weights,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    versions,
)
from quickstudy.train.phases import Pretraining
from quickstudy.train.precision import LossScale
from quickstudy.train.stepping import Engine

_DATA = "the content hash of the data set"
_VERSION = "the version of quickstudy"


@dataclass(frozen=True)
class Checkpointing:
    """Where and when to save.

    Args:
        folder: gets ``last/`` and ``best/``.
        every: steps between checkpoints.
        identity: what must be the same for a run to go on (recipe, data); compared by :func:`fit`.
        settings: what the recipe says, key by key, so that a difference can be named.
        accept_changes: go on even so; each checkpoint then says what changed, and after which step.
    """

    folder: Path
    every: int = 500
    identity: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    accept_changes: bool = False


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
    history: list[dict[str, Any]] = field(default_factory=list)
    """What was changed on the way, oldest first: ``step``, and ``changed``: name -> [before, after]."""

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
            "made_by": versions(),
            "optimizer_name": type(engine.optimizer).__name__,
        }
        if self.options.settings:
            state["settings"] = self.options.settings
        if self.history:
            state["changes"] = self.history
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
        # On another machine the folder, in which it stands what was accepted, may not be there.
        found, accepted = ranks.exchange((mine, self.options.accept_changes))[0]
        self.options = replace(self.options, accept_changes=accepted)
        if found is None:
            return Trained(0)
        absent = {"step", "best", "best_step", "identity"} - found.state.keys()
        if absent:
            raise CheckpointError(
                f"Cannot go on from {folder}: its state.json does not say {sorted(absent)[0]!r}. "
                "Use a checkpoint that training wrote."
            )
        comparable = self._compare(found.state, folder)
        self._put_back(found, folder)
        averaging = self.engine.averaging
        if self.engine.enter(found.state["step"]):
            was, now = found.state.get("optimizer_name"), type(self.engine.optimizer).__name__
            if was in (None, now):
                restore_optimizer(self.engine.learner, self.engine.optimizer, found.optimizer)
            elif not self.options.accept_changes:  # moments of another one say nothing to this one: it begins anew
                raise _refused(folder, {"the optimiser": (was, now)})
        asked = self.engine.tasks_at_once
        if found.state["identity"].get("tasks_at_once", asked) == asked:  # else what is asked for now counts
            self.engine.at_once = found.state.get("tasks_at_once", asked)
        if self.engine.scale is not None and "loss_scale" in found.state:
            self.engine.scale = LossScale(*found.state["loss_scale"])
        if averaging is not None and averaging.values:
            averaging.count = int(found.state["averaged"])
        if found.state["step"] > self.engine.steps:
            raise CheckpointError(
                f"Cannot go on from {folder} to step {self.engine.steps}: it is of step {found.state['step']}. "
                "Ask for more steps."
            )
        best = (found.state["best"], found.state["best_step"]) if comparable else (None, None)
        return Trained(found.state["step"], *best)

    def _put_back(self, found: Checkpoint, folder: Path) -> None:
        """The weights, and what their average is, where there is one."""
        load_weights(self.engine.learner, found, folder)
        if not found.moved:
            return
        averaging = self.engine.averaging  # None: no average is wanted any more; on from the weights themselves
        if averaging is not None:
            averaging.values = {name: value.clone() for name, value in self.engine.learner.state_dict().items()}
        load_weights(self.engine.learner, replace(found, learner=found.moved), folder)

    def _compare(self, state: dict[str, Any], folder: Path) -> bool:
        """Refuse what differs from the run so far, or keep it; whether validations are of the same tasks as so far.

        Raises:
            CheckpointError: something does, and nobody said that it is meant.
        """
        before, now = state["identity"], self._identity
        found = self._differences(state, before, now)
        phases = [None if one.get("pretrain") is None else one["pretrain"]["steps"] for one in (before, now)]
        if phases[0] != phases[1]:
            raise CheckpointError(
                f"Cannot go on from {folder}: its first phase has {phases[0] or 0} steps and is to have "
                f"{phases[1] or 0} now, by which the steps that are done would count otherwise. Start a new run."
            )
        if not found:
            self.history = list(state.get("changes", []))
            return True
        if not self.options.accept_changes:
            raise _refused(folder, found)
        torch_before, torch_now = (one.get("torch") for one in (state.get("made_by", {}), versions()))
        if torch_before not in (None, torch_now):
            found["torch"] = (torch_before, torch_now)
        kept = {name: list(pair) for name, pair in found.items()}
        self.history = [*state.get("changes", []), {"step": state["step"], "changed": kept}]
        return not any(name.startswith((_DATA, "data.", "episodes.validation", "train.validate-")) for name in kept)

    def _differences(self, state: dict[str, Any], before: dict[str, Any], now: dict[str, Any]) -> Changes:
        """The recipe's keys that differ, and the data where none of them names other data; without these, all else."""
        found = changed(state["settings"], self.options.settings) if "settings" in state else {}
        if not found and before.get("recipe") != now.get("recipe"):  # older versions keep a digest alone
            found = {"the recipe's hash": (_short(before.get("recipe")), _short(now.get("recipe")))}
        if before.get("source_hash") != now["source_hash"] and not any(name.startswith("data.") for name in found):
            data = f"{_DATA} {self.engine.source.settings.get('data', '')}".rstrip()
            found[data] = (_short(before.get("source_hash")), _short(now["source_hash"]))
        if not found:  # what older versions did not keep is not known to differ
            known = flat(before)
            found = changed(known, {name: value for name, value in flat(now).items() if name in known})
        version = state.get("made_by", {}).get("quickstudy")
        if version not in (None, versions()["quickstudy"]):
            found[_VERSION] = (version, versions()["quickstudy"])
        return found


def _refused(folder: Path, found: Changes) -> CheckpointError:
    hint = ""
    if all(name.startswith(_DATA) for name in found):
        hint = "Other examples are in that place: bring the old ones back, or name where they lie (--data-root). "
    elif list(found) == [_VERSION]:
        hint = "Another version may compute other steps: install the old one to go on to the last bit. "
    return CheckpointError(f"Cannot go on from {folder} as it was: {in_sentence(found)}. {hint}{HOW_TO_GO_ON}")


def _short(digest: object) -> str:
    return str(digest)[:12]


def _identity_of(pretrain: Pretraining | None) -> dict[str, Any] | None:
    if pretrain is None:
        return None
    source = pretrain.source
    return {"source": source.settings, "source_hash": source.hash, "steps": pretrain.steps}
