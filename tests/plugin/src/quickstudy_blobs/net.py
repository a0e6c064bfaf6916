"""A network."""

from torch import Tensor, nn


class LinearNet(nn.Module):
    """One linear layer.

    Args:
        in_features: size of an example; quickstudy fills it in.
        out_features: size of the features.
    """

    def __init__(self, in_features: int, out_features: int = 8) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)
        self.out_features = out_features

    def forward(self, x: Tensor) -> Tensor:
        """``[N, in_features] -> [N, out_features]``."""
        out: Tensor = self.linear(x)
        return out
