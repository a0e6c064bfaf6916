"""What a learner supposes, and how the queries were drawn, stand beside each number."""

from quickstudy.evaluate import Entry, cell_name, compare, render_report, render_table
from quickstudy.evaluate.wording import marks
from tests.evaluate.fakes import a_result

EVEN = a_result([0.5, 0.6], transductive=True, balanced_prior=True)
UNEVEN = a_result([0.4, 0.5], transductive=True, balanced_prior=True, source={"dirichlet": 2.0})


def test_the_balanced_prior_and_dirichlet_queries_are_printed() -> None:
    assert marks(EVEN) == ("transductive", "balanced prior")
    assert cell_name(UNEVEN) == "5-way 1-shot, Dirichlet(2) queries"
    table = compare([Entry("tim", {cell_name(result): result for result in (EVEN, UNEVEN)})])
    text = " ".join(render_table(table, 100).split())
    assert "5-way 1-shot 5-way 1-shot, Dirichlet(2) queries" in text
    assert "55.0 ± 9.8 45.0 ± 9.8 (transductive; balanced prior) (transductive; balanced prior)" in text


def test_the_report_explains_the_balanced_prior() -> None:
    said = "the learner supposes as many queries of each class"
    for result, there in ((EVEN, True), (a_result([0.5, 0.6]), False)):
        page = render_report(title="t", table=compare([Entry("tim", {cell_name(result): result})]))
        assert (said in page) is there
        assert ("balanced prior" in page) is there
