"""EfficientNet-lite0 (Tan and Le 2019, without squeeze-and-excitation), as a feature map that can be tapped.

Batch normalisation is folded into the convolutions. Imported by the kind `vision` alone, because it brings torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

# repeats, kernel, stride, expansion of the blocks: table 1 of the paper; lite keeps stem and head at full width
STAGES = ((1, 3, 1, 1), (2, 3, 2, 6), (2, 5, 2, 6), (3, 3, 2, 6), (3, 5, 1, 6), (4, 5, 2, 6), (1, 3, 1, 6))
EPS = 1e-3  # of batch normalisation
COARSE = 11  # the first block at a stride of 32


class Conv(nn.Module):
    """Convolution with normalisation folded in, padded as TensorFlow's "same" at any size; then a clamp, if any."""

    def __init__(
        self, weights: Mapping[str, Tensor], conv: str, norm: str, stride: int = 1, clamp: bool = True
    ) -> None:
        super().__init__()
        w = weights[f"{conv}.weight"]
        scale = weights[f"{norm}.weight"] / (weights[f"{norm}.running_var"] + EPS).sqrt()
        self.weight = nn.Parameter(w * scale[:, None, None, None], requires_grad=False)
        self.bias = nn.Parameter(weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale, requires_grad=False)
        self.kernel, self.stride, self.clamp = w.shape[2], stride, clamp
        self.groups = w.shape[0] if w.shape[1] == 1 else 1

    def forward(self, x: Tensor, floor: float = 0.0) -> Tensor:
        """x [n, c, h, w] -> [n, c', ceil(h / stride), ceil(w / stride)], between `floor` and 6 if clamped."""
        if self.kernel > 1:
            (top, bottom), (left, right) = (self._pad(n) for n in x.shape[2:])
            x = F.pad(x, (left, right, top, bottom))
        x = F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)
        return x.clamp(floor, 6.0) if self.clamp else x

    def _pad(self, n: int) -> tuple[int, int]:
        total = max((-(-n // self.stride) - 1) * self.stride + self.kernel - n, 0)
        return total // 2, total - total // 2


class Block(nn.Module):
    """MBConv: expand, convolve each channel, project without a clamp; plus its input where the shape allows."""

    def __init__(self, weights: Mapping[str, Tensor], name: str, stride: int, expand: bool) -> None:
        super().__init__()
        self.expand = Conv(weights, f"{name}._expand_conv", f"{name}._bn0") if expand else None
        self.depth = Conv(weights, f"{name}._depthwise_conv", f"{name}._bn1", stride)
        self.project = Conv(weights, f"{name}._project_conv", f"{name}._bn2", clamp=False)
        before = (self.expand or self.depth).weight.shape[1 if expand else 0]
        self.residual = stride == 1 and before == self.project.weight.shape[0]

    def forward(self, x: Tensor, floor: float = 0.0) -> Tensor:
        y = self.expand(x, floor) if self.expand else x
        y = self.project(self.depth(y, floor))
        return x + y if self.residual else y


class Lite0(nn.Module):
    """Pixels [n, 3, h, w], normalised, to the map of the last convolution [n, 1280, h / 32, w / 32], from 0 to 6."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.stem = Conv(weights, "_conv_stem", "_bn0", stride=2)
        blocks: list[Block] = []
        for repeats, _, stride, expansion in STAGES:
            for i in range(repeats):
                name = f"_blocks.{len(blocks)}"
                blocks.append(Block(weights, name, stride if i == 0 else 1, expansion > 1))
        self.blocks = nn.ModuleList(blocks)
        self.head = Conv(weights, "_conv_head", "_bn1")
        self.classifier = nn.Linear(*reversed(weights["_fc.weight"].shape))  # type: ignore[arg-type]
        self.classifier.load_state_dict({"weight": weights["_fc.weight"], "bias": weights["_fc.bias"]})

    def forward(self, x: Tensor, floor: float = 0.0) -> Tensor:
        """`floor`: what clamps before the stride of 32 let through at least; later ones and the head stay at 0."""
        x = self.stem(x, floor)
        for i, block in enumerate(self.blocks):
            x = block(x, floor if i < COARSE else 0.0)
        return self.head(x)
