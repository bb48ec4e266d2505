"""The plain PyTorch way to score edits: a Python loop, one forward pass per candidate."""

import importlib.util
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from benchmarks.timing import Contestant
from benchmarks.workload import make_actions
from modeledit_jax.envs.world import World
from modeledit_jax.tasks.task import Task


def available() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def torch_loop(env: World, task: Task, candidates: int) -> Contestant:
    """The same CNN, images, edited weights and reward as `workload.full_forward`, in PyTorch.

    Convolutions are PyTorch's own. The reward is the change of ``utility + forgetting``.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"

    def to_torch(values: Any) -> torch.Tensor:
        return torch.tensor(np.asarray(values)).to(device)

    params = jax.tree.map(to_torch, task.subject.params)
    sets = task.roles["reward"]
    images = to_torch(sets.x).permute(0, 3, 1, 2).contiguous()
    targets = to_torch(sets.targets)
    weights = {name: to_torch(w) for name, w in sets.weights.items()}
    original = env.default_params.original
    edit = jax.jit(jax.vmap(lambda action: env.edit(original, original, action)["fc2/kernel"]))
    edited = to_torch(edit(make_actions(env, candidates)))
    start = float(env.default_params.score)
    forward = _network(params)

    def reward(kernel: torch.Tensor) -> torch.Tensor:
        correct = (forward(images, kernel).argmax(1) == targets).float()
        accuracy = {name: (w * correct).sum() / w.sum() for name, w in weights.items()}
        return accuracy["retain"] + 1.0 - accuracy["forget"] - start

    def run() -> np.ndarray:
        with torch.inference_mode():
            return torch.stack([reward(kernel) for kernel in edited]).cpu().numpy()

    return Contestant(run, work=candidates)


def _network(params: Any) -> Callable[[Any, Any], Any]:
    """The CNN as a function of images ``[N, C, H, W]`` and the kernel of ``fc2``."""
    from torch.nn import functional

    convolutions = [
        (_kernel(layer["kernel"]), layer["bias"])
        for name, layer in sorted(params.items())
        if name.startswith("conv")
    ]

    def forward(x: Any, kernel: Any) -> Any:
        for convolution, bias in convolutions:
            extent = x.shape[-1]
            pad = max((-(-extent // 2) - 1) * 2 + 3 - extent, 0)  # as in "SAME"
            x = functional.pad(x, (pad // 2, pad - pad // 2) * 2)
            x = functional.relu(functional.conv2d(x, convolution, bias, stride=2))
        x = x.permute(0, 2, 3, 1).flatten(1)
        x = functional.relu(x @ params["fc1"]["kernel"] + params["fc1"]["bias"])
        x = functional.relu(x @ kernel + params["fc2"]["bias"])
        return x @ params["head"]["kernel"] + params["head"]["bias"]

    return forward


def _kernel(dense: Any) -> Any:
    """``[9 · in, out]`` of a dense layer on patches as a convolution kernel ``[out, in, 3, 3]``."""
    return dense.reshape(3, 3, -1, dense.shape[-1]).permute(3, 2, 0, 1).contiguous()
