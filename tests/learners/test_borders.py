"""What learners do at their borders: targets that they do not learn, states of other tasks, options that are none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.episode import Classes, EpisodeError, Examples, MultiLabel
from quickstudy.errors import InputError
from quickstudy.learners import KNN, AbstractLearner, Logistic, ProtoNet
from quickstudy.learners.alphatim import AlphaTIM
from quickstudy.learners.bdcspn import BDCSPN
from quickstudy.learners.boosting import Boosting
from quickstudy.learners.dkt import DKT
from quickstudy.learners.feat import FEAT
from quickstudy.learners.laplacianshot import LaplacianShot
from quickstudy.learners.lrd2 import LRD2
from quickstudy.learners.matching import MatchingNet
from quickstudy.learners.metabaseline import MetaBaseline
from quickstudy.learners.metaoptnet import MetaOptNet
from quickstudy.learners.ptmap import PTMAP
from quickstudy.learners.r2d2 import R2D2
from quickstudy.learners.relation import RelationNet
from quickstudy.learners.rfs import RFS
from quickstudy.learners.ridge import Ridge
from quickstudy.learners.simplecnaps import SimpleCNAPS
from quickstudy.learners.tabular import TabularInContext
from quickstudy.learners.tim import TIM
from quickstudy.learners.transductivefinetune import TransductiveFineTune
from tests.rows import closedform, foundation, metric, transductive
from tests.smalltasks import Row, assert_close, make, mlp, numbers, outputs, ragged, tasks
from tests.table import ROWS

OURS = {row.name: row for group in (metric, closedform, transductive) for row in group.ROWS}
OURS |= {row.name: row for row in foundation.ROWS if row.name.startswith(("protonet", "knn", "logistic"))}
NAN = float("nan")


def support_of(kind: str) -> Examples:
    """Three tasks of nine examples with targets of a kind."""
    if kind != "multi-label":
        return tasks(kind).support
    support = tasks().support
    assert support.y is not None
    return replace(support, y=F.one_hot(support.y, 3), target=MultiLabel(torch.full((3,), 3)))


@pytest.mark.parametrize("kind", ["classes", "multi-label", "real"])
@pytest.mark.parametrize("row", OURS.values(), ids=OURS)
def test_other_targets_are_refused_in_a_sentence(row: Row, kind: str) -> None:
    learner = make(row)
    if kind in learner.traits.targets:
        return
    found = "Real" if kind == "real" else "MultiLabel"
    with pytest.raises(InputError, match=rf"needs classes, the tasks have {found} targets") as e:
        learner.adapt(support_of(kind))
    assert not isinstance(e.value, EpisodeError) and "Use a learner of such targets" in str(e.value)


@pytest.mark.parametrize("row", OURS.values(), ids=OURS)
def test_a_state_of_other_tasks_is_refused(row: Row) -> None:
    """One task's state would be shared out among three in silence, or fail deep inside."""
    learner, episode = make(row), tasks(row.target)
    state = learner.adapt(episode.support.tasks(slice(0, 1)))
    with pytest.raises(InputError, match=r"Cannot predict: the state is of 1 tasks, the query of 3"):
        learner.predict(state, episode.query)
    with pytest.raises(InputError, match=r"Cannot adapt: the state is of 1 tasks, the support of 3"):
        learner.adapt(episode.support, state=state)


KNOWN_BY_TASK = (
    "protonet",
    "relation",
    "matching",
    "feat",
    "simple-cnaps",
    "meta-baseline",
    "simpleshot",
    "knn",
    "boosting",
    "mann",
    "cnp",
    *(row.name for row in transductive.ROWS),
)
"""Learners whose states say how many classes each task has; others know how many all have room for."""


def of_ways(query: Examples, way: Tensor) -> Examples:
    """The same queries, unlabelled, of a target that names other numbers of classes."""
    assert isinstance(query.target, Classes | MultiLabel)
    return replace(query.unlabelled(), target=type(query.target)(way))


@pytest.mark.parametrize("row", [row for row in ROWS if row.target != "real"], ids=lambda row: row.name)
def test_a_query_of_more_classes_than_the_state_knows_is_refused(row: Row) -> None:
    """Their answers would have too few columns, without a word."""
    learner, episode = make(row), tasks(row.target)
    state, query = learner.adapt(episode.support), episode.query
    room = learner.outputs if isinstance(learner, TabularInContext) else 3
    sentence = (
        rf"Cannot predict: the state knows (at most )?{room} classes in task 1, the query's target names {room + 1}"
    )
    with pytest.raises(InputError, match=sentence):
        learner.predict(state, of_ways(query, torch.tensor([3, room + 1, 3])))


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.target == "classes" and row.name.startswith(KNOWN_BY_TASK)],
    ids=lambda row: row.name,
)
def test_a_query_of_fewer_classes_than_the_state_knows_is_refused(row: Row) -> None:
    """The right answer may be of the class that is left out."""
    learner, episode = make(row), ragged()  # of 3, 2 and 3 classes
    state = learner.adapt(episode.support)
    assert torch.isfinite(learner.predict(state, episode.query.unlabelled())[2]).all()
    with pytest.raises(InputError, match=r"the state knows 3 classes in task 2, the query's target names 2\. Give the"):
        learner.predict(state, of_ways(episode.query, torch.tensor([3, 2, 2])))
    with pytest.raises(InputError, match=r"the state knows 2 classes in task 1, the query's target names 3\. Give the"):
        learner.predict(state, of_ways(episode.query, torch.tensor([3, 3, 3])))


