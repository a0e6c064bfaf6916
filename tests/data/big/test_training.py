"""Trained, resumed and tested on examples that are read when they are drawn."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import quickstudy as library
from quickstudy.data.pictures import Images
from quickstudy.errors import DataError, InputError
from quickstudy.evaluate import meta_test
from quickstudy.recipes import load_recipe
from quickstudy.train import Callback, Interrupted, Silent, StepEvent
from quickstudy.training import Run
from tests.cli.conftest import Command
from tests.cli.conftest import quickstudy as quickstudy
from tests.data.big.made import SIZE, shards_of

SMALL: dict[str, Any] = {
    **{"train.steps": 6, "train.schedule.name": "constant", "train.validate-every": 0, "net.filters": 4},
    **{f"episodes.{part}.{key}": 2 for part in ("train", "validation", "test") for key in ("way", "query")},
    "data.size": SIZE,
}


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("quickstudy-ahead")]


@pytest.fixture(scope="module")
def shards(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shards_of(pictures, tmp_path_factory.mktemp("shards"))


def trained(runs: Path, options: dict[str, Any], *callbacks: Callback, recipe: str = "images-protonet-fast") -> Run:
    return library.train(recipe, overrides=SMALL | options, runs=runs, device="cpu", callbacks=callbacks)


def metrics(run: Any) -> list[dict[str, Any]]:
    kept = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in record.items() if "second" not in key and "time" not in key} for record in kept
    ]


def same_weights(one: Any, other: Any) -> bool:
    a, b = one.learner.state_dict(), other.learner.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("recipe", ["images-protonet-fast", "images-meta-baseline-fast"])
def test_the_same_weights_as_from_memory(recipe: str, pictures: Path, tmp_path: Path) -> None:
    """Read ahead or not; in episodes, and in plain batches before them."""
    more: dict[str, Any] = {"data.folder": str(pictures)}
    if "baseline" in recipe:
        more |= {"pretrain.steps": 4, "pretrain.batch": 8, "net.name": "conv4", "net.filters": 4}
    stored = trained(tmp_path, more | {"data.keep": "store"}, recipe=recipe)
    for ahead in (0, 3):
        index = trained(tmp_path, more | {"data.keep": "index", "data.ahead": ahead}, recipe=recipe)
        assert same_weights(stored, index) and len(metrics(stored)) == len(metrics(index))
    results = []
    for keep in ("store", "index"):
        tasks = Images(pictures, size=SIZE, keep=keep).tasks("test", way=2, shot=1, query=2, seed=0)
        results.append(meta_test(index.learner, tasks, episodes=40, tasks_at_once=8).per_episode)
    assert results[0] == results[1] and len(results[0]) == 40
    assert index.folder.divided == dict(Images(pictures, size=SIZE).divided)


class Stop(Silent):
    """Ctrl-C in a certain step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def step(self, event: StepEvent) -> None:
        if event.step == self._step:
            import signal

            signal.raise_signal(signal.SIGINT)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(shards: Path, tmp_path: Path) -> None:
    options = {"data.name": "shards", "data.files": str(shards), "data.ahead": 3}
    whole = trained(tmp_path / "whole", options)
    with pytest.raises(Interrupted):
        trained(tmp_path / "stopped", options, Stop(3))
    (folder,) = (tmp_path / "stopped").iterdir()
    resumed = library.train(folder, resume=True, runs=tmp_path / "stopped", device="cpu")
    assert resumed.trained.step == 6 and same_weights(whole, resumed) and metrics(whole) == metrics(resumed)


def test_a_picture_that_cannot_be_read_stops_the_run_where_it_is_drawn(pictures: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "pictures"
    shutil.copytree(pictures, folder)
    options = {"data.folder": str(folder), "data.keep": "index", "data.ahead": 3}
    whole = trained(tmp_path / "whole", options)
    training = (whole.folder.divided or {})["train"]
    broken = folder / training[0] / "0.png"
    kept = broken.read_bytes()
    broken.write_bytes(b"x" * len(kept))
    with pytest.raises(DataError, match=rf"Cannot read .*{training[0]}/0\.png: it is no picture that can be read here"):
        trained(tmp_path / "broken", options | {"train.steps": 30})
    (run,) = (tmp_path / "broken").iterdir()
    done = len((run / "metrics.jsonl").read_text().splitlines())
    broken.write_bytes(kept)
    resumed = library.train(run, resume=True, runs=tmp_path / "broken", device="cpu")
    again = trained(tmp_path / "again", options | {"train.steps": 30})
    assert done < 30 and same_weights(again, resumed) and metrics(again) == metrics(resumed)


def test_shards_on_the_command_line(shards: Path, quickstudy: Command, tmp_path: Path) -> None:
    small = [word for key, value in SMALL.items() for word in (f"--{key}", str(value))]
    pattern = f"{shards}/part-{{000..002}}.tar"
    done = quickstudy("train", "shards-protonet-fast", "--shards", pattern, *small, "--ranks", "1", "--runs", tmp_path)
    assert done.status == 0, done.err
    run = done.out.strip()
    tested = quickstudy("evaluate", run, "--episodes", "5", "--ranks", "1", "--json")
    assert tested.status == 0 and json.loads(tested.out)["episodes"] == 5, tested.err
    refused = quickstudy("evaluate", run, "--data.split", "test", "--episodes", "5", "--ranks", "1")
    assert refused.status == 2 and "it was trained on them" in refused.err
    absent = quickstudy("train", "shards-protonet-fast", "--shards", tmp_path / "nowhere", "--runs", tmp_path)
    assert absent.status == 2 and "which does not exist" in absent.err
    lost = quickstudy("train", "shards-protonet-fast", "--shards", "memory://nowhere/*.tar", "--runs", tmp_path)
    assert lost.status == 2 and lost.err.startswith("error: Cannot find shards files at memory://nowhere/*.tar")


def test_an_address_in_a_recipe_stays_one() -> None:
    recipe = load_recipe("shards-protonet-fast", {"data.files": "s3://bucket/train-{000..127}.tar"})
    assert recipe.data.options["files"] == "s3://bucket/train-{000..127}.tar"
    there = load_recipe("parquet-protonet-fast", {"data.files": "birds.parquet"})
    assert there.data.options["files"] == str(Path("birds.parquet").absolute())
    with pytest.raises(InputError, match="keep"):
        load_recipe("parquet-protonet-fast", {"data.keep": "index"})
