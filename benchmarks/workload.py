"""What the throughput benchmark runs: one editing task and the contestants that score its edits.

Every contestant gives the same rewards for the same actions. Images and weights are random, since
time does not depend on their values.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from benchmarks.timing import Contestant
from modeledit_jax.agents import ppo
from modeledit_jax.data.images.splits import Splits
from modeledit_jax.editors.search.evolution import evaluate_population
from modeledit_jax.editors.search.ppo import PPO, editing_config
from modeledit_jax.edits.site import set_leaves
from modeledit_jax.envs.params import WorldParams
from modeledit_jax.envs.world import World
from modeledit_jax.subjects.image_classifiers import unfold
from modeledit_jax.subjects.subject import Subject, flax_apply
from modeledit_jax.tasks.reward import EditedWeights, SetOutputs
from modeledit_jax.tasks.task import Task
from modeledit_jax.tasks.unlearning import forget_classes, unlearning_reward
from modeledit_jax.types import Array, Examples, Params

CLASSES = 10
FORGOTTEN_CLASS = 7


class DeepCNN(nn.Module):
    """`CNN` with ``depth`` convolutions instead of one at each of its two resolutions.

    ``depth=1`` is `CNN` itself. The layers after the convolutions, and with them the suffix of an
    edit of ``fc2``, do not depend on ``depth``.
    """

    depth: int = 1
    channels: tuple[int, ...] = (16, 32)
    hidden: tuple[int, ...] = (128, 32)

    @nn.compact
    def __call__(self, x: Float[Array, "n height width channels"]) -> Float[Array, "n c"]:
        widths = [width for width in self.channels for _ in range(self.depth)]
        for index, width in enumerate(widths):
            stride = 2 if index % self.depth == 0 else 1
            patches = unfold(x, size=3, stride=stride)
            x = nn.relu(nn.Dense(width, name=f"conv{index + 1}")(patches))
        x = x.reshape((x.shape[0], -1))
        for index, width in enumerate(self.hidden, start=1):
            x = nn.relu(nn.Dense(width, name=f"fc{index}")(x))
        return nn.Dense(CLASSES, name="head")(x)


def make_task(module: nn.Module, examples: int, reward: str = "accuracy", seed: int = 0) -> Task:
    """The task to forget one of ten classes, with random images ``[examples, 28, 28, 1]``.

    Args:
      module: of the subject, with random weights.
      examples: of the reward.
      reward: kind of `unlearning_reward`.
      seed: of images and weights.
    """
    splits = _splits(examples, seed)
    subject = _subject(module, splits, seed)
    return forget_classes(subject, splits, FORGOTTEN_CLASS, reward=unlearning_reward(reward))


def make_tasks(module: nn.Module, examples: int, number: int, reward: str) -> list[Task]:
    """Tasks to forget each of ten classes of a network, then of the next, on the same images."""
    splits = _splits(examples, 0)
    found: list[Task] = []
    for seed in range(-(-number // CLASSES)):
        subject = _subject(module, splits, seed)
        found += [
            forget_classes(subject, splits, index, reward=unlearning_reward(reward))
            for index in range(CLASSES)
        ]
    return found[:number]


def _splits(examples: int, seed: int) -> Splits:
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((examples, 28, 28, 1), dtype=np.float32)
    batch = Examples(images, np.arange(examples, dtype=np.int32) % CLASSES)
    return Splits(train=batch, reward=batch, select=batch, test=batch, num_classes=CLASSES)


def _subject(module: nn.Module, splits: Splits, seed: int) -> Subject:
    key, images = jax.random.key(seed), jnp.asarray(splits.reward.x[:1])
    return Subject(module.init(key, images)["params"], flax_apply(module))


def make_actions(env: World, number: int, seed: int = 1) -> Float[Array, "e a"]:
    """Random actions of the size that searches use."""
    return 0.3 * jax.random.normal(jax.random.key(seed), (number, env.edit.action_size))


def evaluation_flops(task: Task) -> float:
    """Floating-point operations of one evaluation: the two matrix products from ``fc2`` on."""
    params = task.subject.params
    weights = params["fc2"]["kernel"].size + params["head"]["kernel"].size
    return 2.0 * len(task.roles["reward"].targets) * weights


def environment(env: World, candidates: int, populations: int = 1) -> Contestant:
    """The environment's step for every candidate, one population after another as in a search.

    ``run`` returns rewards ``[populations, candidates]``.
    """
    actions = make_actions(env, populations * candidates)
    actions = actions.reshape(populations, candidates, -1)

    @jax.jit
    def rewards(actions: Array, params: WorldParams) -> Array:
        return jax.lax.map(lambda some: evaluate_population(env, params, some)[0], actions)

    run = partial(rewards, actions, env.default_params)
    return Contestant(run, work=populations * candidates)


def stacked_networks(env: World, task: Task, candidates: int) -> Params:
    """Edited networks whose every leaf has a leading axis ``[E]``.

    Stacked even where they are equal: XLA moves whatever does not depend on the candidate out of a
    loop over candidates, and would leave no full forward pass to measure.
    """
    original = env.default_params.original

    def network(action: Array) -> Params:
        return set_leaves(task.subject.params, env.edit(original, original, action))

    return jax.jit(jax.vmap(network))(make_actions(env, candidates))


def full_forward(env: World, task: Task, candidates: int) -> Contestant:
    """A forward pass of the whole edited network for every candidate, on the same images.

    The candidates' weights are given. On CPU they follow one another, which is faster there.
    """
    at_once = 1 if jax.default_backend() == "cpu" else candidates

    def rewards(networks: Params, x: Array, params: WorldParams) -> Array:
        def reward(network: Params) -> Array:
            outputs = task.subject.apply(network, x)
            sets = {
                name: SetOutputs(outputs, params.original_outputs, params.targets, weights)
                for name, weights in params.weights.items()
            }
            score, _ = params.reward(sets, EditedWeights(params.original, params.original))
            return score - params.score

        return jax.lax.map(reward, networks, batch_size=at_once)

    networks = stacked_networks(env, task, candidates)
    images = jnp.asarray(task.roles["reward"].x)
    run = partial(jax.jit(rewards), networks, images, env.default_params)
    return Contestant(run, work=candidates)


def gemm(task: Task, chunk: int, products: int) -> Contestant:
    """The matrix product of the edited layer, ``[N, D] × [D, H · chunk]``, and nothing else.

    Its work is in floating-point operations.
    """
    rows, columns = task.leaves["fc2/kernel"].shape
    examples = len(task.roles["reward"].targets)
    key, weight_key = jax.random.split(jax.random.key(2))
    features = jax.random.normal(key, (examples, rows))
    weights = jax.random.normal(weight_key, (products, rows, columns * chunk))

    @jax.jit
    def run(features: Array, weights: Array) -> Array:
        # Carried along, so that every product is computed, into the same buffer.
        first = jnp.zeros((examples, columns * chunk))
        return jax.lax.scan(lambda _, w: (features @ w, None), first, weights)[0]

    flops = 2.0 * examples * rows * columns * chunk * products
    return Contestant(partial(run, features, weights), work=flops)


def ppo_training(env: World, updates: int) -> tuple[Contestant, Contestant]:
    """PPO at the editing defaults, and the same number of environment evaluations alone.

    The work of both is counted in evaluations.
    """
    config = editing_config(2000)
    params = env.default_params
    init = jax.jit(lambda params, key: PPO(config=config).init(env, params, key))
    state = init(params, jax.random.key(3))
    train = jax.jit(lambda params, state: ppo.scan_updates(env, params, config, state, updates))
    evaluations = updates * config.batch_size
    training = Contestant(partial(train, params, state), work=evaluations)
    return training, environment(env, config.batch_size, updates)
