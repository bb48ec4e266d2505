"""Networks of PyTorch edited from end to end, and written back into their state dict."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import modeledit_jax as me
from modeledit_jax.edits.layers import layers_in_order, weight_paths
from modeledit_jax.edits.site import leaf_paths
from modeledit_jax.edits.split_apply import run_prefix, split_apply
from tests import tiny
from tests.subjects.pytorch.networks import CNN, outputs, randomized, torch

SIDE = 8


def images(examples):
    """Clouds of points as images, channels first."""
    return dataclasses.replace(examples, x=examples.x.reshape(-1, 1, SIDE, SIDE))


def splits():
    sizes = tiny.SIZES.items()
    roles = {
        role: images(tiny.blobs(size, at, SIDE * SIDE)) for at, (role, size) in enumerate(sizes)
    }
    return dataclasses.replace(tiny.splits(), **roles)


@pytest.fixture(scope="module")
def network():
    """A trained network of torch, and the subject that it is here."""
    torch.manual_seed(0)
    module, train = randomized(CNN()), splits().train
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(
            module(torch.tensor(train.x)), torch.tensor(train.y).long()
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return module, me.Subject.from_torch(module, train.x[:2])


def written_back(module, subject, params, changed):
    """Outputs of torch with the edited weights; fails unless all other entries keep their bits."""
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    after = subject.to_state_dict(params)
    other = CNN()
    other.load_state_dict(after)
    assert not torch.equal(before.pop(changed), after.pop(changed))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    return outputs(other, splits().test.x)


EDITORS = {
    "ppo": (me.PPO(world="shift", budget=80), "fc2/weight", "fc2.weight"),
    "ppo of a convolution": (me.PPO(world="mask", budget=40), "conv2/weight", "conv2.weight"),
    "ridge": (me.preset("unlearning/ridge"), "fc2/weight", "fc2.weight"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EDITORS)
def test_an_edit_is_written_back_and_torch_computes_it(network, name):
    module, subject = network
    editor, site, changed = EDITORS[name]
    task = me.forget_classes(subject, splits(), 0, site=site)
    result = editor.edit(task, jax.random.key(0))
    expected = written_back(module, subject, result.params, changed)
    found = subject.apply(result.params, jnp.asarray(splits().test.x))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert np.abs(expected - outputs(module, splits().test.x)).max() > 1e-3


@pytest.mark.slow
def test_closed_forms_edit_an_unfolded_convolution(network):
    module, folded = network
    task = me.forget_classes(folded, splits(), 0, site="conv2/weight")
    with pytest.raises(ValueError, match="does not use params/conv2/weight once, as x @ W"):
        me.preset("unlearning/ridge").edit(task, jax.random.key(0))
    subject = me.Subject.from_torch(module, splits().train.x[:1], unfold="conv2/weight")
    task = me.forget_classes(subject, splits(), 0, site="conv2/weight")
    result = me.preset("unlearning/ridge").edit(task, jax.random.key(0))
    expected = written_back(module, subject, result.params, "conv2.weight")
    found = subject.apply(result.params, jnp.asarray(splits().test.x))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_network_is_split_at_the_edited_layer(network):
    _, subject = network
    x = jnp.asarray(splits().reward.x)
    for site, width in (("params/fc2/weight", 10), ("params/head/weight", 6)):
        split = split_apply(subject.apply, subject.params, x, [site])
        assert split.entries == (site,)  # what is added to the kernel is not multiplied out
        features = run_prefix(split, subject.params, x)
        assert [f.shape for f in features.per_example] == [(len(x), 1, width)]
        assert split.arranged(features).axis == -1  # the suffix runs with examples as columns
    split = split_apply(subject.apply, subject.params, x, ["params/conv2/weight"])
    (read,) = run_prefix(split, subject.params, x).per_example
    assert read.size == len(x) * 6 * 4 * 4  # behind the first convolution and its pooling


def test_layers_are_in_the_order_of_use_and_statistics_are_no_weights(network):
    _, subject = network
    layers = layers_in_order(subject.apply, subject.params, jnp.asarray(splits().reward.x))
    names = [layer[0].split("/")[1] for layer in layers]
    assert names == ["conv1", "bn1", "conv2", "fc1", "fc2", "head"]
    weights = weight_paths(subject.params)
    assert {path for path in leaf_paths(subject.params) if path not in weights} == {
        "buffers/version",
        *(f"buffers/bn1/{n}" for n in ("num_batches_tracked", "running_mean", "running_var")),
    }
