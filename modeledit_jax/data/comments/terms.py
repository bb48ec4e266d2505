"""Identity terms by which the classification of comments is examined; words only, no slurs."""

DIXON_TERMS = (
    *("lesbian", "gay", "bisexual", "transgender", "trans", "queer", "lgbt", "lgbtq"),
    *("homosexual", "straight", "heterosexual", "male", "female", "nonbinary"),
    *("african", "african american", "black", "white", "european", "hispanic"),
    *("latino", "latina", "latinx", "mexican", "canadian", "american", "asian", "indian"),
    *("middle eastern", "chinese", "japanese", "christian", "muslim", "jewish", "buddhist"),
    *("catholic", "protestant", "sikh", "taoist", "old", "older", "young", "younger"),
    *("teenage", "millenial", "middle aged", "elderly", "blind", "deaf", "paralyzed"),
)
"""The 50 terms of Dixon et al. 2018, *Measuring and Mitigating Unintended Bias in Text
Classification* (``adjectives_people.txt`` of its repository, spelling kept; code Apache-2.0, data
CC BY 4.0)."""

CIVIL_TERMS = {
    "male": "male",
    "female": "female",
    "homosexual_gay_or_lesbian": "gay",
    "christian": "christian",
    "jewish": "jewish",
    "muslim": "muslim",
    "black": "black",
    "white": "white",
    "psychiatric_or_mental_illness": "mentally ill",
}
"""The nine annotated identities of Civil Comments that are frequent enough to be scored (Borkan et
al. 2019), and the term that stands for each where a sentence has to name it."""
