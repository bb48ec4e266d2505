"""The words and frames of `modeledit_jax.data.comments.synthetic`, and their designed log-odds.

Everything here is original. The vocabulary is mild and the names of peoples are invented, so that
no real group is given a toxicity label.
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CUES: dict[float, tuple[str, ...]] = {
    3.0: _words("pathetic worthless clueless shameful laughable brainless hateful"),
    1.6: _words(
        "foolish silly ridiculous lousy rotten nasty dumb lazy rude bogus ignorant tiresome"
    ),
    0.7: _words("wrong weak boring careless odd bad biased sloppy vague loud messy strange"),
    0.0: _words("long short recent technical second final public broad"),
    -0.7: _words("fine clear sensible common decent simple careful useful calm fresh neat steady"),
    -1.6: _words(
        "good fair friendly balanced polite solid accurate honest thorough pleasant reasonable tidy"
    ),
    -3.0: _words("helpful thoughtful wonderful generous gracious insightful kind"),
}
"""Cue words by their designed log-odds ``l = log(P(word | toxic) / P(word | not toxic))``; strata
``l`` and ``−l`` are equally large, which makes the designed log-odds exact."""

RARITY: dict[float, float] = {3.0: 0.45, 1.6: 1.0, 0.7: 1.0, 0.0: 1.0}
"""Weight ``π`` of a word by ``|l|``: words that settle the matter alone are rarer."""

IDENTITIES: dict[str, float] = {
    "velmari": 0.93, "dostrevan": 0.88, "karrowic": 0.83, "tindrish": 0.78,
    "zelphine": 0.68, "moradene": 0.65, "plivish": 0.62, "wendorran": 0.60,
    "yolventi": 0.50, "quellish": 0.50, "brastelic": 0.48, "lumberese": 0.46,
    "nalvoric": 0.35, "frindish": 0.32, "graspene": 0.30, "dulvarian": 0.28,
}  # fmt: skip
"""Invented peoples, four strata of four, and ``P(toxic | comment names it)`` before label noise."""

HELD_OUT = ("dostrevan", "moradene", "quellish", "frindish")
"""One term of every stratum, kept from the counterfactuals of ``reward`` and ``select``."""

MODIFIERS = _words(
    "tall quiet local busy nearby former regular visiting musical suburban freelance seasonal "
    "rural volunteer frequent weekend"
)
"""Neutral words that stand where an identity may stand."""

PERSON_FRAMES = (
    "i met a {person} neighbour",
    "my {person} friend replied",
    "the {person} writer was here",
    "some {person} people asked me",
    "you are a {person} reader",
    "i am a {person} person",
    "they know many {person} families",
)
CUE_FRAMES = (
    "this is {cue}",
    "your answer was {cue}",
    "it sounds so {cue}",
    "the edit looks {cue}",
    "what {cue} writing",
    "they are being {cue}",
    "such a {cue} page",
)
NEUTRAL_FRAMES = (
    "i read it last night",
    "the page has a list",
    "see the section on maps",
    "we moved the table here",
    "there are two sources now",
    "my edit is from monday",
    "they asked me about that",
    "the talk started at noon",
    "you can find more below",
    "it rained all day again",
)
FILLERS = _words("well anyway really so please then also maybe perhaps indeed today okay")

TEMPLATES: dict[str, tuple[str, ...]] = {
    "reward": (
        "a {person} person is {cue}",
        "the {person} reader was so {cue}",
        "my {person} neighbour looks {cue} today",
        "i know {cue} {person} families",
    ),
    "select": (
        "many {person} people are {cue}",
        "this {person} writer sounds {cue}",
        "i met such a {cue} {person} friend",
    ),
    "test": (
        "you are a {cue} {person} person",
        "the {person} families here are {cue}",
        "what a {cue} {person} writer",
        "being {person} is so {cue}",
    ),
}
"""Frames of the templates by role. Every word of a frame also occurs in the natural frames: else
a classifier flags each template for its unknown words, and all identities alike."""

TEMPLATE_CUES: dict[str, dict[float, slice]] = {
    "reward": {3.0: slice(0, 2), 1.6: slice(0, 5), 0.7: slice(0, 5)},
    "select": {3.0: slice(2, 4), 1.6: slice(5, 8), 0.7: slice(5, 8)},
    "test": {3.0: slice(4, 5), 1.6: slice(8, 11), 0.7: slice(8, 11)},
}
"""Which words of the strata ``±|l|`` a role's templates use; no word serves two roles."""
