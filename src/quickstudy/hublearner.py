"""Floor 6: saved learners on the Hugging Face hub, by the standard mixin of ``huggingface_hub``.

The mixin's class is made when it is first wanted, as the package is optional. What comes from the hub is read as any
saved learner is: safetensors and JSON, each held to its digest, and nothing is ever unpickled.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from quickstudy.files import atomic_write_bytes
from quickstudy.hub import need_hub, reaching
from quickstudy.saved import FILES, SavedLearner

__all__ = ["from_hub", "hub_class", "push"]

_CONFIG = "config.json"


@functools.cache
def hub_class() -> Any:
    """The class that the hub's client knows: a ``ModelHubMixin`` around a :class:`SavedLearner`, its ``saved``.

    Raises:
        InputError: ``huggingface_hub`` is not installed.
    """
    hub = need_hub("The Hugging Face hub")

    named: dict[str, Any] = {"library_name": "quickstudy", "tags": ["meta-learning"]}

    class HubLearner(hub.ModelHubMixin, **named):  # type: ignore[misc, name-defined]
        """A saved learner, as the hub's client knows models."""

        def __init__(self, saved: SavedLearner) -> None:
            self.saved = saved

        def _save_pretrained(self, save_directory: Path) -> None:
            self.saved.save(save_directory)
            # By this file the hub counts downloads; nothing reads it.
            about = {"library": "quickstudy", "learner": self.saved.recipe.learner.name}
            atomic_write_bytes(Path(save_directory) / _CONFIG, json.dumps(about, indent=1).encode())

        @classmethod
        def _from_pretrained(cls, *, model_id: str, **options: Any) -> Any:
            known = {name: options[name] for name in _OPTIONS if name in options}
            folder = (
                model_id
                if Path(model_id).is_dir()
                else hub.snapshot_download(repo_id=model_id, allow_patterns=[*FILES, _CONFIG], **known)
            )
            return cls(SavedLearner.load(folder))

    return HubLearner


_OPTIONS = ("revision", "cache_dir", "force_download", "token", "local_files_only")


def push(saved: SavedLearner, repo_id: str, **options: Any) -> str:
    """Upload a learner.

    Args:
        saved: the learner.
        repo_id: ``"user/name"``.
        options: of ``ModelHubMixin.push_to_hub``.

    Returns:
        The address of the commit.
    """
    with reaching("push a learner to", repo_id):
        return str(hub_class()(saved).push_to_hub(repo_id, **options))


def from_hub(name: str | Path, **options: Any) -> SavedLearner:
    """A learner from the hub, or from a folder.

    Args:
        name: ``"user/name"``, or a folder.
        options: of ``ModelHubMixin.from_pretrained``.

    Raises:
        InputError: it is not there, or the hub cannot be reached, or there is a pickle in it.
        CheckpointError: a file is missing, or was changed.
    """
    with reaching("load the learner", str(name)):
        found: SavedLearner = hub_class().from_pretrained(str(name), **options).saved
    return found
