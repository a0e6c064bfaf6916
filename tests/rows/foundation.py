"""Rows of the learners that the others are measured by."""

from torch import nn

from quickstudy.learners import KNN, MAML, FineTune, Logistic, ProtoNet, Reptile, Scratch
from quickstudy.nets import Conv4
from tests.smalltasks import WAY, Picture, Row, mlp

ROWS = [
    Row("protonet", lambda: ProtoNet(mlp())),
    Row("protonet-batchnorm", lambda: ProtoNet(mlp("batch"))),
    Row("protonet-euclidean", lambda: ProtoNet(mlp(), distance="euclidean")),
    Row("protonet-cosine", lambda: ProtoNet(mlp(), distance="cosine", temperature=0.1)),
    Row("protonet-tasknorm", lambda: ProtoNet(mlp("task"))),
    Row("protonet-transductive", lambda: ProtoNet(mlp("transductive"))),
    Row("protonet-conv4", lambda: ProtoNet(nn.Sequential(Picture(), Conv4(1, 16, filters=4))), smooth=False),
    Row("maml", lambda: MAML(mlp(), WAY, inner_steps=2, inner_lr=0.3)),
    Row(
        "maml-test-steps", lambda: MAML(mlp(), WAY, inner_steps=1, inner_lr=0.3, test_inner_steps=3, test_inner_lr=0.1)
    ),
    Row("maml-tasknorm", lambda: MAML(mlp("task"), WAY, inner_steps=2, inner_lr=0.1)),
    Row("maml-transductive", lambda: MAML(mlp("transductive"), WAY, inner_steps=2, inner_lr=0.1, transductive=True)),
    Row("maml-first-order", lambda: MAML(mlp(), WAY, inner_steps=2, inner_lr=0.3, first_order=True)),
    Row("maml-shared", lambda: MAML(mlp(), head="shared", inner_steps=3, inner_lr=0.3)),
    Row("maml-proto", lambda: MAML(mlp("layer"), head="proto", inner_steps=2, inner_lr=0.05)),
    Row("maml-real", lambda: MAML(mlp(), 2, "real", inner_steps=2, inner_lr=0.1), target="real"),
    Row(
        "reptile",
        lambda: Reptile(mlp(), WAY, inner_steps=3, inner_batch=4, test_inner_steps=4, test_inner_batch=3),
        follows_query=False,
    ),
    Row(
        "reptile-sgd",
        lambda: Reptile(mlp(), WAY, optimizer="sgd", inner_lr=0.1, inner_batch=None, test_inner_batch=None),
        follows_query=False,
    ),
    Row(
        "reptile-published",
        lambda: Reptile(mlp("transductive"), WAY, moments="carried", inner_lr=0.01, inner_batch=4, test_inner_steps=3),
        tolerance=1e-8,
        reason="a bias before batch norm has a round-off gradient, which Adam divides by its 1e-8",
        follows_query=False,
        fewest=2,  # two rows, or rows of one number, are ±1 after batch norm whatever the weights: such gradients again
    ),
    Row(
        "reptile-shared",
        # Few steps: over the usual 50 of this length Adam carries the last bit of a weight beyond every tolerance.
        lambda: Reptile(
            mlp(), head="shared", inner_batch=None, test_inner_batch=None, test_inner_steps=5, inner_lr=0.05
        ),
        follows_query=False,
    ),
    Row("reptile-real", lambda: Reptile(mlp(), 2, "real", test_inner_steps=4), target="real", follows_query=False),
    Row("knn", KNN),
    Row("knn-3", lambda: KNN(mlp(), k=3)),
    Row("logistic", Logistic, tolerance=1e-3, reason="scikit-learn stops at a gradient of 1e-4"),
    Row("fine-tune", lambda: FineTune(mlp(), WAY, classes=9, steps=4), follows_query=False),
    Row("fine-tune-real", lambda: FineTune(mlp(), 2, "real", steps=4), target="real", follows_query=False),
    Row("scratch", lambda: Scratch(mlp(), WAY, steps=4, batch=4)),
]
