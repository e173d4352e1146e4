"""Make pairs of texts to train the scope head on: does the second ask what the first asks?"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from facts import Fact, Relations, fact_of, may_ask_the_same, of_one_subject
from wording import FILLERS, MENTIONS, RANDOM, dressed, excepting, listed, otherwise, random_some

from mlflow_edit.core.subjects import found_subject

Alike = Mapping[tuple[str, str], list[str]]  # kind and relation -> the relations most like it


class Pair(NamedTuple):
    """An edit's prompt, what a user says (last turn), what was said before, 1 or 0, the subject."""

    prompt: str
    text: str
    earlier: str
    label: int
    subject: str = ""


class PairMaker:
    """Makes right pairs and near misses of facts that have a subject."""

    def __init__(self, facts: list[Fact], relations: Relations, alike: Alike) -> None:
        self.facts, self.relations, self.alike = facts, relations, alike
        self.by_kind: dict[str, list[Fact]] = {}
        self.by_word: dict[str, list[Fact]] = {}
        for fact in facts:
            self.by_kind.setdefault(fact.kind, []).append(fact)
            for word in fact.subject.casefold().split():
                if len(word) > 3:
                    self.by_word.setdefault(word, []).append(fact)

    def pairs(self) -> Iterator[Pair]:
        """Yield pairs with the subject of the edit's prompt."""
        for fact in self.facts:
            for pair in self._of(fact):
                named = [way for way in self.relations.ways(fact.subject) if way in pair.prompt]
                yield pair._replace(subject=max(named, key=len, default=fact.subject))

    def _of(self, fact: Fact) -> Iterator[Pair]:
        for _ in range(3 if fact.relation else 2):
            prompt = RANDOM.choice(fact.wordings if fact.relation else fact.wordings[:1])
            rest = [text for text in fact.wordings if text != prompt] or [prompt]
            yield Pair(prompt, dressed(RANDOM.choice(rest), self._aside(fact)), "", 1)
        if RANDOM.random() < 0.15:
            yield Pair(prompt, dressed(prompt, self._aside(fact)), "", 1)
        other, text = self._same_relation(fact)
        if other is None:
            return
        if other.subject.casefold() != fact.subject.casefold():
            yield Pair(prompt, dressed(text, self._aside(other)), "", 0)
            if RANDOM.random() < 0.5 and (mate := self._other_relation(fact)):  # crossed
                both = [text, RANDOM.choice(mate.wordings)]
                RANDOM.shuffle(both)
                yield Pair(prompt, " ".join(both), "", 0)
        if RANDOM.random() < 0.4 and (said := otherwise(RANDOM.choice(fact.wordings))):
            yield Pair(prompt, dressed(said, self._aside(self._stranger(fact))), "", 0)
        yield from self._same_subject(fact, prompt)
        if fact.follows:
            yield from self._followed(fact, prompt, other)
        if RANDOM.random() < 0.2:
            text = dressed(RANDOM.choice(self._stranger(fact).wordings), self._aside(fact))
            yield Pair(prompt, text, "", 0)

    def _same_relation(self, fact: Fact) -> tuple[Fact | None, str]:
        """Return the same relation of somebody else, and a wording of it."""
        other = self._stranger(fact)
        if fact.relation:
            other = fact_of(self.relations, fact.kind, fact.relation, other.subject)
            if other.subject.casefold() == fact.subject.casefold():
                return None, ""
            return other, RANDOM.choice(other.wordings)
        text = RANDOM.choice(fact.wordings).replace(fact.subject, other.subject)
        return other, RANDOM.choice(other.wordings) if fact.subject in text else text

    def _same_subject(self, fact: Fact, prompt: str) -> Iterator[Pair]:
        """Yield what is said of the same subject, and does not ask the same."""
        for text in fact.others:
            yield Pair(prompt, text, "", 0)
            yield Pair(text, RANDOM.choice(fact.wordings), "", 0)
        for hard in (False, True, True):
            if mate := self._other_relation(fact, hard=hard):
                said = dressed(RANDOM.choice(mate.wordings), self._aside(self._stranger(fact)))
                yield Pair(prompt, said, "", 0)
        if RANDOM.random() < 0.25:
            said = excepting(RANDOM.choice(fact.wordings), self._stranger(fact).subject)
            yield Pair(prompt, said, "", 0)
        if fact.relation and RANDOM.random() < 0.4:
            said = self.relations.qualified(fact.kind, fact.relation, fact.subject)
            yield Pair(prompt, said, "", 0)
        if fact.relation:
            yield from self._several(fact, prompt)
        known = fact.kind in self.relations.kinds
        if known and RANDOM.random() < 0.4:
            said = RANDOM.choice(self.relations.remarks(fact.kind, fact.subject))
            yield Pair(prompt, said, "", 0)
        if known and RANDOM.random() < 0.25:
            said = RANDOM.choice(self.relations.intros(fact.kind, fact.subject))
            yield Pair(prompt, said, "", 0)
        if RANDOM.random() < 0.6:
            said = RANDOM.choice(MENTIONS).replace("{t}", RANDOM.choice(fact.wordings))
            yield Pair(prompt, said, "", 0)

    def _several(self, fact: Fact, prompt: str) -> Iterator[Pair]:
        """Yield messages of several questions about the subject, with and without the edit's."""
        mates = [mate for _ in range(3) if (mate := self._other_relation(fact))]
        if len(mates) < 3 or RANDOM.random() < 0.4:
            return
        asked = [mates[0], *random_some([fact, *mates[1:]], RANDOM.randint(1, 2))]
        if RANDOM.random() < 0.3:
            asked.reverse()
        label = int(fact in asked)
        named = [one.relation for one in asked]
        if RANDOM.random() < 0.2:
            said = self.relations.nouns(fact.kind, named, fact.subject)
        else:
            first, *rest = asked
            short = [RANDOM.choice(one.follows or one.wordings) for one in rest]
            said = listed([RANDOM.choice(first.wordings), *short])
        yield Pair(prompt, said, "", label)

    def _followed(self, fact: Fact, prompt: str, other: Fact) -> Iterator[Pair]:
        """Yield conversations whose last turn, or messages whose last sentence, has no subject."""
        follow = RANDOM.choice(fact.follows)
        mate = self._other_relation(fact)
        intros = self.relations.intros(fact.kind, fact.subject)
        opened = [RANDOM.choice(intros)]
        if mate and RANDOM.random() < 0.4:
            opened = [RANDOM.choice(mate.wordings)]
        if RANDOM.random() < 0.3:
            opened.insert(0, RANDOM.choice(self._stranger(fact).wordings))
        yield Pair(prompt, follow, " ".join(opened), 1)
        said = [RANDOM.choice(intros), *random_some(list(FILLERS), RANDOM.randint(0, 2))]
        if mate and RANDOM.random() < 0.4:
            said[0] = RANDOM.choice(mate.wordings).rstrip("?.") + "?"
        tail = [RANDOM.choice(FILLERS)] if RANDOM.random() < 0.4 else []
        yield Pair(prompt, " ".join([*said, follow, *tail]), "", 1)
        if mate and mate.follows:
            yield from self._followed_by(fact, prompt, mate, opened, said[1:])
        yield from self._of_somebody_else(fact, prompt, follow, other)

    def _followed_by(
        self, fact: Fact, prompt: str, mate: Fact, opened: list[str], between: list[str]
    ) -> Iterator[Pair]:
        """Yield conversations that end in another relation of the same subject."""
        if RANDOM.random() < 0.7:
            opening = RANDOM.choice(self.relations.intros(fact.kind, fact.subject))
            said = " ".join([opening, *between, RANDOM.choice(mate.follows)])
            yield Pair(prompt, said, "", 0)
        yield Pair(prompt, RANDOM.choice(mate.follows), " ".join(opened), 0)
        if RANDOM.random() < 0.5:  # the edit was asked before; now something else is
            earlier = " ".join([*opened[:-1], RANDOM.choice(fact.wordings)])
            yield Pair(prompt, RANDOM.choice(mate.follows), earlier, 0)

    def _of_somebody_else(
        self, fact: Fact, prompt: str, follow: str, other: Fact
    ) -> Iterator[Pair]:
        """Yield conversations in which somebody else is named, before or last."""
        if other.subject.casefold() != fact.subject.casefold() and other.kind == fact.kind:
            earlier = RANDOM.choice(self.relations.intros(fact.kind, other.subject))
            if RANDOM.random() < 0.4:  # the last one named is meant
                mine = RANDOM.choice(self.relations.intros(fact.kind, fact.subject))
                earlier = f"{mine} {earlier}"
            yield Pair(prompt, follow, earlier, 0)
        if RANDOM.random() < 0.3:
            text = RANDOM.choice(self._stranger(fact).wordings)
            yield Pair(prompt, text, RANDOM.choice(fact.wordings), 0)
        if RANDOM.random() < 0.3:  # asked outright, whatever was said before
            earlier = RANDOM.choice(self._stranger(fact).wordings)
            yield Pair(prompt, RANDOM.choice(fact.wordings), earlier, 1)

    def _stranger(self, fact: Fact) -> Fact:
        """Return a fact about another subject, often one of a like name."""
        near = [f for w in fact.subject.casefold().split() for f in self.by_word.get(w, ())]
        pools = [near] if near and RANDOM.random() < 0.4 else []
        for pool in (*pools, self.by_kind[fact.kind], self.facts):
            for _ in range(4):
                other = RANDOM.choice(pool)
                if other.subject.casefold() != fact.subject.casefold():
                    return other
        return fact

    def _other_relation(self, fact: Fact, *, hard: bool = False) -> Fact | None:
        """Return a hand-written fact of another relation of the same subject.

        Where it should be `hard`, it is one of those that are worded most like the fact's.
        """
        if fact.kind not in self.relations.kinds:
            return None
        names = self.relations.names(fact.kind)
        if hard and fact.relation:
            names = self.alike[fact.kind, fact.relation]
        for _ in range(8):
            relation = RANDOM.choice(names)
            if fact.relation:
                fits = relation != fact.relation
            else:
                fits = not any(may_ask_the_same(text, relation) for text in fact.wordings)
            if fits:
                return fact_of(self.relations, fact.kind, relation, fact.subject)
        return None

    def _aside(self, fact: Fact) -> Callable[[], str]:
        """Make sentences that may stand beside a question about `fact`."""
        known = fact.kind in self.relations.kinds

        def one() -> str:
            drawn = RANDOM.random()
            if drawn < 0.35 and known:
                return RANDOM.choice(self.relations.intros(fact.kind, fact.subject))
            if drawn < 0.45 and known:
                return RANDOM.choice(self.relations.remarks(fact.kind, fact.subject))
            if drawn < 0.6 and (mate := self._other_relation(fact)):
                return RANDOM.choice(mate.wordings)
            return RANDOM.choice(self._stranger(fact).wordings)

        return one


