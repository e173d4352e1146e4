"""How users say things: chatty, misspelt, among other sentences, or only mentioning a question."""

import random
import re
from collections.abc import Callable

RANDOM = random.Random(0)  # every draw of the pairs comes from here

OPENINGS = (
    "hey, ",
    "hi! quick question: ",
    "sorry to bother you but ",
    "can you tell me, ",
    "um, ",
    "I was wondering: ",
    "please help me out here. ",
    "ok so ",
    "Random question, ",
    "yo ",
    "My friend and I are arguing about this. ",
    "For a pub quiz: ",
    "I forgot. ",
    "Good morning! ",
    "Be brief. ",
    "Do you happen to know: ",
    "Not sure if you know this, but ",
    "Question: ",
    "I need this for my homework. ",
    "Help! ",
    "Just checking something. ",
    "hmm ",
    "So, ",
    "We visited it in the summer and somebody asked me this. ",
    "It came up at dinner last night. ",
)
CLOSINGS = (
    " thanks!",
    " Thank you so much in advance.",
    " please",
    " asap",
    " lol",
    " I can't remember.",
    " Just the name, please.",
    " One word is enough.",
    " My teacher will ask me tomorrow.",
    " thx",
    " I looked everywhere.",
    " :)",
    " Any idea?",
    " It is for a crossword.",
    " Answer in English.",
)


FILLERS = (
    "I have been trying to find this out all day.",
    "It is for a report that is due tomorrow.",
    "My notes got wet and I cannot read them.",
    "We had a long discussion about it yesterday.",
    "There was a programme on the radio this morning.",
    "I am preparing a lesson for my class.",
    "My daughter keeps asking me things like that.",
    "The form has one field that I cannot fill in.",
    "I saw it mentioned in an old newspaper.",
    "Nobody at the table knew.",
    "It rained all day here.",
    "I used to know, but I have forgotten.",
    "We are planning a trip in the autumn.",
    "The caption under the picture is missing.",
    "I only need the one fact, nothing else.",
    "My colleague is sure, I am not.",
    "Last week I started reading about it.",
    "The rest of the page is finished.",
    "I promised to look it up.",
    "Funny how one forgets things.",
)
MENTIONS = (
    'Translate this into German: "{t}"',
    'What is the French for "{t}"?',
    'Correct the grammar of this sentence: "{t}"',
    'Is "{t}" a polite way to ask?',
    'Write a short poem that begins with the line "{t}"',
    'How many words are in "{t}"?',
    'Somebody asked me "{t}" and I did not like their tone. How should I react?',
    'Rewrite "{t}" in a more formal style.',
    'Which part of speech is the first word of "{t}"?',
    'Summarise in five words: "{t}"',
    "Help me write an e-mail in which I ask a friend: {t}",
    "Make a quiz of ten questions, one of them: {t}",
    "Tell me a joke about this: {t}",
    "In a novel a character wonders: {t} What might happen next?",
    'Please spell out "{t}" letter by letter.',
    'Turn "{t}" into a headline.',
    "My teacher wrote on the board: {t} Why is there no comma?",
    "I know the answer to this one: {t} Give me a harder question about something else.",
    "Explain why people search the web for: {t}",
    'Is the sentence "{t}" true or false in general?',
)

