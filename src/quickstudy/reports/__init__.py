"""Pages over one or several runs, and runs beside each other.

write_report_of     runs -> one self-contained HTML
compare_runs        runs -> what differs in their recipes, and their results, paired where the tasks are the same
"""

from quickstudy.reports.comparing import RunsCompared, compare_runs

__all__ = ["RunsCompared", "compare_runs"]
