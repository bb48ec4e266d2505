"""Images that are drawn by rule."""

import numpy as np
import pytest
from sklearn.linear_model import RidgeClassifier

from modeledit_jax.data.images.datasets import load_images
from modeledit_jax.data.images.generated import (
    CLASSES,
    FIGURES,
    GENERATED,
    SIDE,
    draw_textures,
    generate_images,
)

AREAS = {  # in units of the size, where half a line is 0.2 thick
    "disc": np.pi,
    "ring": np.pi * (0.9**2 - 0.5**2),
    "square": 1.8**2,
    "frame": 1.8**2 - 1.0**2,
    "triangle": 1.8 * 1.8 / 2,
    "plus": 2 * 0.4 * 2 - 0.4**2,
    "times": 2 * 0.4 * 2 - 0.4**2,
    "lying bar": 0.4 * 2,
    "standing bar": 0.4 * 2,
    "two dots": 2 * np.pi * 0.4**2,
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_has_the_area_of_its_outline(name):
    axis = np.linspace(-1.5, 1.5, 1501)
    x, y = np.meshgrid(axis, axis)
    inside = FIGURES[name](x, y, np.full_like(x, 0.2)) > 0
    assert inside.mean() * 3.0**2 == pytest.approx(AREAS[name], rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", GENERATED)
def test_a_data_set_is_whole_and_can_be_learned(name):
    data = load_images(name)
    again = load_images(name)
    assert data.fingerprint == again.fingerprint
    assert data.x.shape == (25_000, SIDE, SIDE, 1) and data.x_test.shape == (5_000, SIDE, SIDE, 1)
    assert 0 <= data.x.min() < data.x.max() <= 1
    assert np.bincount(data.y).tolist() == [2_500] * CLASSES
    assert np.bincount(data.y_test).tolist() == [500] * CLASSES
    assert not (data.x[:5_000] == data.x_test).all(axis=(1, 2, 3)).any()
    flat, flat_test = data.x.reshape(len(data.x), -1), data.x_test.reshape(len(data.x_test), -1)
    model = RidgeClassifier(alpha=100.0).fit(flat[:4_000], data.y[:4_000])
    assert model.score(flat_test, data.y_test) > 0.5  # chance is 0.1


def test_the_field_of_a_class_is_the_same_for_every_seed():
    labels = np.repeat(np.arange(CLASSES), 40)
    means = [
        draw_textures(np.random.default_rng(seed), labels).reshape(CLASSES, 40, -1).mean(1)
        for seed in (0, 1)
    ]
    similar = np.corrcoef(*means)[:CLASSES, CLASSES:]
    assert (similar.argmax(axis=1) == np.arange(CLASSES)).all()
    assert similar.diagonal().min() > 0.8


def test_training_and_test_have_seeds_of_their_own():
    seeds = [each.seed + test for each in GENERATED.values() for test in (0, 1)]
    assert len(set(seeds)) == len(seeds)
    assert set(generate_images("textures")) == {"x", "y", "x_test", "y_test"}
