"""Plain sentences can be filled, in more ways than any corpus asks for."""

import math
import re

from modeledit_jax.data.facts.plain_lexicon import FRAMES, WORDS


def test_every_place_of_every_frame_has_words():
    for frame in FRAMES:
        places = re.findall(r"{(\w+)}", frame)
        assert places and set(places) <= WORDS.keys()
    assert all(len(set(words)) == len(words) for words in WORDS.values())


def test_there_are_enough_sentences():
    sizes = [
        math.prod(len(WORDS[place]) for place in re.findall(r"{(\w+)}", frame)) for frame in FRAMES
    ]
    assert sum(sizes) > 100_000
