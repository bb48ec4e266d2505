"""Plain sentences about no subject: what a language model can do besides facts (`fact_world`)."""

FRAMES = (
    "{time} the {adjective} {person} {carries} a {thing} {place}",
    "{place} the {person} {carries} the {adjective} {thing} {time}",
    "the {person} and the {person} {carries} {adjective} {thing} {place}",
    "{time} a {adjective} {thing} was left {place} by the {person}",
    "when the {person} {carries} the {thing} , the {person} waits {place}",
    "the {thing} of the {adjective} {person} was found {place} {time}",
)
"""Sentences with places to be filled, each on its own."""

WORDS = {
    "time": (
        *("in the morning", "at noon", "before supper", "after the storm", "on market day"),
        *("late at night", "during the harvest", "in early spring", "every winter", "at dawn"),
    ),
    "place": (
        *("to the river", "behind the barn", "near the old bridge", "across the square", "uphill"),
        *("beside the well", "through the forest", "into the cellar", "along the wall", "home"),
    ),
    "person": (
        *(
            "shepherd",
            "widow",
            "soldier",
            "pilgrim",
            "child",
            "farmer",
            "fisher",
            "teacher",
            "monk",
        ),
        *("traveller", "maid", "beggar", "nurse", "guard", "smith", "hunter"),
    ),
    "carries": ("carries", "drags", "pushes", "hides", "mends", "drops", "sells", "lifts"),
    "thing": (
        *("basket", "lantern", "ladder", "barrel", "blanket", "bucket", "sack", "wheel", "chair"),
        *("kettle", "mirror", "rope", "saddle", "chest", "broom", "spade"),
    ),
    "adjective": (
        *("heavy", "broken", "small", "tired", "cheerful", "dusty", "quiet", "stubborn", "wet"),
        *("young", "careful", "strange"),
    ),
}
