"""`ResNet` against PyTorch with the same weights, and what its edits keep."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from modeledit_jax.data.images.datasets import load_images
from modeledit_jax.data.images.splits import split_images
from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.subjects.image_classifiers import ResNet, make_classifier
from modeledit_jax.subjects.training import (
    TrainingConfig,
    check_training_examples,
    train_classifiers,
)
from modeledit_jax.types import Examples

torch = pytest.importorskip("torch")
F = torch.nn.functional


def random_params(module, x, seed=1):
    """Parameters none of which is trivial: scales around one, biases around zero."""
    params = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        scale = jax.tree_util.keystr(path).endswith("['scale']")
        spread = leaf.shape[0] ** -0.5 if leaf.ndim > 1 else 0.3
        return (scale + spread * rng.normal(size=leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, params)


def tensor(array):
    return torch.from_numpy(np.asarray(array, np.float64))


def convolution(x, kernel, size, stride):
    """``SAME`` as XLA pads: what is odd goes to the end."""
    weight = tensor(kernel).reshape(size, size, x.shape[1], -1).permute(3, 2, 0, 1)
    pads = []
    for extent in (x.shape[3], x.shape[2]):  # the last axis first
        lacking = max((-(-extent // stride) - 1) * stride + size - extent, 0)
        pads += [lacking // 2, lacking - lacking // 2]
    return F.conv2d(F.pad(x, pads), weight, stride=stride)


def torch_forward(params, x, normalize, act=F.relu):
    """He et al. 2016 in PyTorch, written from the paper; ``x`` channels last, as arrays."""
    first = 2 if min(x.shape[1:3]) > 16 else 1
    y = convolution(tensor(x).permute(0, 3, 1, 2), params["stem"]["kernel"], 3, first)
    y = act(normalize(y, params["stem_norm"]))
    for name in sorted(name for name in params if name.startswith("stage")):
        block = params[name]
        stride = 2 if "_block1" in name and not name.startswith("stage1") else 1
        z = act(normalize(convolution(y, block["conv1"]["kernel"], 3, stride), block["norm1"]))
        z = normalize(convolution(z, block["conv2"]["kernel"], 3, 1), block["norm2"])
        if "shortcut" in block:
            y = convolution(y, block["shortcut"]["kernel"], 1, stride)
            y = normalize(y, block["shortcut_norm"])
        y = act(y + z)
    y = y.mean(dim=(2, 3))
    for name in ("fc1", "fc2"):
        y = act(F.linear(y, tensor(params[name]["kernel"]).T, tensor(params[name]["bias"])))
    return F.linear(y, tensor(params["head"]["kernel"]).T, tensor(params["head"]["bias"])).numpy()


def group_norm(y, layer):
    return F.group_norm(y, 8, tensor(layer["scale"]), tensor(layer["bias"]), eps=1e-5)


def affine(y, layer):
    """Evaluation mode with mean 0 and variance 1 (less what is added to it)."""
    c = y.shape[1]
    mean, var = torch.zeros(c, dtype=y.dtype), torch.full((c,), 1 - 1e-5, dtype=y.dtype)
    return F.batch_norm(y, mean, var, tensor(layer["scale"]), tensor(layer["bias"]), eps=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "normalize"), [("group", group_norm), ("batch", affine)])
@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (7, 5, 2)])
def test_forward_equals_torch(shape, norm, normalize):
    x = np.random.default_rng(0).random((3, *shape), np.float32)
    x = jnp.asarray(x)
    module = ResNet(5, norm=norm)
    params = random_params(module, x)
    expected = torch_forward(params, x, normalize)
    assert np.ptp(expected, axis=0).min() > 1e-2  # the images tell, not the biases alone
    found = jax.jit(module.apply)({"params": params}, x)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_more_blocks_and_another_activation_equal_torch():
    x = np.random.default_rng(0).random((2, 9, 6, 1), np.float32)
    x = jnp.asarray(x)
    module = ResNet(3, widths=(8, 8), blocks=2, hidden=(6, 5), activation="tanh")
    params = random_params(module, x)
    assert "shortcut" in params["stage2_block1"] and "shortcut" not in params["stage2_block2"]
    found = jax.jit(module.apply)({"params": params}, x)
    expected = torch_forward(params, x, group_norm, torch.tanh)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_networks_side_by_side_are_those_one_by_one():
    x = np.random.default_rng(0).random((4, 8, 8, 1), np.float32)
    x = jnp.asarray(x)
    module = ResNet(5)
    each = [random_params(module, x, seed) for seed in range(3)]
    apply = jax.jit(module.apply)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    found = jax.jit(jax.vmap(lambda p: module.apply({"params": p}, x)))(stacked)
    expected = [apply({"params": params}, x) for params in each]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # one after another: an example's output does not depend on the others of its batch
    alone = [apply({"params": each[0]}, one[None])[0] for one in x]
    np.testing.assert_allclose(alone, expected[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 1), (28, 28, 1), (32, 32, 3), (1, 30, 1)])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_shapes_of_the_leaves(shape, norm):
    module = ResNet(7, norm=norm)
    shaped = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, *shape)))
    assert set(shaped) == {"params"}  # nothing mutable
    params = shaped["params"]
    assert params["stem"]["kernel"].shape == (9 * shape[-1], 16)
    assert params["stage3_block1"]["conv1"]["kernel"].shape == (9 * 32, 64)
    assert params["stage3_block1"]["shortcut"]["kernel"].shape == (32, 64)
    assert params["fc1"]["kernel"].shape == (64, 128)
    assert params["fc2"]["kernel"].shape == (128, 32)
    assert params["head"]["kernel"].shape == (32, 7)
    names = {path.rpartition("/")[2] for path in leaf_paths(params)}
    assert names == {"kernel", "bias", "scale"}


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (ResNet(), (2, 64), r"ResNet does not take examples of shape \(2, 64\)"),
        (ResNet(), (2, 3, 32, 32), r"moveaxis\(x, 1, -1\)"),
        (ResNet(widths=(16, 20)), (2, 8, 8, 1), r"widths \(16, 20\) .* multiples of 8: choose"),
    ],
)
def test_what_does_not_fit_is_named(module, shape, message):
    with pytest.raises(ValueError, match=message) as refused:
        check_training_examples(module, Examples(np.zeros(shape, np.float32), np.arange(2)))
    assert "\n" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet", "resnet-batchnorm"])
def test_digits_are_learned_and_a_class_of_weight_zero_is_never_predicted(name):
    splits = split_images(load_images("digits"))
    train = Examples(jnp.asarray(splits.train.x), jnp.asarray(splits.train.y))
    module, config = make_classifier(name, 10), TrainingConfig(10, 64, learning_rate=3e-3)
    weights = jnp.stack([jnp.ones(len(train)), (train.y != 7) * 1.0])
    keys = jax.random.split(jax.random.key(0), 2)
    params = train_classifiers(module, train, config, keys, weights, at_once=1)
    y = splits.test.y
    for index, kept in ((0, y >= 0), (1, y != 7)):
        one = jax.tree.map(lambda leaf, i=index: leaf[i], params)
        predicted = np.asarray(module.apply({"params": one}, jnp.asarray(splits.test.x))).argmax(-1)
        assert (predicted == y)[kept].mean() > 0.96
        assert index == 0 or not np.any(predicted == 7)
