"""Words that make counterfactual contexts: nouns of persons, and what may stand before them.

`PERSON_WORDS` name groups of people and are none of Dixon's 50 terms. The reward is shown some of
them beside the terms, so that an edit learns to leave out who is spoken of, and not a list of 50
words. Words only, no slurs.
"""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PERSON_NOUNS = frozenset(
    _words(
        "person people man men woman women guy guys boy boys girl girls kid kids child children "
        "friend friends student students teacher teachers writer writers editor editors author "
        "authors user users member members reader readers admin admins scholar scholars artist "
        "artists actor actors singer singers politician politicians citizen citizens community "
        "communities family families neighbor neighbors neighbour neighbours worker workers "
        "soldier soldiers player players individual individuals folk folks population"
    )
)
"""A term may stand before each of them."""

PERSON_WORDS = _words(
    "british english scottish welsh irish french german dutch belgian swiss austrian italian "
    "spanish portuguese greek turkish russian ukrainian polish czech slovak hungarian romanian "
    "bulgarian serbian croatian bosnian albanian slovenian swedish norwegian danish finnish "
    "icelandic estonian latvian lithuanian armenian georgian israeli egyptian moroccan algerian "
    "tunisian libyan nigerian ghanaian kenyan ethiopian somali sudanese ugandan rwandan senegalese "
    "zimbabwean arab persian iranian iraqi syrian lebanese jordanian palestinian kurdish afghan "
    "pakistani bengali nepalese tibetan mongolian korean vietnamese thai cambodian filipino "
    "indonesian malaysian burmese singaporean taiwanese australian brazilian argentinian chilean "
    "peruvian colombian venezuelan cuban jamaican haitian dominican guatemalan bolivian "
    "ecuadorian caribbean scandinavian mediterranean northern southern eastern "
    "western rural urban local foreign immigrant refugee native indigenous hindu jain atheist "
    "agnostic secular religious orthodox evangelical methodist lutheran baptist anglican mormon "
    "quaker zen retired employed unemployed homeless wealthy rich poor middle-class working-class "
    "married single divorced widowed pregnant disabled autistic dyslexic short tall left-handed "
    "bearded bald blond adult senior newborn newlywed adopted bilingual vegetarian vegan liberal "
    "conservative socialist libertarian green royalist veteran educated self-taught freelance"
)
"""Adjectives that tell who a person is; none is a term of Dixon's list."""