ADD_NOTHING: list[Callable[[nn.Module], AbstractLearner]] = [ProtoNet, MatchingNet, RelationNet, FEAT, MetaBaseline]


@pytest.mark.parametrize("norm", ["task", "transductive"])
@pytest.mark.parametrize("build", ADD_NOTHING)
def test_nothing_is_added_where_features_know_the_whole_support(
    build: Callable[[nn.Module], AbstractLearner], norm: str
) -> None:
    if build is RelationNet and norm == "transductive":
        learner = make(OURS["relation-published"])
    else:
        learner = build(mlp(norm)).double().eval()
    support = tasks().support
    state = learner.adapt(support)
    assert not learner.traits.incremental
    with pytest.raises(InputError, match=r"Cannot add to a state: this network's norms look at all examples"):
        learner.adapt(support, state=state)


KNOWS_ALL_ROWS = ("task", "transductive", "published")
"""Norms over the support see its unlabelled rows too: those are inputs as others are."""


@pytest.mark.parametrize(
    "row",
    [row for row in OURS.values() if not any(word in row.name for word in KNOWS_ALL_ROWS)],
    ids=lambda row: row.name,
)
def test_support_rows_without_a_label_count_for_nothing(row: Row) -> None:
    if row.target != "classes":
        return
    learner, episode = make(row), tasks()
    assert isinstance(episode.support.x, Tensor) and episode.support.y is not None
    x = torch.cat([episode.support.x, 5 * numbers("stray rows", 3, 2, 4)], 1)
    y = torch.cat([episode.support.y, torch.full((3, 2), -1)], 1)
    order = torch.tensor([9, 0, 1, 2, 3, 4, 10, 5, 6, 7, 8])
    more = replace(episode, support=replace(episode.support, x=x[:, order], y=y[:, order]))
    if isinstance(learner, SimpleCNAPS) and learner.film is not None:
        with torch.no_grad():
            for factor in learner.generator.factors.values():
                factor.mul_(300)  # as after training: else tasks hardly change the network
    assert_close(outputs(learner, more), outputs(learner, episode))


