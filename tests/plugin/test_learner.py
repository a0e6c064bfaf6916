"""A stranger's own test of a stranger's own learner, in one line: every law that its traits promise."""

from quickstudy_blobs.data import BlobTasks
from quickstudy_blobs.learner import SoftNeighbours
from quickstudy_blobs.net import LinearNet

import quickstudy

test_laws = quickstudy.doctor.laws(lambda: SoftNeighbours(LinearNet(4)))

# The same on the package's own tasks.
tasks = BlobTasks("train", 3, 2, 4, 0, 0.5)
test_laws_on_blobs = quickstudy.doctor.laws(lambda: SoftNeighbours(LinearNet(6)), tasks=tasks)
