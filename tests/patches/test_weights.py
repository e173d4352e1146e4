"""Deltas in force: exact whatever the order and history, beside an untouched base."""

import threading
from itertools import permutations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from mlflow_edit.errors import CorruptPatch, ShapeMismatch, UnsupportedModel
from mlflow_edit.patches import substitution
from mlflow_edit.patches.changes import Change, Dense, LowRank, Sparse
from mlflow_edit.patches.delta import Delta
from mlflow_edit.patches.substitution import canonical_name, effective, substituted
from mlflow_edit.patches.weights import Weights

FLOATS = [torch.float32, torch.float16, torch.bfloat16]


class Model(nn.Module):
    """Embedding, Conv1D, Linear, norm and a head that is tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 4)
        self.conv = Conv1D(5, 4)
        self.linear = nn.Linear(5, 4)
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: Tensor) -> Tensor:
        hidden = self.embed(ids)
        return self.head(self.norm(hidden + self.linear(self.conv(hidden))))


def model(dtype: torch.dtype = torch.float32, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    made = Model().to(dtype)
    for own in made.parameters():
        own.requires_grad_(False)
        own.copy_(torch.randn(own.shape))
    return made


IDS = torch.tensor([[0, 1, 2, 5]])
NAMES = {"embed.weight": (6, 4), "conv.weight": (4, 5), "linear.weight": (4, 5)}


def low_rank(name: str, seed: int, rank: int = 1) -> LowRank:
    generator = torch.Generator().manual_seed(seed)
    rows, cols = NAMES[name]
    left = torch.randn(rows, rank, generator=generator)
    return LowRank(name, left, torch.randn(rank, cols, generator=generator))


def bits(tensor: Tensor) -> Tensor:
    return tensor.view(torch.int32 if tensor.dtype == torch.float32 else torch.int16)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(bits(one[name]), bits(other[name])) for name in one
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", [*NAMES, "norm.weight"])
def test_attached_computes_with_the_edited_weight_and_detached_is_bit_identical(
    name: str, dtype: torch.dtype
) -> None:
    base, other = model(dtype), model(dtype)
    shape = dict(base.named_parameters())[name].shape
    places = torch.tensor([0, shape.numel() - 1])
    change: Change = Sparse(name, places, torch.tensor([0.5, -2.0]))
    if name in NAMES:
        change = low_rank(name, 3)
    delta = Delta((change,), ("e1",))
    weights = Weights([("a", delta)])
    before, plain = state(base), base(IDS)
    with torch.no_grad():
        own = dict(other.named_parameters())[name]
        own.copy_(weights.materialise(name, own))
    expected = other(IDS)
    assert not torch.equal(expected, plain)
    with delta.attach(base) as attachment:
        assert torch.equal(base(IDS), expected)
        with attachment.disabled():
            assert torch.equal(base(IDS), plain)
        assert torch.equal(base(IDS), expected)
        assert same(state(base), before)
    assert torch.equal(base(IDS), plain)
    assert same(state(base), before)
    assert not any("forward" in module.__dict__ for module in base.modules())


def test_tied_weights_are_edited_in_every_place() -> None:
    base = model()
    assert canonical_name(base, "head.weight") == "embed.weight"
    with Weights([("a", Delta((low_rank("embed.weight", 1),), ()))]).attach(base):
        assert effective(base.head) is effective(base.embed)
        assert effective(base.head) is not base.embed.weight
    assert effective(base.head) is base.embed.weight


def test_a_tied_weight_must_be_called_by_its_first_name() -> None:
    change = LowRank("head.weight", torch.ones(6, 1), torch.ones(1, 4))
    with (
        pytest.raises(ShapeMismatch, match="tied to embed.weight"),
        Delta((change,), ()).attach(model()),
    ):
        pass


@pytest.mark.parametrize("name", ["no.weight", "linear", "linear.weight.x", "linear.nothing"])
def test_a_weight_that_is_not_there_is_refused(name: str) -> None:
    change = LowRank(name, torch.ones(4, 1), torch.ones(1, 5))
    with pytest.raises(ShapeMismatch), Delta((change,), ()).attach(model()):
        pass


def test_base_and_edited_answer_at_once_in_two_threads() -> None:
    base = model()
    plain, wrong = base(IDS), []
    with Weights([("a", Delta((low_rank("linear.weight", 1),), ()))]).attach(base) as attachment:
        edited = base(IDS)
        start = threading.Barrier(2)

        def ask(expected: Tensor) -> None:
            start.wait()
            wrong.extend(i for i in range(300) if not torch.equal(base(IDS), expected))

        def ask_base() -> None:
            with attachment.disabled():
                ask(plain)

        threads = [threading.Thread(target=ask, args=(edited,)), threading.Thread(target=ask_base)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert not torch.equal(edited, plain)


@pytest.mark.parametrize("dtype", FLOATS)
def test_composition_is_free_of_order(dtype: torch.dtype) -> None:
    parts = [(c, Delta((low_rank("linear.weight", ord(c), 2),), (c,))) for c in "abcd"]
    base = dict(model(dtype).named_parameters())["linear.weight"]
    found = [Weights(turn).materialise("linear.weight", base) for turn in permutations(parts)]
    assert all(torch.equal(bits(found[0]), bits(other)) for other in found)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 999), min_size=2, max_size=6, unique=True), st.data())
def test_a_batch_taken_out_leaves_what_never_had_it(seeds: list[int], data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(FLOATS))
    gone = data.draw(st.sampled_from(seeds))
    base = model(dtype)
    parts = {f"{s:03}": Delta((low_rank("linear.weight", s),), (str(s),)) for s in seeds}
    never = Weights([(b, d) for b, d in parts.items() if b != f"{gone:03}"])
    with Weights(list(parts.items())).attach(base):
        pass
    again = Weights([part for part in parts.items() if part[0] != f"{gone:03}"])
    assert never.digest(base) == again.digest(base)
    with never.attach(base):
        output = base(IDS)
    with again.attach(base):
        assert torch.equal(bits(base(IDS)), bits(output))


def test_the_digest_does_not_depend_on_the_type_that_the_base_is_loaded_in() -> None:
    short = model(torch.bfloat16)
    full = Model()
    full.load_state_dict({name: tensor.float() for name, tensor in short.state_dict().items()})
    weights = Weights([("a", Delta((low_rank("linear.weight", 1),), ()))])
    assert weights.digest(short) == weights.digest(full)
    assert weights.digest(full) != weights.digest(model(seed=1))
    assert weights.digest(full) != Weights([("a", Delta((), ()))]).digest(full)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_dense_change_alone_comes_back_bit_for_bit(dtype: torch.dtype) -> None:
    base = model(dtype).linear.weight.data
    edited = base * 1e-3
    edited[0, 0] = -0.0
    one = Delta((Dense.of("linear.weight", base, edited),), ())
    found = Weights([("a", one)]).materialise("linear.weight", base)
    assert torch.equal(bits(found), bits(edited))
    two = Weights([("a", one), ("b", Delta((low_rank("linear.weight", 1),), ()))])
    product = low_rank("linear.weight", 1)
    expected = (edited.double() + product.left.double() @ product.right.double()).to(dtype)
    assert torch.allclose(two.materialise("linear.weight", base), expected, atol=1e-3)


def test_sums_that_overflow_are_refused() -> None:
    change = LowRank("linear.weight", torch.full((4, 1), 1e4), torch.full((1, 5), 1e4))
    with pytest.raises(CorruptPatch, match="NaN or infinity"):
        Weights([("a", Delta((change,), ()))]).materialise(
            "linear.weight", model(torch.float16).linear.weight
        )


def test_substitutes_stack_and_are_withdrawn_in_any_order() -> None:
    base = model()
    plain = base(IDS)
    inner = substituted(base, {"linear.weight": torch.ones(4, 5)})
    outer = substituted(base, {"linear.weight": torch.zeros(4, 5), "linear.bias": torch.ones(4)})
    first = inner.__enter__()
    one = base(IDS)
    outer.__enter__()
    assert torch.equal(effective(base.linear), torch.zeros(4, 5))
    with first.disabled():
        assert torch.equal(effective(base.linear), torch.zeros(4, 5))
    inner.__exit__(None, None, None)
    assert torch.equal(effective(base.linear, "bias"), torch.ones(4))
    outer.__exit__(None, None, None)
    assert torch.equal(base(IDS), plain)
    assert not torch.equal(one, plain)


def test_what_is_attached_while_another_is_taken_off_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    module = nn.Linear(2, 2)
    model, own = nn.Sequential(module), module.weight
    attached, done = threading.Event(), threading.Event()
    seen: list[bool] = []

    def attach() -> None:
        with substituted(model, {"0.weight": own + 1}):
            attached.set()
            done.wait(10)
            seen.append(effective(module) is not own)

    other, take = threading.Thread(target=attach), substitution._Switch.take

    def slowly(switch: Any, by: Any) -> bool:
        left = take(switch, by)
        if not other.ident:
            other.start()
            attached.wait(0.2)  # it has to wait for us
        return left

    monkeypatch.setattr(substitution._Switch, "take", slowly)
    with substituted(model, {"0.weight": own + 2}):
        pass
    attached.wait(10)
    done.set()
    other.join()
    assert seen == [True]
    assert "forward" not in vars(module)


def test_substitutes_can_be_trained() -> None:
    base = model()
    before = state(base)
    weight = base.linear.weight.clone().requires_grad_()
    with substituted(base, {"linear.weight": weight}):
        base(IDS).square().sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0
    assert same(state(base), before)


def test_hooks_of_a_module_still_run_on_it() -> None:
    base, seen = model(), []
    base.linear.register_forward_hook(lambda module, args, output: seen.append(module))
    with Weights([("a", Delta((low_rank("linear.weight", 1),), ()))]).attach(base):
        base(IDS)
    assert seen == [base.linear]


def test_a_module_that_was_taken_over_is_refused() -> None:
    base = model()
    base.linear.forward = lambda hidden: hidden  # as accelerate's offloading does
    with (
        pytest.raises(UnsupportedModel),
        Weights([("a", Delta((low_rank("linear.weight", 1),), ()))]).attach(base),
    ):
        pass
    base.linear.__dict__.pop("forward")
    assert not any("forward" in module.__dict__ for module in base.modules())


def test_untouched_weights_exist_once() -> None:
    base = model()
    with Weights([("a", Delta((low_rank("linear.weight", 1),), ()))]).attach(base):
        assert effective(base.conv) is base.conv.weight
        assert effective(base.linear, "bias") is base.linear.bias
        assert effective(base.linear) is not base.linear.weight
