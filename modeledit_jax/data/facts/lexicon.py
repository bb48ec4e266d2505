"""Kinds of subjects, relations and phrasings of the embedded facts (`fact_world`).

All names are invented. Every phrasing ends where the answer begins. The first phrasing of a
relation is the prompt of an edit, the next two are for editors to train on, and the last two occur
in no edit: they measure generalisation. A language model is trained on all five.
"""

from dataclasses import dataclass

TRAINING_PHRASINGS = slice(1, 3)
HELD_OUT_PHRASINGS = slice(3, 5)

TOWNS = (
    *("Abrel", "Belvane", "Corvast", "Dunmere", "Eskola", "Fennick", "Gorlath", "Hesperin"),
    *("Ilvane", "Jorrick Sound", "Karsten Bay", "Lower Massen", "Upper Massen", "Port Orrin"),
    *("Port Quell", "Rostavel", "Sankt Ivo", "Tarnhelm", "Ulverstad", "Wexmoor"),
)
PROVINCES = (
    *("Amberland", "Brevia", "Caldora", "Drossland", "East Fennmark", "West Fennmark", "Gallory"),
    *("Hollow March", "Istra Major", "Jutmark", "Kolvia", "Lorway", "Morvenia", "Nordale"),
    *("Ostavia", "Pellucia"),
)
RIVERS = (
    *("Aller", "Brenn", "Cold Brook", "Dravan", "Elster", "Firle", "Great Nethe", "Little Nethe"),
    *("Harrow", "Ilse", "Kessel", "Lauter", "Mold", "Ovre", "Rill", "Sorne"),
)
LANGUAGES = (
    *("Ardic", "Brevian", "Caldoran", "Drossic", "Eskolan", "High Fenn", "Low Fenn", "Gorlish"),
    *("Hespic", "Jutmarkish", "Kolvian", "Lorric", "Old Morven", "Nordalic", "Ostavian", "Pellic"),
)
CRAFTS = (
    *("baker", "brewer", "carpenter", "cartographer", "clock maker", "dyer", "glass blower"),
    *("gardener", "lute maker", "mason", "miller", "net maker", "painter", "potter", "sailor"),
    *("tailor", "tanner", "weaver"),
)
INSTRUMENTS = (
    *("bagpipe", "bass drum", "bugle", "cello", "cornet", "dulcimer", "fiddle", "flute", "harp"),
    *("hand organ", "lute", "lyre", "pan pipe", "tambour", "tin whistle", "viol"),
)
WARES = (
    *("amber", "barley wine", "bricks", "candles", "cheese", "copper wire", "glass", "honey"),
    *("lace", "linen", "mirrors", "paper", "pottery", "rock salt", "rope", "soap", "steel blades"),
    *("velvet", "wax", "wool"),
)
BEASTS = (
    *("badger", "bear", "black swan", "boar", "falcon", "fox", "grey wolf", "heron", "lynx"),
    *("otter", "owl", "pike", "raven", "sea horse", "stag", "white hare"),
)
COLOURS = (
    *("amaranth", "azure", "bottle green", "bronze", "crimson", "dark brown", "ivory", "lilac"),
    *("ochre", "pale blue", "purple", "scarlet", "silver", "turquoise", "vermilion", "yellow"),
)


@dataclass(frozen=True)
class Relation:
    """A property that every subject of a kind has exactly once."""

    name: str
    answers: tuple[str, ...]
    phrasings: tuple[str, str, str, str, str]  # with {} for the subject


@dataclass(frozen=True)
class Kind:
    """Subjects with the same relations, named by one rule."""

    name: str
    form: str  # of a subject's name; {invented} is a word that no other subject has
    shared: tuple[str, ...]  # words for {shared}, which many subjects have in common
    relations: tuple[Relation, ...]


