"""Rows of the metric learners."""

from torch import nn

from quickstudy.learners.feat import FEAT
from quickstudy.learners.matching import MatchingNet
from quickstudy.learners.protonet import ProtoNet
from quickstudy.learners.relation import RelationNet
from quickstudy.learners.simplecnaps import SimpleCNAPS
from quickstudy.nets import Conv4
from tests.smalltasks import Picture, Row, features, mlp, smooth_conv


def conv4(**options: object) -> nn.Module:
    return nn.Sequential(Picture(), Conv4(1, 16, filters=4, **options))  # type: ignore[arg-type]


ROWS: list[Row] = [
    Row("protonet-learned-temperature", lambda: ProtoNet(mlp(), temperature=2.0, learn_temperature=True)),
    Row("matching", lambda: MatchingNet(mlp())),
    Row("matching-squared", lambda: MatchingNet(mlp("batch"), distance="squared", temperature=0.5)),
    Row("matching-tasknorm", lambda: MatchingNet(mlp("task"))),
    Row("matching-fce", lambda: MatchingNet(mlp(), fce=True, fce_steps=3)),
    Row("matching-fce-conv4", lambda: MatchingNet(conv4(), fce=True, out_features=4), smooth=False),
    Row("relation", lambda: RelationNet(mlp(), activation="tanh")),
    Row(
        "relation-cross-entropy-mean",
        lambda: RelationNet(mlp("batch"), activation="tanh", loss="cross-entropy", pooling="mean"),
    ),
    Row("relation-maps", lambda: RelationNet(conv4(halvings=2), map_shape=(4, 4, 4)), smooth=False),
    Row("relation-published", lambda: RelationNet(mlp("transductive"), activation="tanh", transductive=True)),
    Row("simple-cnaps", lambda: SimpleCNAPS(mlp("batch"), example=(features(),))),
    Row("simple-cnaps-no-norms", lambda: SimpleCNAPS(mlp(), example=(features(),))),
    Row("simple-cnaps-tasknorm", lambda: SimpleCNAPS(mlp("task"), example=(features(),))),
    Row("simple-cnaps-no-film", lambda: SimpleCNAPS(mlp("batch"), film=False, beta=0.1)),
    Row("simple-cnaps-transductive", lambda: SimpleCNAPS(mlp("transductive"), film=False, beta=0.1)),
    Row("feat", lambda: FEAT(mlp("batch"), temperature=2.0, contrast_temperature=0.5)),
    Row("feat-cosine", lambda: FEAT(mlp(), distance="cosine", temperature=0.1, contrast_temperature=0.2, dropout=0.0)),
    Row("protonet-tasknorm-smooth-conv", lambda: ProtoNet(smooth_conv())),
    Row("relation-tasknorm", lambda: RelationNet(mlp("task"), activation="tanh", norm="layer")),
]
