"""Pages over one or several runs, and runs beside each other.

report          runs -> one self-contained HTML
compare_runs    runs -> what differs in their recipes, and their results, paired where the tasks are the same
"""

from quickstudy.reports.comparing import RunsCompared, compare_runs
from quickstudy.reports.page import report

__all__ = ["RunsCompared", "compare_runs", "report"]
