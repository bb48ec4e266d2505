"""Small networks of PyTorch, each with random weights and statistics, and an example for it."""

import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch warns while it is imported
    torch = pytest.importorskip("torch")

from torch import nn
from torch.nn import functional


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Basic(nn.Module):
    """Two convolutions beside a shortcut, as in residual networks."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(x + shortcut)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Basic(4, 4, 1), Basic(4, 6, 2))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = self.maxpool(functional.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.layer1(x)), 1))


class CNN(nn.Module):
    """Batch normalization, dropout and the poolings; ``fc2`` as in Malik 2026."""

    def __init__(self, channels=1, classes=3):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.dropout = nn.Dropout(0.5)
        self.fc1 = nn.Linear(32, 10)
        self.fc2 = nn.Linear(10, 6)
        self.head = nn.Linear(6, classes)
        self.unused = nn.Linear(2, 2)
        self.register_buffer("version", torch.tensor(7))

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.bn1(self.conv1(x))), 2)
        x = functional.avg_pool2d(functional.relu(self.conv2(x)), 2, 1, 1)
        x = functional.adaptive_avg_pool2d(x, 2)
        x = functional.relu(self.fc1(self.dropout(x.view(x.size(0), -1))))
        return self.head(functional.relu(self.fc2(x)))


class VisionTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        self.norm1 = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
        self.norm2 = nn.LayerNorm(8)
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Dropout(0.1), nn.Linear(12, 8))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        h = self.norm1(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return self.head((x + self.mlp(self.norm2(x)))[:, 0])


class Tied(nn.Module):
    """Words in and out through one table; one constant of its own, and one buffer left unsaved."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(9, 6)
        self.first = nn.Linear(6, 6)
        self.again = self.first
        self.out = nn.Linear(6, 9)
        self.out.weight = self.words.weight
        self.register_buffer("places", torch.arange(5) * 2 % 5)
        self.register_buffer("scale", torch.rand(6), persistent=False)

    def forward(self, tokens):
        x = self.words(tokens[:, self.places]).mean(1) * self.scale
        return self.out(self.again(torch.tanh(self.first(x)))) + torch.arange(9) * torch.tensor(0.1)


def _convolutions():
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=(2, 1), dilation=(1, 2), padding=(2, 1)),
        nn.GroupNorm(2, 6),
        nn.SiLU(),
        nn.Conv2d(6, 6, 3, groups=6, padding="same"),
        nn.Hardswish(),
        nn.Conv2d(6, 8, 2, groups=2, bias=False),
        nn.InstanceNorm2d(8, affine=True),
        nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        nn.PReLU(6),
        nn.Conv2d(6, 5, 3, padding=1, padding_mode="circular"),
        nn.ReflectionPad2d(1),
        nn.Conv2d(5, 5, 1),
        nn.AdaptiveMaxPool2d(3),
        nn.Flatten(),
        nn.Linear(45, 5),
    )


def _mlp():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(12, 8), nn.LayerNorm(8), nn.ELU(), nn.Linear(8, 3), nn.Hardtanh()
    )


def _series():
    return nn.Sequential(
        nn.Conv1d(3, 6, 4, stride=2, padding=1),
        nn.BatchNorm1d(6),
        nn.LeakyReLU(0.2),
        nn.MaxPool1d(3, 2, 1, ceil_mode=True),
        nn.AvgPool1d(2),
        nn.Flatten(),
        nn.LazyLinear(4),
    )


NETWORKS = {
    "mlp": (_mlp, (3, 4)),
    "cnn": (CNN, (1, 8, 8)),
    "residual": (Residual, (3, 24, 24)),
    "transformer": (VisionTransformer, (3, 8, 8)),
    "encoder": (lambda: nn.TransformerEncoderLayer(6, 2, 12, batch_first=True), (5, 6)),
    "convolutions": (_convolutions, (4, 9, 10)),
    "series": (_series, (3, 20)),
    "tied": (Tied, (5,)),
}
"""Networks with the shape of one example."""


def inputs(name, count, seed=0):
    """Random examples, as torch reads them."""
    rng, shape = np.random.default_rng(seed), NETWORKS[name][1]
    if name == "tied":
        return rng.integers(0, 9, (count, *shape))
    return rng.normal(size=(count, *shape)).astype(np.float32)


def build(name, seed=0):
    """A network of `NETWORKS` in evaluation mode; its statistics are random too."""
    torch.manual_seed(seed)
    module = NETWORKS[name][0]()
    outputs(module, inputs(name, 2))
    return randomized(module)


def randomized(module):
    """The module with other statistics, norms and biases than those that torch starts with."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        for name, buffer in module.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)
    return module.eval()


def outputs(module, x):
    """What torch computes, in evaluation mode."""
    with torch.no_grad():
        return module.eval()(torch.as_tensor(x)).numpy()