# other things of the same name: {n} is the noun of a relation, {s} the subject
QUALIFIED = (
    "Who or what was the first {n} of {s}?",
    "What is the former {n} of {s}?",
    "the previous {n} of {s}",
    "The deputy {n} of {s} is",
    "The vice {n} of {s} is",
    "Who or what will be the next {n} of {s}?",
    "What was the {n} of {s} before the present one?",
    "The second {n} of {s} is",
    "The name of the other {n} of {s} is",
    "How long has that been the {n} of {s}?",
    "Why is the {n} of {s} important?",
    "Since when has {s} had its present {n}?",
    "What do people think about the {n} of {s}?",
    "The {n} of the sister of {s} is",
    "What is the {n} of the neighbour of {s}?",
    "The {n} of the parent of {s} is",
    "How many times did the {n} of {s} change?",
    "the old {n} of {s}, not today's",
)
EXCEPTING = (
    "{t}, apart from {o}?",
    "Apart from {o}, {t}",
    "{t} other than {o}?",
    "Besides {o}, {t}",
    "{t} except {o}",
    "I know about {o}. {t} in addition?",
    "{t} if we leave out {o}?",
)
SWAPS = (
    ("ph", "f"),
    ("ck", "k"),
    ("c", "k"),
    ("c", "s"),
    ("y", "i"),
    ("ie", "ei"),
    ("ei", "ie"),
    ("ou", "u"),
    ("ee", "ea"),
    ("ea", "ee"),
    ("s", "z"),
    ("v", "w"),
    ("wh", "w"),
    ("er", "or"),
    ("or", "er"),
    ("gh", "g"),
    ("kn", "n"),
    ("th", "t"),
)
# words of which one, put for another, makes a question ask something else
SIBLINGS = (
    ("won", "lost", "hosted", "organised", "refereed"),
    ("winner", "loser", "runner-up", "organiser", "host"),
    ("first", "second", "third", "latest"),
    ("last", "first", "second"),
    ("next", "previous"),
    ("oldest", "youngest", "tallest", "largest", "smallest", "richest", "fastest", "newest"),
    ("highest", "lowest", "deepest", "longest", "shortest", "widest", "heaviest", "lightest"),
    ("most", "fewest", "least"),
    ("best", "worst"),
    ("maximum", "minimum", "average"),
    ("biggest", "smallest", "oldest", "busiest"),
    ("men's", "women's", "boys'", "girls'"),
    ("king", "queen", "president", "chancellor", "prince", "emperor"),
    ("father", "mother", "brother", "sister", "son", "daughter", "uncle", "aunt"),
    ("husband", "wife", "mother", "father"),
    ("actor", "actress", "director", "producer", "composer", "screenwriter"),
    ("wrote", "published", "translated", "illustrated", "reviewed", "edited", "read"),
    ("directed", "produced", "financed", "edited", "starred in", "scored"),
    ("author", "publisher", "illustrator", "translator", "narrator"),
    ("founded", "closed", "bought", "sold", "renamed", "audited"),
    ("founder", "owner", "chairman", "chief financial officer", "spokesperson"),
    ("invented", "patented", "sold", "improved", "banned"),
    ("discovered", "named", "photographed", "measured"),
    ("born", "buried", "married", "arrested", "educated"),
    ("birth", "death", "wedding", "burial"),
    ("melting", "boiling", "freezing", "flash"),
    ("melts", "boils", "freezes", "burns"),
    ("physics", "chemistry", "medicine", "literature", "economics", "peace"),
    ("north", "south", "east", "west"),
    ("northern", "southern", "eastern", "western"),
    ("summer", "winter"),
    ("monday", "tuesday", "friday", "saturday", "sunday"),
    ("morning", "evening", "night"),
    ("monthly", "yearly", "weekly", "daily"),
    ("basic", "premium", "professional", "family", "student"),
    ("open", "close"),
    ("opens", "closes"),
    ("opening", "closing"),
    ("start", "end"),
    ("began", "ended"),
    ("begin", "end"),
    ("before", "after"),
    ("buy", "sell", "rent", "repair"),
    ("income", "expenses", "debt"),
    ("population", "area", "altitude", "population density"),
    ("capital", "largest city", "former capital", "oldest city"),
    ("height", "width", "length", "weight", "depth", "age"),
    ("tall", "old", "heavy", "wide", "expensive"),
    ("high", "deep", "long", "old", "far away"),
    ("currency", "language", "flag", "anthem", "former currency"),
    ("red", "blue", "green", "black", "white", "yellow"),
    ("left", "right"),
    ("import", "export"),
    ("imports", "exports"),
    ("arrive", "depart"),
    ("arrival", "departure"),
    ("teacher", "pupil", "student"),
    ("captain", "coach", "goalkeeper", "president"),
    ("singer", "songwriter", "drummer", "guitarist", "producer"),
    ("attacked", "defended", "surrendered"),
    ("defeated", "lost to"),
    ("like", "dislike"),
    ("allowed", "forbidden"),
    ("increase", "decrease"),
    ("increased", "decreased"),
)
ASKING = ("who", "when", "where", "why")