WRONG: list[tuple[Callable[[Any], object], str]] = [
    (lambda net: ProtoNet(net, distance="manhattan"), r"ProtoNet has no distance 'manhattan'\. Use one of squared, eu"),  # type: ignore[arg-type]
    (lambda net: FEAT(net, distance="l1"), r"FEAT has no distance 'l1'"),  # type: ignore[arg-type]
    (lambda net: FEAT(net, balance=NAN), r"FEAT needs a balance of at least 0"),
    (lambda net: MatchingNet(net, distance="euclidean"), r"MatchingNet has no distance 'euclidean'"),  # type: ignore[arg-type]
    (lambda net: RelationNet(net, loss="xx"), r"RelationNet has no loss 'xx'"),  # type: ignore[arg-type]
    (lambda net: RelationNet(net, pooling="max"), r"RelationNet has no pooling 'max'"),  # type: ignore[arg-type]
    (lambda net: RelationNet(net, activation="elu"), r"RelationNet has no activation 'elu'"),  # type: ignore[arg-type]
    (lambda net: SimpleCNAPS(net, film=False, film_penalty=NAN), r"film_penalty of at least 0 and at least 1 of"),
    (lambda net: SimpleCNAPS(net, film=False, beta=float("inf")), r"SimpleCNAPS needs beta above 0"),
    (lambda net: MetaOptNet(net, head="xx"), r"MetaOptNet has no head 'xx'\. Use one of svm, ridge"),  # type: ignore[arg-type]
    (lambda net: MetaOptNet(net, scale=NAN), r"MetaOptNet needs a finite scale, received nan"),
    (lambda net: MetaOptNet(net, smoothing=NAN), r"smoothing from 0 to below 1"),
    (lambda net: LRD2(net, form="xx"), r"LRD2 has no form 'xx'"),  # type: ignore[arg-type]
    (lambda net: R2D2(net, penalty=float("inf")), r"R2D2 needs a penalty above 0, received inf"),
    (lambda net: R2D2(net, scale=NAN), r"R2D2 needs a finite scale and bias, received nan and 0\.0"),
    (lambda net: DKT(net, "xx"), r"DKT has no target 'xx'"),  # type: ignore[arg-type]
    (lambda net: DKT(net, kernel="xx"), r"DKT has no kernel 'xx'\. Use one of linear, cosine, rbf, spectral"),  # type: ignore[arg-type]
    (lambda net: DKT(net, noise=NAN), r"DKT needs a noise above"),
    (lambda net: Ridge(net, penalty=NAN), r"Ridge regression needs a penalty above 0, received nan"),
    (lambda net: Boosting(net, rate=NAN), r"a rate above 0"),
    (lambda net: Logistic(net, c=NAN), r"Logistic regression needs c above 0, received nan"),
    (lambda net: Logistic(net, max_iter=0), r"at least 1 iteration, received max_iter=0"),
    (lambda net: RFS(net, temperature=float("inf")), r"a temperature above 0"),
    (lambda net: KNN(net, k=0), r"k-NN needs k of at least 1"),
    (lambda net: LaplacianShot(net, smoothness=NAN), r"LaplacianShot needs a smoothness, .* received nan"),
    (lambda net: LaplacianShot(net, transform="zz"), r"has no transform 'zz'\. Use one of none, l2, cl2n"),  # type: ignore[arg-type]
    (lambda net: LaplacianShot(net, smoothing=NAN), r"received smoothing=nan"),
    (lambda net: BDCSPN(net, sharpness=NAN), r"BD-CSPN needs a sharpness of at least 0 .* received nan and 10"),
    (lambda net: BDCSPN(net, classifier="xx"), r"has no classifier 'xx'\. Use one of linear, cosine"),  # type: ignore[arg-type]
    (lambda net: TIM(net, solver="xx"), r"TIM has no solver 'xx'\. Use one of gd, adm"),  # type: ignore[arg-type]
    (lambda net: TIM(net, lr=-1.0), r"TIM needs a rate lr of at least 0, received -1"),
    (
        lambda net: TIM(net, solver="adm", conditional_weight=-1),
        r"conditional_weight must be at least 0, received 0\.1 a",
    ),
    (lambda net: TIM(net, temperature=NAN), r"temperature and alpha must be above 0, received nan"),
    (lambda net: AlphaTIM(net, lr=NAN), r"α-TIM needs a rate lr of at least 0, received nan"),
    (lambda net: AlphaTIM(net, support_weight=NAN), r"support_weight and .* at least 0, received nan and 1"),
    (lambda net: PTMAP(net, step=50.0), r"a step from 0 to 1, received 0\.5, 10\.0, 20 and 50"),
    (lambda net: TransductiveFineTune(net, entropy_weight=NAN), r"at least 0, received 25, 5e-05 and nan"),
    (lambda net: TransductiveFineTune(net, optimizer="xx"), r"has no optimizer 'xx'"),  # type: ignore[arg-type]
    (lambda net: TransductiveFineTune(net, smoothing=1.0), r"received smoothing=1\.0"),
]


@pytest.mark.parametrize(("build", "sentence"), WRONG, ids=[sentence[:30] for _, sentence in WRONG])
def test_options_that_do_not_exist_are_refused(build: Callable[[Any], object], sentence: str) -> None:
    """A name that is none of the choices would pass for the last of them; NaN passes every comparison the wrong way."""
    with pytest.raises(InputError, match=sentence):
        build(mlp())


def test_a_classifier_needs_the_size_of_its_features() -> None:
    """Nobody is told to pass classes= who has passed it."""
    bare = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(InputError, match=r"Cannot build a classifier on Sequential: its feature size is not known"):
        SimpleCNAPS(bare, film=False, classes=9)
    assert SimpleCNAPS(bare, film=False, classes=9, out_features=3).classifier.layer is not None
    with pytest.raises(InputError, match=r"Pass classes="):
        SimpleCNAPS(bare, film=False).batch_loss(tasks(n_task=1).support)


def test_logistic_regression_that_does_not_converge_names_the_task() -> None:
    support = tasks(shot=6).support
    assert isinstance(support.x, Tensor)
    easy = torch.arange(3) < 2
    x = torch.where(easy[:, None, None], 0.0, 30 * support.x)
    with pytest.raises(InputError, match=r"The logistic regression of task 2 did not converge in 3 iterations"):
        Logistic(c=100.0, max_iter=3).adapt(replace(support, x=x))


def test_boosting_answers_no_query_that_is_not_a_number() -> None:
    learner, episode = Boosting(trees=2), tasks()
    assert isinstance(episode.query.x, Tensor)
    x = episode.query.x.clone()
    x[1, 4, 0] = NAN
    state = learner.adapt(episode.support)
    with pytest.raises(InputError, match=r"query\.x: expected finite numbers, found NaN .* in task 1, row 4"):
        learner.predict(state, replace(episode.query, x=x))
    mask = torch.ones(3, 12, dtype=torch.bool)
    mask[1, 4] = False
    assert torch.isfinite(learner.predict(state, replace(episode.query, x=x, mask=mask))).all()
    over = Boosting(Overflows(), trees=2)
    state = over.adapt(episode.support)
    with pytest.raises(InputError, match=r"Boosting cannot answer query 4 of task 1: its features hold NaN"):
        over.predict(state, replace(episode.query, x=torch.where(x.isnan(), 9.0, x)))


class Overflows(nn.Module):
    """A network that no input of 9 gets through."""

    out_features = 4

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 8, torch.inf, x)
