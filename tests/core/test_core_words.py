"""Batch, Outputs, mean, the registry, and what they say when something is wrong."""

import pytest
import torch

from tutelage.core import registry
from tutelage.core.batch import Batch
from tutelage.core.errors import DataError, MissingFeature, RecipeError, SparseAnswer, suggest
from tutelage.core.outputs import Outputs, SparseOutputs, dense
from tutelage.core.reduce import full_precision, mean
from tutelage.core.source import Listed, Source


def one_line(caught):
    return "\n" not in str(caught.value)


# -- Batch -------------------------------------------------------------------------------------


def whole():
    return Batch(
        {"x": torch.arange(10.0)[:, None], "y": torch.arange(10)},
        torch.arange(10),
        torch.tensor([True, False] * 5),
        torch.arange(10) + 100,
        view=3,
    )


def test_a_batch_is_cut_with_all_that_belongs_to_it():
    parts = whole().split(3)
    assert [len(part) for part in parts] == [4, 4, 2]
    assert all(part.view == 3 for part in parts)
    for name in ("x", "y"):
        joined = torch.cat([part.inputs[name] for part in parts])
        assert torch.equal(joined, whole().inputs[name])
    for name in ("targets", "mask", "ids"):
        joined = torch.cat([getattr(part, name) for part in parts])
        assert torch.equal(joined, getattr(whole(), name))
    assert sum(part.count for part in parts) == whole().count == 5


def test_a_batch_is_moved_whole():
    moved = whole().to(torch.device("meta"))
    tensors = [*moved.inputs.values(), moved.targets, moved.mask, moved.ids]
    assert all(t.device.type == "meta" for t in tensors)
    bare = Batch(torch.zeros(2, 3)).to(torch.device("meta"))
    assert bare.targets is None
    assert bare.inputs.device.type == "meta"


# -- mean --------------------------------------------------------------------------------------


def test_means_of_parts_weighted_by_counts_are_the_mean_of_the_whole():
    batch = whole()
    values = torch.randn(10, generator=torch.Generator().manual_seed(0))
    parts = [
        (mean(values[i : i + 3], batch[i : i + 3]), batch[i : i + 3].count) for i in range(0, 10, 3)
    ]
    joined = sum(value * count for value, count in parts) / batch.count
    torch.testing.assert_close(joined, mean(values, batch))


def test_an_empty_mask_gives_zero_with_zero_gradient():
    values = torch.tensor([1.0, float("inf"), float("nan")], requires_grad=True)
    batch = Batch(torch.zeros(3), mask=torch.zeros(3).bool())
    result = mean(values, batch)
    result.backward()
    assert float(result.detach()) == 0.0
    assert torch.equal(values.grad, torch.zeros(3))


def test_what_is_masked_never_reaches_the_gradient():
    values = torch.tensor([2.0, float("inf")], requires_grad=True)
    mean(values, Batch(torch.zeros(2), mask=torch.tensor([True, False]))).backward()
    assert torch.equal(values.grad, torch.tensor([1.0, 0.0]))


def test_means_over_tokens_count_tokens():
    mask = torch.tensor([[True, True, False], [True, False, False]])
    values = torch.tensor([[3.0, 6.0, 99.0], [9.0, 99.0, 99.0]])
    assert float(mean(values, Batch(torch.zeros(2, 3), mask=mask))) == 6.0


