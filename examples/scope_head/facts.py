"""What the scope head learns from: facts about subjects, each asked in several wordings."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from wording import QUALIFIED, RANDOM, random_some

from mlflow_edit.core.subjects import found_subject

LISTS = (
    "{s}: the {first} and the {last}, please.",
    "A few things about {s}: {first}, {last}.",
    "Tell me the {first} and {last} of {s}.",
    "What are the {first} and the {last} of {s}?",
)
DATED = ("{y} {s}", "the {y} {s}", "{s} {y}", "{s} in {y}", "{s} of {y}")
YEARS = [str(year) for year in range(1988, 2033)]
ADJECTIVAL = ("Who or what is the {a} {n}?", "{a} {n}", "The {a} {n} is", "the name of the {a} {n}")
SETS = ("zsre", "counterfact", "recent", "wikicf")
TRAIN, DEV = 50, 60  # per cent of subjects; the rest is for scoring


@dataclass
class Fact:
    """A question about a subject, in several wordings; `kind` is the kind of subject or ""."""

    subject: str
    kind: str
    relation: str
    wordings: list[str]
    follows: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def share_of(subject: str) -> str:
    """Tell which share of the data a subject is in: train, dev or test."""
    bucket = int(hashlib.sha256(subject.casefold().encode()).hexdigest(), 16) % 100
    return "train" if bucket < TRAIN else "dev" if bucket < DEV else "test"


def scores(subject: str) -> bool:
    """Tell whether a subject may not be trained on."""
    return share_of(subject) != "train"


def scored(data: Path, freeform: Path) -> frozenset[str]:
    """Return the subjects that score, case folded."""
    found = set()
    for path in (*(data / f"{name}.jsonl" for name in SETS), freeform):
        lines = path.read_text("utf-8").splitlines() if path.exists() else []
        subjects = [json.loads(line)["subject"] for line in lines if line.strip()]
        found |= {one.casefold() for one in subjects if path == freeform or scores(one)}
    return frozenset(found)


def rows(path: Path, share: str) -> list[dict[str, Any]]:
    """Read the records of a file whose subject is in a share."""
    lines = path.read_text("utf-8").splitlines()
    found = [json.loads(line) for line in lines if line.strip()]
    return [row for row in found if share_of(row["subject"]) == share]


PERSON = re.compile(
    r"native|mother tongue|citizen|profession|occupation|employ|works? |worked|took up work|"
    r"expertise|domain|specializes|position|title|born|died|passed away|expired|life|succumbed|"
    r"religion|worship|instrument|speaks?\b|spoke|speaker|writes in|sport|area of|field of"
)
KINDS = (
    (re.compile(r"continent|capital|twin city|official|law in|they understand"), "place"),
    (re.compile(r"debuted|premier|aired|language of|original language|was written in"), "work"),
    (re.compile(r"headquarter|founded in|formed in|based in"), "organisation"),
    (re.compile(r"product|produced by|developed by|created by|manufactured"), "product-or-vehicle"),
    (PERSON, "person"),
    (re.compile(r"located|can be found in|location of"), "place"),
)
# relations of relations.yaml that may ask the same as a prompt with these words
NEAR = (
    (
        r"languag|speak|spoke|tongue|native|understand|writes",
        r"language|ethnic|birth|citizen|origin",
    ),
    (r"born|from|citizen|origin|native", r"birth|citizen|country|ethnic|resid|origin|located"),
    (r"die|passed|expired|life|succumbed", r"death|died|burial|killed"),
    (
        r"locat|found in|within|based|headquart|, in|is in|country|created in|formulated|"
        r"started in|formed",
        r"locat|country|continent|admin|headquart|venue|origin|place|city|founded|region|home",
    ),
    (
        r"profession|occupation|work|employ|expert|domain|field|speciali|area|position|title|known",
        r"occupation|field|employ|position|work|profession|resid|known|award",
    ),
    (r"play|perform|sport", r"instrument|genre|position|sport|occupation|team|league"),
    (r"debut|premier|aired|releas", r"network|publish|release|broadcast|distribut|label"),
    (
        r"develop|produc|creat|manufact|owner|owned|, by|product of",
        r"develop|produc|creat|manufact|owner|parent|design|author|publish|company|label|director",
    ),
    (r"member|affiliat|belong", r"member|team|party|affiliat|parent|part|league|religion"),
    (r"named|called", r"named"),
)


def kind_of(prompt: str) -> str:
    """Guess the kind of subject of a CounterFact prompt."""
    return next((kind for pattern, kind in KINDS if pattern.search(prompt)), "")


def may_ask_the_same(wording: str, relation: str) -> bool:
    """Tell whether a relation's name is too near to a wording to be a certain negative."""
    words = set(re.findall(r"[a-z]{4,}", relation)) - {"name", "place", "date", "with"}
    if any(word[:5] in wording.casefold() for word in words):
        return True
    return any(
        re.search(mine, wording, re.I) and re.search(theirs, relation) for mine, theirs in NEAR
    )


