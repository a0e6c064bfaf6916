"""Meta-testing: how well a learner learns tasks that it has never seen, and how sure one can be of it.

    meta_test       learner, source -> Result: a figure an episode, its mean, two intervals
    paired          the difference of two results, episode by episode
    average_ranks   of learners over several data sets, as Meta-Dataset's leaderboards have them
    compare         learners beside baselines, as a table; render_table for the terminal
    write_report    one self-contained HTML file: table, training curves, a real episode, settings

Accuracies are fractions in Python and in files, percent wherever people read them.
"""

from quickstudy.callable_module import make_callable
from quickstudy.evaluate.averagerank import average_ranks, ranks
from quickstudy.evaluate.comparison import Cell, Comparison, Entry, Row, cell_name, compare
from quickstudy.evaluate.figures import Curve
from quickstudy.evaluate.intervals import class_ci95, episode_ci95
from quickstudy.evaluate.metatest import meta_test
from quickstudy.evaluate.paired import Paired, paired
from quickstudy.evaluate.picture import EpisodePicture, picture_episode
from quickstudy.evaluate.report import Section, render_report, write_report
from quickstudy.evaluate.result import Other, Result
from quickstudy.evaluate.table import render_table

__all__ = [
    "Cell",
    "Comparison",
    "Curve",
    "Entry",
    "EpisodePicture",
    "Other",
    "Paired",
    "Result",
    "Row",
    "Section",
    "average_ranks",
    "cell_name",
    "class_ci95",
    "compare",
    "episode_ci95",
    "meta_test",
    "paired",
    "picture_episode",
    "ranks",
    "render_report",
    "render_table",
    "write_report",
]

make_callable(__name__)
