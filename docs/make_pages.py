"""Write docs/learners/*.md and the table of docs/choosing.md from docstrings, traits, recipes and measurements.

    python docs/make_pages.py            writes
    python docs/make_pages.py --check    exits with 1 where a page is not what this would write

The text of a page is the learner's docstring; its figures were written to docs/learners/*.json by the scripts
learners.py, learner_costs.py, recipe_costs.py and real_tables.py in benchmarks/.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from quickstudy.data.source import TaskShape
from quickstudy.learners import AbstractLearner, Traits
from quickstudy.learners.registry import learners
from quickstudy.recipes import load_recipe, recipe_hash
from quickstudy.recipes.building import build_learner
from quickstudy.recipes.parts import PROVIDED, default, takes
from quickstudy.recipes.schema import Recipe, kebab
from quickstudy.recipes.shipped import names as shipped

DOCS = Path(__file__).parent
SHAPES = {
    "omniglot": TaskShape((1, 28, 28), "classes", 5, 4112),
    "glyphs": TaskShape((1, 28, 28), "classes", 5, 2000),
    "sinusoid": TaskShape((1,), "real", 1),
    "tables": TaskShape((8,), "classes", 5),
    "arabic-commands": TaskShape((8000,), "classes", 5, 40),
    "sounds": TaskShape((8000,), "classes", 5, 40),
    "point-navigation": TaskShape((2,), "real", 2, environment={"name": "point-navigation"}),
}
FAMILIES = {
    "Optimisation-based": (
        "maml fomaml anil boil meta-sgd maml++ cavia imaml reptile protomaml fo-protomaml meta-curvature unicorn-maml"
    ),
    "Metric-based": "matching protonet relation simple-cnaps feat",
    "Closed form": "r2d2 lr-d2 metaoptnet dkt",
    "Memory- and model-based": "mann snail cnp acnp in-context tabular-in-context",
    "Transductive": "transductive-fine-tune laplacianshot bd-cspn tim alpha-tim pt-map",
    "Control": "maml-rl reptile-rl rl2 grbal",
    "Baselines": "baseline baseline++ simpleshot rfs meta-baseline fine-tune scratch knn logistic ridge boosting",
}
# Whether adapting takes gradient steps: not a trait, since nothing in the library depends on it.
STEPPING = {
    *FAMILIES["Optimisation-based"].split(),
    *("maml-rl", "reptile-rl", "grbal"),
    *("transductive-fine-tune", "tim", "alpha-tim", "baseline", "baseline++", "fine-tune", "scratch"),
}


@dataclass(frozen=True)
class Page:
    """What is known of one learner.

    Args:
        name: in the registry.
        cls: its class.
        traits: as its fast recipe builds it.
        recipes: that ship for it.
    """

    name: str
    cls: type[AbstractLearner]
    traits: Traits
    recipes: tuple[str, ...]


def pages() -> list[Page]:
    """All learners, in the order of the families."""
    recipes: dict[str, list[str]] = {}
    for name in shipped():
        recipes.setdefault(load_recipe(name).learner.name, []).append(name)
    found = []
    for name in " ".join(FAMILIES.values()).split():
        mine = tuple(sorted(recipes.get(name, [])))
        cls: type[AbstractLearner] = learners.get(name)
        found.append(Page(name, cls, traits_of(name, mine), mine))
    return found


def traits_of(name: str, recipes: tuple[str, ...]) -> Traits:
    """Traits as the first recipe builds the learner; of one with default options where no recipe ships.

    Recipes of a field, whose data must be read to know their shapes, are passed over.
    """
    usual = [recipe for recipe in recipes if load_recipe(recipe).data.name in SHAPES]
    if usual:
        fast = [recipe for recipe in usual if recipe.endswith("-fast")]
        recipe = load_recipe((fast or usual)[0])
    else:
        norm = "task" if name == "scratch" else "batch"
        options = {"learner": {"name": name}, "net": {"name": "conv4", "options": {"norm": norm}}}
        sizes = {"train": {"way": 5, "shot": 1, "query": 5}}
        recipe = Recipe.model_validate(
            {"name": "x", "data": {"name": "omniglot"}, "episodes": sizes, "train": {"steps": 1}} | options
        )
    return build_learner(recipe, SHAPES[recipe.data.name]).traits


# --- a page ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What the scripts in benchmarks/ wrote down; empty where nothing was measured yet.

    Args:
        results: recipe -> what it reached, and against whom.
        costs: learner -> its costs relative to ProtoNet.
        hours: recipe -> hours on one core.
        tables: recipe -> accuracy or error on real tables.
    """

    results: dict[str, Any]
    costs: dict[str, Any]
    hours: dict[str, Any]
    tables: dict[str, Any]

    @classmethod
    def read(cls) -> Measured:
        """From docs/learners."""

        def known(name: str) -> dict[str, Any]:
            path = DOCS / "learners" / f"{name}.json"
            return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}

        return cls(current(known("results")), known("costs"), known("recipe_costs"), known("real_tables"))