class Relations:
    """Hand-written kinds of subject, their relations and wordings, and names for some kinds.

    Args:
        paths: files of the form of `relations.yaml`.
        unseen: subjects that score: no name is one of them.
    """

    def __init__(self, paths: Sequence[Path], unseen: frozenset[str] = frozenset()) -> None:
        self.kinds: dict[str, Any] = {}
        self._ways: dict[str, list[str]] = {}
        self._adjectives: dict[str, str] = {}
        for path in paths:
            self.kinds |= yaml.safe_load(path.read_text("utf-8"))["types"]
        self.named = {kind: self._named(entry, unseen) for kind, entry in self.kinds.items()}

    def _named(self, entry: dict[str, Any], unseen: frozenset[str]) -> list[str]:
        """List the subjects that a kind has names for, and note how each may be named."""
        found = []
        for ways in entry.get("names", ()):
            ways = [way for way in ways if way.casefold() not in unseen]
            if not ways:
                continue
            if adjective := entry.get("adjective", {}).get(ways[0]):
                self._adjectives[ways[0]] = adjective
            for year in random_some(YEARS, 2) if entry.get("dated") else ("",):
                dated = [f.format(s=way, y=year) for way in ways for f in DATED] if year else ways
                found.append(dated[0])
                self._ways[dated[0]] = dated
        return found

    def ways(self, subject: str) -> list[str]:
        """Return how a subject may be named."""
        return self._ways.get(subject, [subject])

    def _said(self, subject: str, texts: Iterable[str]) -> list[str]:
        """Name the subject in each text, in one of its ways."""
        adjective = self._adjectives.get(subject)
        return [
            text.replace("{s}", RANDOM.choice(self.ways(subject))).replace("{a}", adjective or "")
            for text in texts
            if adjective or "{a}" not in text
        ]

    def names(self, kind: str) -> list[str]:
        return list(self.kinds[kind]["relations"])

    def wordings(self, kind: str, relation: str, subject: str) -> list[str]:
        entry = self.kinds[kind]["relations"][relation]
        nouns = [
            form.format(n=noun, s="{s}")
            for noun in entry["name"]
            for form in (
                "The {n} of {s} is",
                "What is the {n} of {s}?",
                "{s} {n}",
                "{s}'s {n} is",
                "The name of the {n} of {s} is",
                "Who or what is {s}'s {n}?",
            )
        ]
        if subject in self._adjectives:
            nouns += [form.format(n=noun, a="{a}") for noun in entry["name"] for form in ADJECTIVAL]
        some = [*entry["ask"], *entry["cloze"], *entry["chat"], *random_some(nouns, 3)]
        return self._said(subject, some)

    def qualified(self, kind: str, relation: str, subject: str) -> str:
        """Ask for another thing of the same name: the first, the former, somebody else's."""
        noun = RANDOM.choice(self.kinds[kind]["relations"][relation]["name"])
        return RANDOM.choice(QUALIFIED).format(n=noun, s=RANDOM.choice(self.ways(subject)))

    def nouns(self, kind: str, relations: list[str], subject: str) -> str:
        """Ask for several things by their nouns."""
        names = [RANDOM.choice(self.kinds[kind]["relations"][one]["name"]) for one in relations]
        form = RANDOM.choice(LISTS)
        named = RANDOM.choice(self.ways(subject))
        return form.format(s=named, first=", ".join(names[:-1]), last=names[-1])

    def follows(self, kind: str, relation: str) -> list[str]:
        return list(self.kinds[kind]["relations"][relation].get("follow", []))

    def intros(self, kind: str, subject: str) -> list[str]:
        return self._said(subject, self.kinds[kind]["intros"])

    def remarks(self, kind: str, subject: str) -> list[str]:
        return self._said(subject, self.kinds[kind]["remarks"])


def facts_of(data: Path, relations: Relations, share: str) -> list[Fact]:
    """List the facts of a share: those of the data sets, and hand-written ones about them."""
    facts = []
    subjects: dict[str, list[str]] = {kind: [] for kind in relations.kinds}
    for row in rows(data / "zsre.jsonl", share):
        fact = Fact(row["subject"], "", "", [row["prompt"], *row["rephrases"]])
        fact.others = [p["prompt"] for p in row["locality"] if row.get("old") not in p["answers"]]
        facts.append(fact)
    for row in rows(data / "counterfact.jsonl", share):
        kind = kind_of(row["prompt"])
        facts.append(Fact(row["subject"], kind, "", [row["prompt"], *row["rephrases"]]))
        if kind in subjects:
            subjects[kind].append(row["subject"])
    names = [fact.subject for fact in facts]
    for kind in subjects:
        some = relations.named[kind] or subjects[kind] or random_some(names, 150)
        for subject in some:
            for relation in random_some(relations.names(kind), 3 if relations.named[kind] else 2):
                facts.append(fact_of(relations, kind, relation, subject))
    return facts


def statements(path: Path) -> list[Fact]:
    """Read questions; where the answer ends their statement, it without the answer too (QA2D)."""
    facts = []
    for line in path.read_text("utf-8").splitlines()[1:]:
        cells = line.split("\t")
        if len(cells) < 5 or cells[0] != "SQuAD" or share_of(cells[1]) != "train":
            continue
        question, answer, statement = plain(cells[2]), plain(cells[3]), plain(cells[4])
        if len(question) < 25:
            continue
        fact = Fact(found_subject(question), "", "", [question])
        begin = statement.rstrip(" .")
        cloze = begin[: len(begin) - len(answer)].strip()
        if begin.casefold().endswith(answer.casefold()) and len(cloze) > 15:
            fact.wordings.append(cloze)
        facts.append(fact)
    return facts


def of_one_subject(facts: list[Fact]) -> dict[int, list[Fact]]:
    """Return for each statement (by `id`) others that name the same subject."""
    by_subject: dict[str, list[Fact]] = {}
    for fact in facts:
        if fact.subject:
            by_subject.setdefault(fact.subject, []).append(fact)
    return {
        id(fact): [other for other in group if other is not fact]
        for group in by_subject.values()
        for fact in group
        if 1 < len(group) < 30
    }


def plain(text: str) -> str:
    """Undo the spaces before punctuation."""
    return re.sub(r" ([?.,;:'])", r"\1", text).strip()


def fact_of(relations: Relations, kind: str, relation: str, subject: str) -> Fact:
    wordings = relations.wordings(kind, relation, subject)
    return Fact(subject, kind, relation, wordings, relations.follows(kind, relation))