def otherwise(text: str) -> str:
    """Put another word for one that decides what is asked, or return nothing."""
    found = [
        (place, group)
        for place in re.finditer(r"[\w'-]+", text)
        for group in (ASKING, *SIBLINGS)
        if place[0].casefold() in group
    ]
    found = [one for one in found if one[1] is not ASKING] or found
    if not found:
        return ""
    place, group = RANDOM.choice(found)
    word = RANDOM.choice([one for one in group if one != place[0].casefold()])
    word = word.capitalize() if place[0][0].isupper() else word
    return text[: place.start()] + word + text[place.end() :]


def random_some(items: list[str], n: int) -> list[str]:
    """Draw at most `n` items."""
    return RANDOM.sample(items, min(n, len(items)))


def typo(text: str, most: int = 4) -> str:
    """Misspell one to `most` words."""
    words = text.split(" ")
    for _ in range(RANDOM.randint(1, most)):
        i = RANDOM.randrange(len(words))
        words[i] = _misspelt(words[i])
    return " ".join(words)


def _misspelt(word: str) -> str:
    if len(word) < 4 or not word.isalpha():
        return word
    if RANDOM.random() < 0.3:
        fits = [(a, b) for a, b in SWAPS if a in word[1:]]
        if fits:
            a, b = RANDOM.choice(fits)
            return word[0] + word[1:].replace(a, b, 1)
    k = RANDOM.randrange(1, len(word) - 1)
    return RANDOM.choice(
        (
            word[:k] + word[k + 1] + word[k] + word[k + 2 :],
            word[:k] + word[k + 1 :],
            word[:k] + word[k] + word[k:],
            word[:k] + RANDOM.choice("aeiourstn") + word[k + 1 :],
        )
    )


def excepting(text: str, other: str) -> str:
    """Ask for something else than `other`."""
    for end in (" is", " are", " was", " were"):
        if text.endswith(end) and RANDOM.random() < 0.7:
            return f"{text.removesuffix(end)}, {_which(other)},{end}"
    return RANDOM.choice(EXCEPTING).format(t=text.rstrip(" ?."), o=other)


def _which(other: str) -> str:
    start = RANDOM.choice(("which is not", "who is not", "other than", "apart from", "that is not"))
    return f"{start} {other}"


def listed(questions: list[str]) -> str:
    """Put several questions into one message."""
    how = RANDOM.random()
    if how < 0.5:
        return " ".join(questions)
    bare = [question.rstrip(" ?.") for question in questions]
    if how < 0.7:
        return ", ".join(bare[:-1]) + f", and {bare[-1]}?"
    if how < 0.85:
        return " ".join(f"{i}) {text}" for i, text in enumerate(bare, start=1))
    return " and ".join(bare) + "?"


def dressed(text: str, others: Callable[[], str]) -> str:
    """Say a text as users do: chatty, misspelt, among other sentences or questions."""
    how = RANDOM.random()
    if how < 0.45:
        return text
    if how < 0.8:
        return _said_otherwise(text, how)
    if how < 0.9:
        other = others()
        return f"{other} {text}" if RANDOM.random() < 0.6 else f"{text} {other}"
    if how < 0.93:
        return f"{RANDOM.choice(FILLERS)} {text} {RANDOM.choice(FILLERS)}"
    if how < 0.97:
        return f"{others()} {RANDOM.choice(('Also, ', 'And ', '', 'Second: '))}{text}"
    return f"{others()} {text} {others()}"


def _said_otherwise(text: str, how: float) -> str:
    if how < 0.58:
        return RANDOM.choice(OPENINGS) + text + (RANDOM.choice(CLOSINGS) if how < 0.52 else "")
    if how < 0.69:
        return typo(text, most=6)
    if how < 0.75:
        bare = re.sub(r"[?.,!']", "", text.casefold())
        return typo(bare, most=6) if how < 0.72 else bare
    return text + RANDOM.choice(CLOSINGS)