def current(results: dict[str, Any]) -> dict[str, Any]:
    """The results whose recipe is still the same; the others are to be measured again, and not printed."""
    return {name: entry for name, entry in results.items() if entry["recipe"] == recipe_hash(load_recipe(name))}


def written(page: Page, measured: Measured) -> str:
    """The page of one learner as Markdown."""
    text = inspect.getdoc(page.cls) or ""
    body, _, sections = text.partition("\nArgs:\n")
    paragraphs = [part.strip("\n") for part in re.split(r"\n\s*\n", body)]
    lines = [f"# {page.name}", ""]
    verdict = versus(page, measured.results) or versus_on_tables(page, measured.tables)
    if verdict:
        lines += [verdict, ""]
    for paragraph in paragraphs:
        lines += [formula(paragraph) if is_formula(paragraph) else as_markdown(paragraph), ""]
    lines += ["## In short", "", *facts(page, measured.costs), ""]
    lines += ["## Options", "", *options(page, sections), ""]
    if page.recipes:
        lines += ["## Recipes", "", *recipe_lines(page, measured), ""]
    module = inspect.getmodule(page.cls)
    assert module is not None
    lines += [f"Code: `{module.__name__.replace('.', '/')}.py`, class `{page.cls.__name__}`."]
    return "\n".join(lines) + "\n"


def is_formula(paragraph: str) -> bool:
    """A paragraph of lines such as ``adapt:  ...``."""
    return re.match(r"(adapt|predict|meta-loss|loss|inner|outer|batch-loss|distance)\b[^.]*?:\s", paragraph) is not None


def formula(paragraph: str) -> str:
    """As a block in which columns stay."""
    return f"```text\n{paragraph}\n```"


def as_markdown(paragraph: str) -> str:
    """One paragraph, with code marked as Markdown does."""
    if paragraph.startswith(">>>"):
        return f"```python\n{paragraph}\n```"
    joined = re.sub(r"\s*\n\s*", " ", paragraph).replace("``", "`")
    return re.sub(r"^(When to choose it|Deviations):", r"**\1:**", joined)


def versus(page: Page, results: dict[str, Any]) -> str:
    """Whether it beats the baselines that keep everyone honest: a sentence for each recipe that was measured."""
    return " ".join(verdict(name, results[name]) for name in page.recipes if results.get(name, {}).get("versus"))


def verdict(name: str, entry: dict[str, Any]) -> str:
    """Whether a recipe beats each baseline, in one sentence."""
    worse = [which for which, d in entry["versus"].items() if not d["mean"] - d["ci95"] > 0]
    beaten = [which for which in entry["versus"] if which not in worse]
    plain = "the same network plainly pretrained"
    if entry["metric"] != "accuracy":
        plain = "one network for all tasks, fine-tuned"
    called = {"knn": "k-NN on pixels", "plain": plain}
    said = f"At the budget of `{name}` it " if load_recipe(name).train.steps else f"Without training (`{name}`) it "
    if not worse:
        return said + "beats " + " and ".join(called[which] for which in beaten) + ", in pairs."
    if beaten:
        said += "beats " + " and ".join(called[which] for which in beaten) + " but "
    return said + "does **not** beat " + " or ".join(called[which] for which in worse) + "."


def facts(page: Page, costs: dict[str, Any]) -> list[str]:
    """Traits as a list."""
    t = page.traits
    any_number = {
        "yes": "any number of classes",
        "with `head`": "any number of classes with another `head`",
        "up to `max-way`": "any number of classes up to `max-way`",
    }
    number = any_number.get(ways(page), "the number of outputs that it was built for")
    seen = (
        "the query set as a whole (**transductive**: printed beside every figure)"
        if t.transductive
        else ("the support and that query alone (inductive)")
    )
    if t.balanced_prior:
        seen += "; assumes as many queries of each class (**balanced prior**: printed too)"
    trained = " then ".join({"batches": "plain labelled batches", "episodes": "tasks"}[p] for p in t.phases)
    lines = [
        f"- Targets: {', '.join(targets(page))}; {number}. Shots may differ from class to class and task to task.",
        f"- A prediction depends on {seen}.",
        f"- Meta-trained on: {trained if t.trainable else 'nothing'}.",
        f"- More examples can join later (`adapt(more, state=state)`): {'yes' if t.incremental else 'adapt again'}.",
        f"- Order of the support: {'does not matter' if t.order_invariant else 'matters'}.",
    ]
    cost = costs.get(page.name)
    if cost:
        lines.append(
            "- Cost relative to ProtoNet, one thread (`benchmarks/learner_costs.py`): "
            + ("" if cost["train"] is None else f"training {cost['train']:g}, ")
            + f"meta-test {cost['test']:g}."
        )
    return lines


