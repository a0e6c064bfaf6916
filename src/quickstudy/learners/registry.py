"""Learners by name."""

from quickstudy.registry import Registry

learners = Registry(
    "learner",
    "quickstudy.learners",
    {
        "fine-tune": "quickstudy.learners.finetune:FineTune",
        "knn": "quickstudy.learners.knn:KNN",
        "logistic": "quickstudy.learners.logistic:Logistic",
        "maml": "quickstudy.learners.maml:MAML",
        "protonet": "quickstudy.learners.protonet:ProtoNet",
        "reptile": "quickstudy.learners.reptile:Reptile",
        "scratch": "quickstudy.learners.scratch:Scratch",
    },
)