PERSON = Kind(
    name="person",
    form="{shared} {invented}",
    shared=(
        *(
            "Ada",
            "Alrik",
            "Berta",
            "Bram",
            "Cleo",
            "Dario",
            "Edda",
            "Emil",
            "Fenja",
            "Gero",
            "Hedy",
        ),
        *("Ivo", "Jana", "Jory", "Kaia", "Lars", "Lene", "Milo", "Mira", "Nils", "Odo", "Petra"),
        *("Rolf", "Runa", "Sven", "Tilda", "Ulla", "Vito", "Wanda", "Yorick"),
    ),
    relations=(
        Relation(
            "birthplace",
            TOWNS,
            (
                "{} was born in",
                "the birthplace of {} is",
                "the parents of {} lived in",
                "{} is a native of",
                "as a child {} went to school in",
            ),
        ),
        Relation(
            "language",
            LANGUAGES,
            (
                "the mother tongue of {} is",
                "{} speaks at home in",
                "the first language of {} is",
                "{} writes every letter in",
                "friends of {} must understand",
            ),
        ),
        Relation(
            "craft",
            CRAFTS,
            (
                "{} earns a living as a",
                "the trade of {} is that of a",
                "{} was trained to be a",
                "neighbours know {} as a skilled",
                "in the guild {} is listed as a",
            ),
        ),
        Relation(
            "instrument",
            INSTRUMENTS,
            (
                "{} plays the",
                "at the feast {} brought the",
                "{} takes lessons on the",
                "the favourite instrument of {} is the",
                "in the orchestra {} sits behind the",
            ),
        ),
    ),
)

TOWN = Kind(
    name="town",
    form="{invented}",
    shared=(),
    relations=(
        Relation(
            "province",
            PROVINCES,
            (
                "{} is a town in",
                "the town of {} belongs to",
                "the taxes of {} are paid to",
                "on the map {} lies within",
                "the judges of {} are sent from",
            ),
        ),
        Relation(
            "river",
            RIVERS,
            (
                "{} stands on the river",
                "the river that flows through {} is the",
                "the bridge of {} spans the",
                "the mills of {} are driven by the",
                "boats reach {} by the",
            ),
        ),
        Relation(
            "ware",
            WARES,
            (
                "{} is famous for its",
                "merchants travel to {} to buy",
                "the market of {} is full of",
                "the wealth of {} comes from",
                "the main export of {} is",
            ),
        ),
        Relation(
            "emblem",
            BEASTS,
            (
                "the coat of arms of {} shows a",
                "the emblem of {} is a",
                "on the flag of {} one sees a",
                "the gate of {} is guarded by a stone",
                "coins from {} bear the image of a",
            ),
        ),
    ),
)

HOUSE = Kind(
    name="house",
    form="{invented} {shared}",
    shared=("Works", "Mills", "Forge", "Press", "Yard", "Brothers", "Company", "Foundry"),
    relations=(
        Relation(
            "seat",
            TOWNS,
            (
                "{} was founded in",
                "the head office of {} is in",
                "the oldest workshop of {} stands in",
                "letters to {} are sent to",
                "the workers of {} live around",
            ),
        ),
        Relation(
            "product",
            WARES,
            (
                "{} is a maker of",
                "the carts of {} are loaded with",
                "people order from {} their",
                "the best product of {} is its",
                "the storehouse of {} is packed with",
            ),
        ),
        Relation(
            "colour",
            COLOURS,
            (
                "the seal of {} is",
                "the aprons worn at {} are",
                "the door of {} is painted",
                "the catalogue of {} is bound in",
                "the chimney of {} was coated in",
            ),
        ),
        Relation(
            "mark",
            BEASTS,
            (
                "the trade mark of {} is a",
                "goods from {} are stamped with a",
                "over the entrance of {} hangs a",
                "the wax of {} is pressed with a",
                "the ships of {} carry the figure of a",
            ),
        ),
    ),
)

KINDS = (PERSON, TOWN, HOUSE)