def options(page: Page, sections: str) -> list[str]:
    """The constructor's arguments that are options of a recipe."""
    described = dict(re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", sections.split("\nRaises:")[0], flags=re.MULTILINE))
    lines = ["| option | default | meaning |", "|---|---|---|"]
    for name in inspect.signature(page.cls).parameters:
        if name in PROVIDED["learner"]:
            continue
        assert takes(page.cls, name)
        start = default(page.cls, name)
        said = "none" if start is None else str(start).lower() if isinstance(start, bool) else start
        text = re.sub(r"\s*\n\s*", " ", described.get(name, "")).replace("``", "`").replace("|", "\\|")
        text = text.replace("`learners.parts.headed`", "[heads and parts](../own-network.md#heads-and-parts)")
        lines.append(f"| `{kebab(name)}` | `{said}` | {text} |")
    return lines if len(lines) > 2 else ["None."]


def recipe_lines(page: Page, measured: Measured) -> list[str]:
    """Each recipe, with what it gave and costs where that was measured."""
    lines = []
    for name in page.recipes:
        recipe = load_recipe(name)
        said = f"- `{name}`: {recipe.train.steps:,} steps"
        if recipe.pretrain is not None:
            said += f" after {recipe.pretrain.steps:,} on plain labelled batches"
        if name in measured.hours:
            said += f"; about {duration(measured.hours[name]['hours'])} on one core (`benchmarks/recipe_costs.py`)"
        entry = measured.results.get(name)
        if entry and recipe.train.steps and entry["processor_seconds"]:
            said += f", {max(1, round(entry['processor_seconds'] / 60))} min of one core"
        if entry:
            figure = (
                f"{100 * entry['mean']:.1f} ± {100 * entry['ci95']:.1f} %"
                if entry["metric"] == "accuracy"
                else f"squared error {entry['mean']:.3g} ± {entry['ci95']:.2g}"
            )
            declared = {"transductive": entry["transductive"], "balanced prior": entry["balanced_prior"]}
            marks = [mark for mark, holds in declared.items() if holds]
            cell = "5-way 1-shot, " if entry["metric"] == "accuracy" else ""
            said += (
                f"; {figure} ({cell}{entry['episodes']} episodes, seed {recipe.seed}{', ' if marks else ''}"
                f"{', '.join(marks)}; `benchmarks/learners.py`)"
            )
            if "three_queries" in entry:
                even, uneven = ((100 * m, 100 * c) for m, c in entry["three_queries"].values())
                said += (
                    f". With 3 queries a class {even[0]:.1f} ± {even[1]:.1f} %, with as many of Dirichlet(2) "
                    f"proportions {uneven[0]:.1f} ± {uneven[1]:.1f} %"
                )
        lines.append(said + ".")
        if name in measured.tables:
            lines += ["", *table_lines(measured.tables[name]), ""]
    return lines


def duration(hours: float) -> str:
    """In the unit that people would say it in."""
    if hours < 1:
        minutes = round(60 * hours)
        return f"{minutes} minutes" if minutes > 1 else "a minute"
    return f"{hours:.1f} hours" if hours < 10 else f"{hours:,.0f} hours"


def table_lines(entry: dict[str, Any]) -> list[str]:
    """Figures on real tables, as a table."""
    scale, unit, digits = (100, " in %", 1) if entry["metric"] == "accuracy" else (1, " over that of the mean", 3)
    where = {"accuracy": "iris, wine, breast cancer", "squared error": "diabetes"}[entry["metric"]]
    everyone = list(next(iter(entry["shots"].values())))
    labelled = "labelled rows a class" if entry["metric"] == "accuracy" else "labelled rows"
    lines = [
        f"Real tables ({where}; {entry['episodes']} tasks; `benchmarks/real_tables.py`): {entry['metric']}{unit}.",
        "",
        "| " + " | ".join([labelled, *("tabular-in-context" if who == "ours" else who for who in everyone)]) + " |",
        "|---" * (1 + len(everyone)) + "|",
    ]
    for shot, scores in entry["shots"].items():
        cells = [" ± ".join(f"{scale * scores[w][kind]:.{digits}f}" for kind in ("mean", "ci95")) for w in everyone]
        lines.append("| " + " | ".join([shot, *cells]) + " |")
    return lines


def versus_on_tables(page: Page, tables: dict[str, Any]) -> str:
    """Whether a learner of tables beats its rivals on real ones, in pairs, in one line a recipe."""
    said = []
    for name in page.recipes:
        if name not in tables:
            continue
        shots = tables[name]["shots"].values()
        rivals = [who for who in next(iter(shots)) if who != "ours"]
        beaten = [who for who in rivals if all(s[who]["ahead"] - s[who]["ahead_ci95"] > 0 for s in shots)]
        rest = [who for who in rivals if who not in beaten]
        verdicts = [f"beats {' and '.join(beaten)}"] if beaten else []
        verdicts += [f"does **not** always beat {' or '.join(rest)}"] if rest else []
        said.append(f"On real tables, in pairs, `{name}` " + ", but ".join(verdicts) + ".")
    return " ".join(said)


# --- all of them -------------------------------------------------------------------------------------


def table(found: list[Page], costs: dict[str, Any]) -> str:
    """All learners side by side, for docs/choosing.md."""
    lines = [
        "| learner | gradients at test time | ragged: any number of classes | regression | several labels | "
        "new classes without training | inductive | cost of a test | of a training step |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for page in found:
        t, cost = page.traits, costs.get(page.name, {})
        yes = {True: "yes", False: "no"}
        cells = [
            f"[{page.name}](learners/{page.name}.md)",
            yes[page.name in STEPPING],
            ways(page),
            yes["real" in targets(page)],
            yes["multi-label" in targets(page)],
            yes["classes" in targets(page) and page.name not in STEPPING],
            "yes" if not t.transductive else "no, balanced prior" if t.balanced_prior else "no",
            f"{cost['test']:g}" if cost else "",
            f"{cost['train']:g}" if cost and cost["train"] is not None else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def targets(page: Page) -> list[str]:
    """Kinds of target that it can be built for."""
    parameter = inspect.signature(page.cls, eval_str=True).parameters.get("target")
    named = set(get_args(parameter.annotation)) if parameter is not None else set()
    return [kind for kind in ("classes", "multi-label", "real") if kind in named or kind in page.traits.targets]


def ways(page: Page) -> str:
    """Whether tasks of any number of classes are learned, or by which option."""
    parameter = inspect.signature(page.cls, eval_str=True).parameters.get("head")
    if "max_way" in inspect.signature(page.cls).parameters:
        return "up to `max-way`"
    if page.traits.any_way:
        return "yes"
    if parameter is not None and "shared" in str(parameter.annotation):
        return "with `head`"
    return "no" if "classes" in targets(page) else "-"


def index(found: list[Page]) -> str:
    """docs/learners/README.md."""
    by_name = {page.name: page for page in found}
    lines = ["# Learners", "", "Generated by `python docs/make_pages.py`. [Which to choose](../choosing.md).", ""]
    for family, names in FAMILIES.items():
        lines += [f"## {family}", ""]
        for name in names.split():
            idea = (inspect.getdoc(by_name[name].cls) or "").split("\n")[0]
            lines.append(f"- [{name}]({name}.md): {idea}")
        lines.append("")
    return "\n".join(lines)


def everything() -> dict[Path, str]:
    """Path -> text of all that is generated."""
    found = pages()
    measured = Measured.read()
    texts = {DOCS / "learners" / f"{page.name}.md": written(page, measured) for page in found}
    texts[DOCS / "learners" / "README.md"] = index(found)
    choosing = DOCS / "choosing.md"
    begin, end = "<!-- table: generated by docs/make_pages.py -->\n", "\n<!-- end of table -->"
    before, _, rest = choosing.read_text(encoding="utf-8").partition(begin)
    texts[choosing] = before + begin + table(found, measured.costs) + end + rest.partition(end)[2]
    return texts


def main() -> int:
    """Write, or compare."""
    stale = [p for p, text in everything().items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        late = [f"{path.relative_to(DOCS)} is out of date: run python docs/make_pages.py\n" for path in stale]
        sys.stdout.writelines(late)
        return 1 if stale else 0
    for path, text in everything().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
