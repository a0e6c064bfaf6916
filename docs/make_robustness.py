"""Write docs/robustness.md from docs/robustness.json, which benchmarks/robustness.py measures.

python docs/make_robustness.py            writes
python docs/make_robustness.py --check    exits with 1 where the page is not what this would write
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from quickstudy.evaluate.robustness import Robustness, robustness_section
from quickstudy.evaluate.wording import count

DOCS = Path(__file__).parent
PAGE, FIGURES = DOCS / "robustness.md", DOCS / "robustness.json"
HEAD = """# Robustness

One mean accuracy says little of where a learner fails. This measures that, for any run whose tasks tell classes
apart:

    quickstudy evaluate RUN --robustness

It tests as usual, then asks the first 300 of the episodes (or all, where `--episodes` says fewer) again with
something changed, prints the figures, keeps them in `RUN/evaluations/robustness/`, and shows them in
`RUN/report.html`, with curves over shots and ways. `quickstudy report RUN RUN ...` sets those of several runs beside
each other. In Python: `quickstudy.evaluate(run, robustness=True)`. That is some two dozen tests in place of one: try
`--episodes 40` first, of which less can be told.

Those from the 5th percentile to the worst of n classes need no further test: every `quickstudy evaluate` measures them
on all of its episodes and keeps them there, too. `quickstudy reproduce NAME --robustness` measures all of them beside a
published protocol, `python benchmarks/results.py FIELD --robustness` those of a field's whole comparison, and rows of
the [leaderboard](leaderboard.md) have what was measured.

What is changed is a function of the tasks' seed and number, so that all learners see the same. Where the tasks stay
the same but for the change, the difference to the same episodes unchanged is taken one by one; the unchanged ones may
be more, as each figure says how many episodes it is of (n). Every figure has a 95 % interval over episodes *of these
classes*; where all tasks are of the same few rows, such as the patients of one hospital, it says nothing of other
rows.

- **unchanged tasks**: mean accuracy of the episodes.
- **5th percentile of episodes**: one episode in twenty is worse. The interval lies between two of the sorted episodes
  and supposes nothing of their distribution; of fewer than 72 episodes it begins at 0, as all of them may lie above.
- **ECE**: expected calibration error over all queries, 15 bins of equal width; interval by a bootstrap over episodes.
- **worst class of each task**: mean over episodes of the accuracy on the class that is worst there.
- **worst of n classes**: of the classes that occur in 20 episodes or more. The smallest of many means is too small,
  so the worst is chosen by half of its episodes and measured in the other half, both ways round. Where no two classes
  occur so often, on tasks of fewer classes, drawn at random.
- **unknown classes**: in each task, the area under the ROC curve of its own queries against those of classes that it
  does not have (queries of another task); 0.5 is guessing. By the largest probability; and, where a network makes the
  same features in every task (or there are no weights at all), by the distance to the nearest example of the support.
- **wrong labels**: pairs of examples of two classes have their labels swapped, so that no class loses one; at the
  run's shots, and at 5 shots, where others can outvote them.
- **queries turned, pixel noise**: by 15, 90 and 180 degrees; normal noise of that standard deviation, white being 1.
  The support stays as it is.
- **queries by other people**: nobody who drew a query of a task drew any of its support. Drawing k of all characters
  of an alphabet is of one person in Omniglot; across alphabets nobody knows.
- **uneven queries**, of transductive learners: the classes' shares of the queries from a Dirichlet distribution of
  concentration 2 (Veilleux et al. 2021), beside as many even ones in tasks of the same classes. All may be of one
  class, so there are fewer queries than usual where classes are small (3 a class on average in 5-way Omniglot).
- **shots, ways**: other tasks, so not paired. 1 to 20 shots (19 of Omniglot, which has 20 drawings of a character),
  with fewer queries where classes have no more; 2 to 100 ways, with at most 5 queries a class and fewer episodes of
  many ways.

What a run cannot be asked is named with the reason, such as ways that its head does not have. Tasks of numbers and of
control have none of these figures, and are refused.

## What they do not show

A quarter turn makes another character of many: Omniglot's turned characters are classes of their own in training, so
that a learner was taught that they differ. The figure says how far queries may turn, not that they should be
answered. Wrong labels hit every class alike, which mistakes of people do not.

"""


def lines(found: Mapping[str, Robustness], machines: set[str]) -> Iterator[str]:
    """The table of all that were measured."""
    section = robustness_section(found)
    yield "## Measured"
    yield ""
    yield f"| | {' | '.join(found)} |"
    yield "|---" * (len(found) + 1) + "|"
    for name, *cells in section.rows:
        yield f"| {name} | {' | '.join(cell or 'not asked' for cell in cells)} |"
    yield ""
    for reason in section.text[1:]:
        yield f"- {reason}"
    yield ""
    numbers = " and ".join(sorted({count(one.episodes) for one in found.values()}))
    seeds = ", ".join(sorted({str(one.source["seed"]) for one in found.values()}))
    tasks = "; ".join(sorted({_tasks(one) for one in found.values()}))
    command = f"python benchmarks/robustness.py --episodes {numbers}"
    told = (
        f"{numbers} episodes of {tasks}",
        f"tasks of seed {seeds}, runs of seed 0",
        f"`{command}`",
        *sorted(machines),
    )
    yield "; ".join(told) + "."


def _tasks(one: Robustness) -> str:
    source = one.source
    return f"{source['data']}, {source['split']}, {source['way']}-way {source['shot']}-shot"


def page(figures: Path) -> str:
    """The whole page."""
    document = json.loads(figures.read_bytes())
    machines = {about.pop("machine") for about in document.values()}
    found = {name: Robustness.from_json(json.dumps(about), name) for name, about in document.items()}
    return HEAD + "\n".join(lines(found, machines)) + "\n"


def main() -> None:
    """Write, or check."""
    made = page(FIGURES)
    if "--check" in sys.argv:
        sys.exit(0 if PAGE.exists() and PAGE.read_text() == made else f"{PAGE.name} is not what {FIGURES.name} says.")
    PAGE.write_text(made)


if __name__ == "__main__":
    main()
