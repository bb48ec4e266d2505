"""The plain PyTorch way to score edits: a Python loop, one forward pass per candidate."""

import importlib.util
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
    from torch.nn import functional

    device = "cuda" if torch.cuda.is_available() and jax.default_backend() == "gpu" else "cpu"
    params = jax.tree.map(
        lambda leaf: torch.tensor(np.asarray(leaf)).to(device), task.subject.params
    )
    sets = task.roles["reward"]
    images = torch.tensor(np.asarray(sets.x)).to(device).permute(0, 3, 1, 2).contiguous()
    targets = torch.tensor(np.asarray(sets.targets)).to(device)
    weights = {name: torch.tensor(np.asarray(w)).to(device) for name, w in sets.weights.items()}
    original = env.default_params.original
    edit = jax.jit(jax.vmap(lambda action: env.edit(original, original, action)["fc2/kernel"]))
    edited = torch.tensor(np.asarray(edit(make_actions(env, candidates)))).to(device)
    start = float(env.default_params.score)
    convolutions = [
        (_kernel(layer["kernel"]), layer["bias"])
        for name, layer in sorted(params.items())
        if name.startswith("conv")
    ]

    def reward(kernel: torch.Tensor) -> torch.Tensor:
        x = images
        for convolution, bias in convolutions:
            extent = x.shape[-1]
            pad = max((-(-extent // 2) - 1) * 2 + 3 - extent, 0)  # as in "SAME"
            x = functional.pad(x, (pad // 2, pad - pad // 2) * 2)
            x = functional.relu(functional.conv2d(x, convolution, bias, stride=2))
        x = x.permute(0, 2, 3, 1).flatten(1)
        x = functional.relu(x @ params["fc1"]["kernel"] + params["fc1"]["bias"])
        x = functional.relu(x @ kernel + params["fc2"]["bias"])
        outputs = x @ params["head"]["kernel"] + params["head"]["bias"]
        correct = (outputs.argmax(1) == targets).float()
        accuracy = {name: (w * correct).sum() / w.sum() for name, w in weights.items()}
        return accuracy["retain"] + 1.0 - accuracy["forget"] - start

    def run() -> np.ndarray:
        with torch.inference_mode():
            return torch.stack([reward(kernel) for kernel in edited]).cpu().numpy()

    return Contestant(run, work=candidates)


def _kernel(dense: Any) -> Any:
    """``[9 · in, out]`` of a dense layer on patches as a convolution kernel ``[out, in, 3, 3]``."""
    return dense.reshape(3, 3, -1, dense.shape[-1]).permute(3, 2, 0, 1).contiguous()
