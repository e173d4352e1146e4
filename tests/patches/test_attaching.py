import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Entry, codebook_of, entries
from torch import Tensor, nn

from mlflow_edit.errors import ShapeMismatch
from mlflow_edit.patches.codebook import Codebook

A, B = "a" * 64, "b" * 64


class Block(nn.Module):
    """Adds one; as a tuple where `tupled`, as layers of transformers do."""

    def __init__(self, tupled: bool) -> None:
        super().__init__()
        self.tupled = tupled

    def forward(self, hidden: Tensor) -> Any:
        return (hidden + 1, "cache") if self.tupled else hidden + 1


class Stack(nn.Module):
    """Three blocks over embeddings of four tokens in two dimensions."""

    def __init__(self, tupled: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(4, 2)
        self.layers = nn.ModuleList(Block(tupled) for _ in range(3))
        nn.init.zeros_(self.embed.weight)
        with torch.no_grad():
            self.embed.weight[:, 0] = torch.arange(4.0)

    def forward(self, input_ids: Tensor | None = None, embeds: Tensor | None = None) -> Tensor:
        hidden = embeds if embeds is not None else self.embed(input_ids)
        for layer in self.layers:
            output = layer(hidden)
            hidden = output[0] if isinstance(output, tuple) else output
            if hidden.isnan().any():
                raise ValueError("not a number")
        return hidden


class Model(nn.Module):
    def __init__(self, tupled: bool = False) -> None:
        super().__init__()
        self.stack = Stack(tupled)

    def forward(self, **kwargs: Any) -> Tensor:
        return self.stack(**kwargs)


@pytest.fixture(params=[False, True], ids=["tensor", "tuple"])
def model(request: pytest.FixtureRequest) -> Iterator[Model]:
    made = Model(request.param)
    yield made
    assert n_hooks(made) == 0


def n_hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


# token t at layers.1 has the hidden state (t + 2, 2)
IDS = torch.tensor([[0, 1, 2], [3, 2, 1]])
VALUE = (8.0, 9.0)


def book(*items: Entry, layer: str = "stack.layers.1") -> Codebook:
    return codebook_of(items, layer=layer, stack="stack")


def on_token(token: int, value: tuple[float, float] = VALUE, radius: float = 0.25) -> Entry:
    return Entry((token + 2, 2), value, radius, token, A, f"e{token}")


def test_an_entry_replaces_the_output_at_its_token(model: Model) -> None:
    base = model(input_ids=IDS)
    with book(on_token(2)).attach(model) as attached, attached.recording() as firings:
        edited = model(input_ids=IDS)
    changed = torch.tensor([[False, False, True], [False, True, False]])
    assert torch.equal(edited[changed], torch.tensor(VALUE).expand(2, 2) + 1)
    assert torch.equal(edited[~changed], base[~changed])
    assert [(f.row, f.position, f.entry, f.distance, f.radius) for f in firings] == [
        (0, 2, 0, 0.0, 0.25),
        (1, 1, 0, 0.0, 0.25),
    ]


@pytest.mark.parametrize(
    "quiet",
    [
        codebook_of([], layer="stack.layers.1", stack="stack"),
        book(Entry((100, 100), VALUE, 1.0, 2, A, "far")),
        book(Entry((4, 2), VALUE, 1.0, 7, A, "other token")),
        book(Entry((4, 2.5), VALUE, 0.25, 2, A, "just outside")),
    ],
)
def test_where_nothing_fires_the_tensor_is_the_same_object(model: Model, quiet: Codebook) -> None:
    base = model(input_ids=IDS)
    seen: list[Any] = []
    layer = model.stack.layers[1]
    before = layer.register_forward_hook(lambda m, a, output: seen.append(output))
    with quiet.attach(model) as attached, attached.recording() as firings:
        after = layer.register_forward_hook(lambda m, a, output: seen.append(output))
        assert torch.equal(model(input_ids=IDS), base)
        after.remove()
    before.remove()
    assert firings == []
    assert seen[0] is seen[1]


def test_the_layers_own_output_is_not_written_to(model: Model) -> None:
    seen: list[Tensor] = []
    handle = model.stack.layers[1].register_forward_hook(
        lambda m, a, output: seen.append(output[0] if isinstance(output, tuple) else output)
    )
    with book(on_token(2)).attach(model):
        model(input_ids=IDS)
    handle.remove()
    assert seen[0][0, 2].tolist() == [4, 2]


def test_detaching_restores_every_output_and_changes_no_parameter(model: Model) -> None:
    base, state = model(input_ids=IDS), {n: p.clone() for n, p in model.state_dict().items()}
    with book(on_token(1), on_token(2)).attach(model):
        assert not torch.equal(model(input_ids=IDS), base)
    assert torch.equal(model(input_ids=IDS), base)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_an_exception_in_the_context_detaches(model: Model) -> None:
    base = model(input_ids=IDS)
    with pytest.raises(KeyError), book(on_token(2)).attach(model):
        raise KeyError
    assert n_hooks(model) == 0
    assert torch.equal(model(input_ids=IDS), base)


def test_an_exception_in_the_model_leaves_the_patch_in_force(model: Model) -> None:
    with book(on_token(2)).attach(model):
        edited = model(input_ids=IDS)
        with pytest.raises(ValueError, match="not a number"):
            model(embeds=torch.full((2, 3, 2), torch.nan))
        assert torch.equal(model(input_ids=IDS), edited)


def test_patches_nest_and_come_off_in_any_order(model: Model) -> None:
    base = model(input_ids=IDS)
    first, second = ExitStack(), ExitStack()
    first.enter_context(book(on_token(2)).attach(model))
    one = model(input_ids=IDS)
    second.enter_context(book(on_token(1)).attach(model))
    both = model(input_ids=IDS)
    first.close()
    other = model(input_ids=IDS)
    second.close()
    assert torch.equal(model(input_ids=IDS), base)
    assert torch.equal(torch.where(one == base, other, one), both)
    assert not torch.equal(one, other)


def test_layers_below_feed_layers_above(model: Model) -> None:
    lower = book(Entry((2, 1), (5.0, 5.0), 0.25, 1, A, "e1"), layer="stack.layers.0")
    upper = book(Entry((6, 6), VALUE, 0.25, 1, A, "e1"))
    with lower.attach(model), upper.attach(model):
        assert model(input_ids=IDS)[0, 1].tolist() == [9, 10]
    with upper.attach(model):
        assert model(input_ids=IDS)[0, 1].tolist() == [4, 3]


@pytest.mark.parametrize(
    ("layer", "stack"), [("stack.layers.9", "stack"), ("stack.layers.1", "no")]
)
def test_a_model_without_the_layer_is_left_as_it_was(model: Model, layer: str, stack: str) -> None:
    with (
        pytest.raises(ShapeMismatch, match="has no module"),
        codebook_of([on_token(2)], layer=layer, stack=stack).attach(model),
    ):
        pass
    assert n_hooks(model) == 0


@pytest.mark.parametrize("width", [(3, 3), (2, 3), (3, 2)])
def test_another_width_is_refused(model: Model, width: tuple[int, int]) -> None:
    wrong = Codebook(
        layer="stack.layers.1",
        stack="stack",
        keys=torch.zeros(1, width[0]),
        values=torch.zeros(1, width[1]),
        radii=torch.ones(1),
        key_tokens=torch.tensor([2]),
        labels=(A,),
        edit_ids=("e1",),
    )
    with wrong.attach(model), pytest.raises(ShapeMismatch):
        model(input_ids=IDS)


def test_embeddings_have_no_tokens_and_every_entry_is_compared(model: Model) -> None:
    embeds = torch.tensor([[[2.0, 0.0], [1.0, 0.0]]])
    with book(on_token(2)).attach(model):
        model(input_ids=IDS[:1, :2])  # token ids of the same shape must not linger
        assert model(embeds=embeds)[0].tolist() == [[9, 10], [4, 3]]


def test_a_layer_called_by_itself_does_not_see_the_last_calls_tokens(model: Model) -> None:
    layer = model.stack.layers[1]
    hidden = torch.tensor([[[3.0, 1.0], [3.0, 1.0], [3.0, 1.0]]])  # as token 2 has it, before
    with book(on_token(2)).attach(model):
        model(input_ids=torch.tensor([[0, 0, 0]]))
        output = layer(hidden)
        changed = output[0] if isinstance(output, tuple) else output
        assert changed[0].tolist() == [list(VALUE)] * 3


def test_half_precision_models_keep_their_type() -> None:
    model = Model().half()
    with book(on_token(2)).attach(model):
        edited = model(input_ids=IDS)
    assert edited.dtype == torch.float16
    assert edited[0, 2].tolist() == [9, 10]


def test_disabled_and_recording_nest() -> None:
    model = Model()
    base = model(input_ids=IDS)
    with book(on_token(2)).attach(model) as attached:
        edited = model(input_ids=IDS)
        with attached.disabled():
            with attached.disabled(), attached.recording() as none:
                assert torch.equal(model(input_ids=IDS), base)
            assert torch.equal(model(input_ids=IDS), base)
        assert none == []
        assert torch.equal(model(input_ids=IDS), edited)
        with pytest.raises(KeyError), attached.disabled():
            raise KeyError
        assert torch.equal(model(input_ids=IDS), edited)


def test_an_inner_recording_does_not_end_the_outer_one() -> None:
    model = Model()
    with book(on_token(2)).attach(model) as attached, attached.recording() as outer:
        with attached.recording() as inner:
            pass
        model(input_ids=IDS)
        with attached.recording() as second:
            model(input_ids=IDS)
    assert (len(outer), len(inner), len(second)) == (4, 0, 2)


def test_disabled_and_recording_are_of_one_thread() -> None:
    model = Model()
    base = model(input_ids=IDS)
    n_rounds, problems = 30, list[str]()
    with book(on_token(2)).attach(model) as attached:
        edited = model(input_ids=IDS)
        start = threading.Barrier(4)

        def without() -> None:
            start.wait()
            for _ in range(n_rounds):
                with attached.disabled(), attached.recording() as firings:
                    if not torch.equal(model(input_ids=IDS), base) or firings:
                        problems.append("a disabled patch fired")

        def with_edits(ids: Tensor, expected: Tensor, n_firings: int) -> None:
            start.wait()
            for _ in range(n_rounds):
                with attached.recording() as firings:
                    if not torch.equal(model(input_ids=ids), expected):
                        problems.append("another answer")
                if len(firings) != n_firings:
                    problems.append(f"{len(firings)} firings")

        turned = IDS.flip(1)
        with_turned = model(input_ids=turned)
        threads = [
            threading.Thread(target=without),
            threading.Thread(target=without),
            threading.Thread(target=with_edits, args=(IDS, edited, 2)),
            threading.Thread(target=with_edits, args=(turned, with_turned, 2)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


@settings(max_examples=100)
@given(st.lists(entries, max_size=6), st.lists(st.integers(0, 1), min_size=4, max_size=4))
def test_attaching_does_what_lookup_says(items: list[Entry], ids: list[int]) -> None:
    codebook = book(*items)
    hidden = torch.tensor([[[-3.0, 1.0], [0.0, 0.25], [1.0, -1.0], [3.0, 4.0]]])
    model = Model()
    with codebook.attach(model) as attached, attached.recording() as firings:
        model.stack.embed.weight.data.zero_()
        seen: list[Tensor] = []
        spy = model.stack.layers[2].register_forward_pre_hook(lambda m, a: seen.append(a[0]))
        swap = model.stack.layers[1].register_forward_pre_hook(lambda m, a: (hidden - 1,))
        model(input_ids=torch.tensor([ids]))
        spy.remove()
        swap.remove()
    found = codebook.nearest(hidden[0], torch.tensor(ids)) if items else None
    fired = {firing.position: firing for firing in firings}
    for position in range(4):
        if found is not None and found.in_scope[position]:
            entry = int(found.index[position])
            assert fired[position].entry == entry
            assert fired[position].distance == pytest.approx(float(found.distance[position]))
            assert fired[position].radius == float(codebook.effective_radii[entry])
            assert seen[0][0, position].tolist() == codebook.values[entry].tolist()
        else:
            assert position not in fired
            assert torch.equal(seen[0][0, position], hidden[0, position])
