"""The generated pages are those that the code would write; links lead somewhere; no learner is left out."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from quickstudy.errors import DataError
from quickstudy.evaluate.kept import load_kept
from quickstudy.learners import learners
from quickstudy.recipes import load_recipe, recipe_hash
from quickstudy.recipes.load import digest_of_file

DOCS = Path(__file__).parents[1] / "docs"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setitem(sys.modules, name, module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    monkeypatch.undo()
    return module


@pytest.fixture(scope="module")
def make_pages() -> ModuleType:
    return script("make_pages")


def test_the_page_of_results_is_made_from_the_results() -> None:
    made = script("make_results").page(DOCS.parent / "results")
    assert (DOCS / "results.md").read_text(encoding="utf-8") == made, "run: python docs/make_results.py"


def test_the_leaderboard_is_made_from_the_results() -> None:
    made = script("make_results").leaderboard(DOCS.parent / "results")
    assert (DOCS / "leaderboard.html").read_text(encoding="utf-8") == made, "run: python docs/make_results.py"
    assert len(made.encode()) < 1 << 20


def test_the_page_of_robustness_is_made_from_its_figures() -> None:
    made = script("make_robustness").page(DOCS / "robustness.json")
    assert (DOCS / "robustness.md").read_text(encoding="utf-8") == made, "run: python docs/make_robustness.py"


def test_rows_of_studies_are_of_the_recipes_that_ship() -> None:
    """Who edits a recipe measures its study anew (`make results D=STUDY`); rows from before do not say."""
    said = {path: load_kept(path)[1] for path in sorted((DOCS.parent / "results").glob("*/*.json"))}
    known = {path: about for path, about in said.items() if about.get("recipe_said")}
    assert known
    stale = [str(path) for path, about in known.items() if about["recipe_said"] != digest_of_file(about["recipe"])]
    assert not stale, "measure them anew: make results"


def test_a_result_without_provenance_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match=r"a\.json does not say how it was measured"):
        script("make_results").read(tmp_path)


def test_pages_are_up_to_date(make_pages: ModuleType) -> None:
    stale = [
        str(path.relative_to(DOCS))
        for path, text in make_pages.everything().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert stale == [], "run: python docs/make_pages.py"


def test_figures_of_an_earlier_recipe_are_not_printed(make_pages: ModuleType) -> None:
    """A figure beside other options than it was measured with would be a claim that nobody measured."""
    earlier = load_recipe("omniglot-maml-fast", {"learner.inner-lr": 0.123})
    known = {
        "omniglot-protonet-fast": {"recipe": recipe_hash(load_recipe("omniglot-protonet-fast"))},
        "omniglot-maml-fast": {"recipe": recipe_hash(earlier)},
    }
    assert list(make_pages.current(known)) == ["omniglot-protonet-fast"]


def test_every_learner_has_a_page(make_pages: ModuleType) -> None:
    listed = " ".join(make_pages.FAMILIES.values()).split()
    assert sorted(listed) == sorted(set(listed))
    assert set(listed) == set(learners.shipped())
    pages = {path.stem for path in (DOCS / "learners").glob("*.md")} - {"README"}
    assert pages == set(listed)


@pytest.mark.parametrize("name", learners.shipped())
def test_a_page_says_when_to_choose_it_and_what_deviates(name: str) -> None:
    text = (DOCS / "learners" / f"{name}.md").read_text(encoding="utf-8")
    for wanted in ("**When to choose it:**", "**Deviations:**", "## In short", "## Options"):
        assert wanted in text, wanted
    assert re.search(r"\b(19|20)\d\d\b", text) or "there is no paper to deviate from" in text, "no paper"
    empty = re.findall(r"^\| `([\w-]+)` \| [^|]* \|  \|$", text, flags=re.MULTILINE)
    assert empty == [], "options without a word of explanation"


def test_links_lead_somewhere() -> None:
    broken = []
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md", DOCS.parent / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert broken == []
