"""What a language model should still say after any edit: plain sentences, and facts of school.

For models whose training text is not at hand. Sentences and questions are this project's own and
state nothing that the known collections of facts edit, but for a country's capital or language.
"""

from modeledit_jax.data.facts.records import UNRELATED, Probe

SENTENCES = (
    "She closed the window because the wind had started to blow the papers off the desk.",
    "The train was late again, so we waited on the platform and talked about the weekend.",
    "He poured the tea slowly, careful not to wake the children in the next room.",
    "If you mix flour, water and a little salt, you have almost everything you need for bread.",
    "The old dog slept by the door and lifted his head whenever someone walked past.",
    "They painted the kitchen yellow, and for a week the whole house smelled of paint.",
    "I read the first chapter twice before I understood who was telling the story.",
    "The meeting ended early, which surprised everyone, and nobody knew what to do next.",
    "Put the books back on the shelf when you are done, and turn off the light.",
    "It rained all morning, but by noon the sky was clear and the streets were dry.",
    "My neighbor grows tomatoes on her balcony and gives most of them away.",
    "We walked along the river until the path became too narrow for two people.",
    "The doctor asked a few questions, wrote something down, and told him to rest.",
    "There was nothing in the letter that she had not already heard from her sister.",
    "After the game the players shook hands and the crowd went home quietly.",
    "The recipe says to wait an hour, but half an hour is usually enough.",
    "He could not find his keys, although they were in the pocket of his coat.",
    "The teacher drew a circle on the board and asked the class to measure it.",
    "In winter the lake freezes, and people come from the town to skate on it.",
    "She has worked at the same office for ten years and knows everyone by name.",
    "The bridge was closed for repairs, so the bus had to take a longer way.",
    "A small boat came into the harbor just before it got dark.",
    "You should have told me earlier; I would have brought another chair.",
    "The shop on the corner sells newspapers, milk and very good apples.",
    "Nobody remembered who had planted the tree, but everyone liked its shade.",
    "The movie was too long, and the ending made no sense to any of us.",
    "He counted the money again and put it back into the box under the bed.",
    "As soon as the music stopped, people began to look for their coats.",
    "The cat watched the birds through the glass and did not move for an hour.",
    "We had planned to leave at six, but the car would not start.",
    "The farmer fixed the fence before the animals noticed that it was broken.",
    "On the table there were three cups, a plate with cake and an open book.",
    "She laughed so loudly that the people at the other tables turned around.",
    "The instructions were short, and most of them were about what not to do.",
    "When I was a child, we spent every summer in a house near the sea.",
    "The phone rang twice and stopped before anyone could answer it.",
    "He learned to swim late, but now he goes to the pool every morning.",
    "The new road makes the trip shorter, though the old one is more beautiful.",
    "They sat on the steps in the evening and watched the lights come on.",
    "Most of the time the answer is simpler than it looks at first.",
)
"""To measure perplexity with."""

_FACTS = (
    ("The capital of France is", "Paris"),
    ("The capital of Japan is", "Tokyo"),
    ("The capital of Italy is", "Rome"),
    ("The Eiffel Tower is in the city of", "Paris"),
    ("The largest ocean on Earth is the", "Pacific"),
    ("The Earth revolves around the", "Sun"),
    ("Water is made of hydrogen and", "oxygen"),
    ("The opposite of hot is", "cold"),
    ("The opposite of left is", "right"),
    ("Monday, Tuesday, Wednesday, Thursday,", "Friday"),
    ("January, February, March, April,", "May"),
    ("One, two, three, four,", "five"),
    ("A week has seven", "days"),
    ("The color of the sky is", "blue"),
    ("The color of grass is", "green"),
    ("The first president of the United States was George", "Washington"),
    ("Romeo and Juliet was written by William", "Shakespeare"),
    ("The theory of relativity was developed by Albert", "Einstein"),
    ("The United States of", "America"),
    ("The Statue of", "Liberty"),
    ("New York, Los Angeles and", "Chicago"),
    ("In Germany people speak", "German"),
    ("In Spain people speak", "Spanish"),
    ("Bees make", "honey"),
    ("Cows give", "milk"),
    ("A baby dog is called a", "puppy"),
    ("A baby cat is called a", "kitten"),
    ("The sun rises in the", "east"),
    ("The sun sets in the", "west"),
    ("Ice is frozen", "water"),
    ("Once upon a", "time"),
    ("The Pacific", "Ocean"),
)

QUESTIONS = tuple(Probe(prompt, answer, UNRELATED) for prompt, answer in _FACTS)
"""Beginnings of sentences with the word that follows."""
