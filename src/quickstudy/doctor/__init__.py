"""Floor 5: a self-test for learners, networks and task sources of one's own.

    quickstudy.doctor(learner, source)                             a table of checks, each with what to do
    test_laws = quickstudy.doctor.laws(lambda: MyLearner(...))     the same as a test suite, in one line

A check looks at one learner on its own data and explains; a law is held on small tasks and passes or fails.
"""

from quickstudy.callable_module import make_callable
from quickstudy.doctor.examine import CHECKS
from quickstudy.doctor.law import LAWS, Law, Subject
from quickstudy.doctor.report import Finding, Report
from quickstudy.doctor.smalltasks import small_tasks
from quickstudy.doctor.suite import laws

__all__ = ["CHECKS", "LAWS", "Finding", "Law", "Report", "Subject", "laws", "small_tasks"]

make_callable(__name__)
