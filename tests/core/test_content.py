"""What a version does, as sets: taking out is as if it had never been put in."""

import hypothesis.strategies as st
from hypothesis import given

from mlflow_edit.core.content import Content, superseded_by
from mlflow_edit.core.edit import Edit
from mlflow_edit.core.manifest import BatchRef, Exclusion, Manifest
from mlflow_edit.core.merge import merged_content

EMPTY = Content({}, frozenset())
BASE = "0" * 64
PROMPTS = ("p", "q", "r")


def ref(digest: str, n_edits: int) -> BatchRef:
    return BatchRef(
        digest=digest, editor="grace", kind="codebook", n_edits=n_edits, bytes=1, run_id="run"
    )


class World:
    """Batches by digest, each with a few edits."""

    def __init__(self, batches: dict[str, list[Edit]]) -> None:
        self.batches = batches

    def apply(self, content: Content, digest: str) -> Content:
        others = {d: self.batches[d] for d in content.batches}
        mine = self.batches[digest]
        return content.with_batch(ref(digest, len(mine)), mine, others)

    def in_force(self, content: Content) -> set[tuple[str, str]]:
        out = content.excluded()
        return {(d, e.id) for d in content.batches for e in self.batches[d] if (d, e.id) not in out}


@st.composite
def worlds(draw: st.DrawFn) -> World:
    n = draw(st.integers(1, 5))
    return World(
        {
            f"{i + 1:064x}": [
                Edit(id=f"e{p}", prompt=p, target=draw(st.sampled_from("xy")))
                for p in draw(st.lists(st.sampled_from(PROMPTS), min_size=1, unique=True))
            ]
            for i in range(n)
        }
    )


@st.composite
def contents(draw: st.DrawFn, world: World) -> Content:
    """Draw the content of some history of applies and reverts."""
    content = EMPTY
    for _ in range(draw(st.integers(0, 6))):
        if content.batches and draw(st.booleans()):
            pairs = sorted(world.in_force(content))
            if pairs and draw(st.booleans()):
                content = content.without(edits=[draw(st.sampled_from(pairs))])
            else:
                content = content.without([draw(st.sampled_from(sorted(content.batches)))])
        else:
            content = world.apply(content, draw(st.sampled_from(sorted(world.batches))))
    return content


@given(st.data(), worlds())
def test_revert_of_a_batch_is_a_history_that_never_had_it(
    data: st.DataObject, world: World
) -> None:
    order = data.draw(st.permutations(sorted(world.batches)))
    gone = data.draw(st.sampled_from(order))
    with_it, never = EMPTY, EMPTY
    for digest in order:
        with_it = world.apply(with_it, digest)
        never = never if digest == gone else world.apply(never, digest)
    assert with_it.without([gone]).digest(BASE) == never.digest(BASE)
    assert with_it.without([gone]) == never


@given(st.data(), worlds())
def test_reverting_one_by_one_is_reverting_at_once(data: st.DataObject, world: World) -> None:
    content = data.draw(contents(world))
    pairs = data.draw(st.lists(st.sampled_from(sorted(world.in_force(content)) or [("", "")])))
    pairs = [pair for pair in pairs if pair[0]]
    step = content
    for pair in pairs:
        step = step.without(edits=[pair])
    assert step == content.without(edits=pairs)


@given(worlds())
def test_a_batch_whose_edits_all_went_is_gone(world: World) -> None:
    for digest, edits in world.batches.items():
        content = world.apply(EMPTY, digest)
        assert content.without(edits=[(digest, e.id) for e in edits]) == EMPTY


@given(st.data(), worlds())
def test_of_one_prompt_the_last_applied_answers(data: st.DataObject, world: World) -> None:
    content = data.draw(contents(world))
    last = data.draw(st.sampled_from(sorted(world.batches)))
    now = world.apply(content, last)
    force = world.in_force(now)
    assert force >= {(last, edit.id) for edit in world.batches[last]}
    wanted = {edit.prompt: edit.target for edit in world.batches[last]}
    for digest, edit_id in force:
        edit = next(e for e in world.batches[digest] if e.id == edit_id)
        assert wanted.get(edit.prompt, edit.target) == edit.target


@given(st.data(), worlds())
def test_merge_laws(data: st.DataObject, world: World) -> None:
    a, b, c = (data.draw(contents(world)) for _ in range(3))
    assert merged_content([c], a, b) == merged_content([c], b, a)
    assert merged_content([a], a, a) == a
    assert merged_content([a], a, b) == b
    assert merged_content([a], b, a) == b
    assert merged_content([c, a], a, b) == merged_content([a, c], b, a)


@given(st.data(), worlds())
def test_what_is_closed_can_be_written_as_a_manifest(data: st.DataObject, world: World) -> None:
    content = data.draw(contents(world))
    manifest = Manifest.model_validate(
        {
            "base": {"digest": BASE, "uri": "memory:/x"},
            "batches": list(content.batches.values()),
            "exclusions": list(content.exclusions),
            "created_at": "2026-01-02T03:04:05Z",
        }
    )
    again = Manifest.from_bytes(manifest.to_bytes())
    assert Content.of(again) == content
    assert again.content_digest == content.digest(BASE)
    assert again.n_edits == len(world.in_force(content))


def test_what_superseded_an_edit_is_named() -> None:
    old = [Edit(id="a", prompt="Who?", target="x"), Edit(id="b", prompt="Where?", target="y")]
    new = [Edit(id="c", prompt=" who? ", target="z"), Edit(id="d", prompt="Where?", target="Y ")]
    found = list(superseded_by("2" * 64, new, {"1" * 64: old, "2" * 64: new}))
    assert found == [
        Exclusion(batch="1" * 64, edit="a", reason="superseded", by="2" * 64, by_edit="c")
    ]