def test_full_precision_switches_autocast_off():
    x = torch.randn(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with full_precision(x):
            assert (x @ x).dtype == torch.float32


# -- Outputs -----------------------------------------------------------------------------------


def test_a_feature_that_was_not_tapped_names_the_nearest():
    outputs = Outputs(torch.zeros(2, 3), {"layer1": torch.zeros(2)})
    with pytest.raises(MissingFeature, match=r"at 'layer2'. Did you mean 'layer1'\?") as caught:
        outputs["layer2"]
    assert one_line(caught)


def test_half_precision_is_raised_and_the_rest_left():
    outputs = Outputs(
        torch.zeros(2, 3, dtype=torch.bfloat16), {"a": torch.zeros(2, dtype=torch.float64)}
    ).float()
    assert outputs.logits.dtype == torch.float32
    assert outputs["a"].dtype == torch.float64


def test_a_sparse_answer_is_refused_where_all_logits_are_needed():
    sparse = SparseOutputs(torch.zeros(2, 5), top=torch.zeros(2, 5).long(), log_tail=torch.zeros(2))
    with pytest.raises(SparseAnswer, match=r"dkd needs the logits of all classes.*only 5"):
        dense(sparse, "dkd")
    assert type(sparse.detach()) is SparseOutputs
    assert dense(Outputs(torch.ones(1, 2)), "dkd").sum() == 2


# -- registry ----------------------------------------------------------------------------------


@pytest.fixture
def shelf():
    @registry.register("test_kind", "gamma_thing")
    def gamma_thing(model, *, rate: float, decay: float = 0.5):
        return model, rate, decay

    yield "test_kind"
    registry._shelves.pop("test_kind")


def test_what_is_registered_is_built_with_options_and_objects(shelf):
    assert registry.build(shelf, "gamma_thing", {"rate": 2.0}, model="m") == ("m", 2.0, 0.5)
    assert registry.names(shelf) == ["gamma_thing"]
    assert shelf in registry.kinds()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "gama_thing",
            {},
            "there is no test_kind called 'gama_thing'. Did you mean 'gamma_thing'?",
        ),
        ("zzz", {}, "there is no test_kind called 'zzz'. Known: gamma_thing."),
        (
            "gamma_thing",
            {"rat": 1},
            "test_kind 'gamma_thing' has no option 'rat'. Did you mean 'rate'?",
        ),
        ("gamma_thing", {}, "test_kind 'gamma_thing' needs the option 'rate'."),
        ("gamma_thing", {"rate": 1, "model": 2}, "has no option 'model'. Known: decay, rate."),
    ],
)
def test_a_wrong_name_or_option_is_refused_in_one_line(shelf, name, options, message):
    with pytest.raises(RecipeError) as caught:
        registry.build(shelf, name, options, model="m")
    assert message in str(caught.value)
    assert one_line(caught)


def test_a_name_is_taken_once(shelf):
    with pytest.raises(RecipeError, match=r"'gamma_thing' is already taken by .*gamma_thing"):
        registry.register(shelf, "gamma_thing")(lambda: None)


def test_a_shelf_that_does_not_exist_says_so():
    with pytest.raises(RecipeError, match="Nothing is known here"):
        registry.get("no_such_kind", "x")


def test_suggestions_are_few():
    assert suggest("teh", ["the", "then", "other"]).startswith("Did you mean 'the'")
    long = suggest("qqq", [f"name{i:02}" for i in range(30)])
    assert long.endswith("and 10 more.")
    assert long.count(",") == 19


# -- sources -----------------------------------------------------------------------------------


def test_a_list_is_a_source_that_starts_anywhere():
    source = Listed(["a", "b", "c"])
    assert isinstance(source, Source)
    assert len(source) == 3
    assert list(source.epoch(5)) == ["a", "b", "c"]
    assert list(source.epoch(0, start=2)) == ["c"]


def test_pairs_of_tensors_become_batches_and_all_else_stays():
    x, y = torch.zeros(2, 3), torch.tensor([1, 0])
    for pair in ((x, y), [x, y]):
        [made] = Listed([pair]).epoch(0)
        assert isinstance(made, Batch)
        assert made.inputs is x
        assert made.targets is y
    for other in ((x, y, y), (x, 3), ("a", "b"), [Batch(x), Batch(x)], {"x": x}):
        assert next(Listed([other]).epoch(0)) is other


def test_a_source_needs_a_length_and_something_in_it():
    with pytest.raises(DataError, match="generator has none: give a list"):
        Listed(x for x in "abc")
    with pytest.raises(DataError, match="the source is empty"):
        Listed([])
