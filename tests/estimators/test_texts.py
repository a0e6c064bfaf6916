"""Texts: by MiniLM, by counting words, by a learner that was trained on texts."""

from pathlib import Path

import pytest

from quickstudy.data.source import TaskShape
from quickstudy.errors import InputError
from quickstudy.estimators import FewShotClassifier, FewShotRegressor, encoders, load_task
from quickstudy.recipes import load_recipe
from quickstudy.recipes.building import build_learner
from quickstudy.saved import SavedLearner

X = ["where is my card", "my card is lost", "send money abroad", "transfer money to a friend"]
Y = ["card", "card", "money", "money"]
NEW = ["the card got lost on my way home, as far as I know", "wire money"]


def saved() -> SavedLearner:
    """MiniLM under a prototypical network, as it comes: nobody trained it."""
    recipe = load_recipe("clinc150-minilm-protonet-fast", {"net.tune": "frozen"})
    shape = TaskShape({"input_ids": (16,), "attention_mask": (16,), "text": (200,)}, "classes", 5, vocabulary=30522)
    return SavedLearner(build_learner(recipe, shape).eval(), recipe, shape)


def test_a_learner_with_a_pretrained_tokenizer(tmp_path: Path) -> None:
    model = FewShotClassifier(learner=saved()).fit(X, Y)
    assert model.predict(NEW).tolist() == ["card", "money"]
    model.partial_fit(["I want to speak to a person", "let me talk to somebody"], ["person", "person"])
    assert model.predict([*NEW, "may I talk to someone"]).tolist() == ["card", "money", "person"]
    assert model.nearest_examples(["my card was lost"], n=1)[0][0][:2] == ("1", "card")
    model.save(tmp_path / "task")
    assert (load_task(tmp_path / "task").predict(NEW) == model.predict(NEW)).all()


def test_one_that_numbers_words_by_its_own_texts_is_refused() -> None:
    known = saved()
    options = {name: value for name, value in known.recipe.data.options.items() if name != "tokenizer"}
    data = known.recipe.data.model_copy(update={"options": options})
    own = SavedLearner(known.learner, known.recipe.model_copy(update={"data": data}), known.shape)
    with pytest.raises(InputError, match="numbers words by those of the texts that it was trained on"):
        FewShotClassifier(learner=own).fit(X, Y)


def test_auto_takes_minilm_where_it_is_installed_and_counts_words_where_not(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FewShotClassifier().fit(X, Y)
    assert model.chosen_.name == "minilm-logistic"
    assert model.predict(NEW).tolist() == ["card", "money"]

    def missing(name: str) -> None:
        raise InputError(f"Cannot find {name}.")

    monkeypatch.setattr(encoders, "Reader", missing)
    model = FewShotClassifier().fit(X, Y)
    assert model.chosen_.name == "tf-idf" and "Cannot find minilm" in model.chosen_.why
    assert model.predict(NEW).tolist() == ["card", "money"]


def test_an_empty_text_is_refused() -> None:
    with pytest.raises(InputError, match="Cannot read text 1: expected words, found '  '"):
        FewShotClassifier(learner="tf-idf").fit(["a text", "  "], ["a", "b"])


def test_a_column_of_texts_and_one_of_labels() -> None:
    pandas = pytest.importorskip("pandas")
    texts, labels = pandas.Series(X, index=range(100, 100 + len(X))), pandas.Series(Y, index=range(100, 100 + len(X)))
    model = FewShotClassifier(learner="tf-idf").fit(texts, labels)
    listed = FewShotClassifier(learner="tf-idf").fit(X, Y)
    assert model.predict(pandas.Series(NEW)).tolist() == listed.predict(NEW).tolist()
    assert model.nearest_examples(NEW) == listed.nearest_examples(NEW)


RATED = ["awful, I hated it", "a bad film", "not good", "quite nice", "very good, I loved it", "wonderful, great"]


@pytest.mark.parametrize("installed", [True, False])
def test_numbers_of_texts(installed: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(name: str) -> None:
        raise InputError(f"Cannot find {name}.")

    if not installed:
        monkeypatch.setattr(encoders, "Reader", missing)
    model = FewShotRegressor().fit(RATED, [1.0, 2.0, 2.0, 4.0, 5.0, 5.0])
    assert model.chosen_.name == ("minilm-ridge" if installed else "words-ridge")
    low, high = model.predict(["a bad, awful film", "a wonderful film, I loved it"])
    assert low < high - 0.3
    model.save(tmp_path / "task")
    assert (load_task(tmp_path / "task").predict(RATED) == model.predict(RATED)).all()