def mix_of(
    facts: list[Fact],
    questions: list[Fact],
    mined: dict[int, list[Fact]],
    relations: Relations,
    alike: Alike,
) -> list[Pair]:
    """Make one epoch of pairs, in random order.

    Args:
        facts: about known subjects (`facts_of`).
        questions: about anything (`statements`).
        mined: for each fact (by `id`) those whose prompts lie nearest to its own, and ask other
            things.
        relations: the hand-written wordings.
        alike: for each of these the relations that are worded most like it.
    """
    pairs = list(PairMaker(facts, relations, alike).pairs())
    plain_facts = [fact for fact in facts if not fact.relation]
    for fact in plain_facts:
        first, *rest = fact.wordings
        for _ in range(3 if rest and not fact.kind else 0):  # zsRE is small: thrice
            said = dressed(rest[0], lambda: RANDOM.choice(plain_facts).wordings[0])
            pairs.append(Pair(first, said, "", 1, fact.subject))
        for _ in range(3 if rest and not fact.kind else 1):
            if near := mined[id(fact)]:
                other = RANDOM.choice(RANDOM.choice(near).wordings)
                pairs.append(Pair(first, other, "", 0, fact.subject))
    mates = of_one_subject(questions)
    for fact in questions:
        pairs += list(_asked(fact, questions, mates.get(id(fact), []), mined[id(fact)]))
    RANDOM.shuffle(pairs)
    # whoever edits may not name the subject: then it is looked for in the prompt
    return [
        pair._replace(subject=found_subject(pair.prompt)) if RANDOM.random() < 0.3 else pair
        for pair in pairs
    ]


def _asked(
    fact: Fact, questions: list[Fact], mates: list[Fact], near: list[Fact]
) -> Iterator[Pair]:
    place = RANDOM.randrange(len(fact.wordings))
    prompt, other = fact.wordings[place], fact.wordings[-1 - place]
    if prompt != other or RANDOM.random() < 0.4:
        said = dressed(other, lambda: RANDOM.choice(questions).wordings[0])
        yield Pair(prompt, said, "", 1, fact.subject)
    for _ in range(2 if mates else 0):
        text = RANDOM.choice(RANDOM.choice(mates).wordings)
        yield Pair(prompt, dressed(text, lambda: RANDOM.choice(FILLERS)), "", 0, fact.subject)
    yield Pair(prompt, RANDOM.choice(RANDOM.choice(near).wordings), "", 0, fact.subject)
    if RANDOM.random() < 0.5 and (said := otherwise(other)):
        yield Pair(prompt, said, "", 0, fact.subject)
    if RANDOM.random() < 0.3:
        mentioned = RANDOM.choice(MENTIONS).replace("{t}", RANDOM.choice(fact.wordings))
        yield Pair(prompt, mentioned, "", 0, fact.subject)
