"""Tasks put to several models, the costs of writing, and the questions of the harness."""

from types import SimpleNamespace

import pytest
import torch

from tutelage.core.errors import DataError, ModelError
from tutelage.data.text.tokenizing import tokenizer_of
from tutelage.evaluation.costs.latency import Effort
from tutelage.evaluation.costs.memory import peak_of
from tutelage.evaluation.costs.writing import writing_costs, writing_of
from tutelage.evaluation.intervals import newcombe, paired_interval, wilson
from tutelage.evaluation.language.asking import LocalTask, Scores, ask_all, figures_of_task
from tutelage.evaluation.language.harness import Answering
from tutelage.evaluation.language.tasks import Item, Task
from tutelage.evaluation.language.writing import greedy, reads_at_most, why_silent
from tutelage.models import Observed, build_model, encoder

SHORT = Effort(warmup=0, calls=2, turn=2, seconds=5.0)
BYTES = tokenizer_of("bytes")


def net(length=64, seed=0):
    torch.manual_seed(seed)
    options = {"layers": 1, "width": 16, "heads": 2, "length": length}
    return Observed(build_model({"gpt": options}, classes=BYTES.size, shape=(8,))).eval()


def by_hand(model, context, more):
    """Sum of log p of each byte, one look at the model each, in float64."""
    said, total, greedy_ = [*context.encode()], 0.0, True
    if not said:
        said = [BYTES.end]
    for byte in more.encode():
        with torch.no_grad():
            logits = model.model(torch.tensor([said]))[0, -1].double()
        total += float(logits[byte] - logits.exp().sum().log())
        greedy_ &= int(logits.argmax()) == byte
        said.append(byte)
    return total, greedy_


def going_on(model, text, most):
    said = [*text.encode()]
    for _ in range(most):
        with torch.no_grad():
            said.append(int(model.model(torch.tensor([said]))[0, -1].argmax()))
    return said[len(text.encode()) :]


def ask(*args):
    return SimpleNamespace(args=args)


def test_the_three_questions_of_the_harness_are_sums_by_hand():
    model = net()
    adapter = Answering(model, BYTES)
    pairs = [("what", " is"), ("", "ab"), ("a ", "b")]
    for one, pair in zip(adapter.loglikelihood([ask(*p) for p in pairs]), pairs, strict=True):
        total, likeliest = by_hand(model, *pair)
        assert one == (pytest.approx(total, rel=1e-5), likeliest)
    assert adapter.loglikelihood_rolling([ask("abc")]) == [
        pytest.approx(by_hand(model, "", "abc")[0], rel=1e-5)
    ]
    ways = {"until": ["\n\n"], "max_gen_toks": 3}
    (text,) = adapter.generate_until([ask("hello", ways)])
    expected = going_on(model, "hello", 3)
    assert text == BYTES.decode(expected[: (*expected, BYTES.end).index(BYTES.end)])
    with pytest.raises(ModelError, match="draws tokens"):
        adapter.generate_until([ask("a", {"do_sample": True, "temperature": 0.7})])


def test_a_stop_ends_an_answer_and_a_long_prompt_loses_its_beginning():
    model = net(length=24)
    whole = greedy(model, BYTES, most=6)(["hello"], ())[0]
    stop = whole[2:3]
    assert greedy(model, BYTES, most=6)(["hello"], (stop,)) == [whole[: whole.index(stop)]]
    long = "x" * 40 + "hello"
    assert greedy(model, BYTES, most=6)([long], ()) == greedy(model, BYTES, most=6)(
        [long[-17:]], ()
    )
    with pytest.raises(ModelError, match="leaves no room"):
        greedy(model, BYTES, most=24)
    assert reads_at_most(model) == 24


def test_an_encoder_is_asked_nothing():
    silent = Observed(torch.nn.Linear(2, 2), read=encoder)
    assert "goes on with none" in why_silent(silent)
    with pytest.raises(ModelError, match="the harness asks models that do"):
        Answering(silent, BYTES)
    task = LocalTask(Task("t", "multiple_choice", (Item("a", "b", ("b", "c")),)))
    found = ask_all(task, {"teacher": [silent], "student": [net()]}, BYTES, seeds=[0])
    assert set(found["models"]) == {"student"}
    assert "goes on with none" in found["left_out"]["teacher"]
    assert found["comparison"] == {"teacher": None, "baseline": None}


def test_a_task_is_asked_of_every_seed():
    items = tuple(Item(f"{i}", "b", ("b", "cd")) for i in range(6))
    task = LocalTask(Task("t", "multiple_choice", items))
    models = {"teacher": [net(seed=9)], "student": [net(seed=1), net(seed=2)]}
    models["baseline"] = [net(seed=3), net(seed=4)]
    found = ask_all(task, models, BYTES, seeds=[5, 6])
    assert [each["seed"] for each in found["models"]["student"]["seeds"]] == [5, 6]
    for role, several in models.items():
        for k, model in enumerate(several[:1]):
            right = [
                by_hand(model, i.prompt, "b")[0] > by_hand(model, i.prompt, "cd")[0] for i in items
            ]
            figure = (
                found["models"][role]["seeds"][k]["value"]
                if role != "teacher"
                else (found["models"][role]["value"]["mean"])
            )
            assert figure == sum(right) / len(right)


def drawn(seed, share=0.5, count=40):
    dice = torch.Generator().manual_seed(seed)
    return tuple((torch.rand(count, generator=dice) < share).double().tolist())


def test_figures_of_a_task_are_paired():
    teacher, alone = drawn(0, 0.8), [drawn(1, 0.4), drawn(2, 0.4)]
    ours = [drawn(3, 0.6), drawn(4, 0.6)]
    scores = {
        "teacher": [Scores(teacher)],
        "student": [*map(Scores, ours)],
        "baseline": [*map(Scores, alone)],
    }
    found = figures_of_task("t", "x", scores, seeds=[0, 1])
    counts = [0, 0, 0, 0]
    for mine, theirs in zip(ours[0], teacher, strict=True):
        counts[{(1, 1): 0, (1, 0): 1, (0, 1): 2, (0, 0): 3}[(mine, theirs)]] += 1
    assert found["comparison"]["teacher"] == newcombe(*counts).as_dict()
    means = [[sum(each) / 40 for each in arm] for arm in (ours, alone)]
    seeds, gain = paired_interval(*means), found["comparison"]["baseline"]
    assert gain["mean"] == pytest.approx(seeds.mean)
    assert gain["low"] == max(seeds.low, -1.0)  # two seeds leave much open
    assert gain["high"] == min(seeds.high, 1.0)
    assert found["models"]["teacher"]["value"] == wilson(int(sum(teacher)), 40).as_dict()
    value = found["models"]["student"]["value"]
    assert value["mean"] == pytest.approx(sum(means[0]) / 2)
    assert value["low"] >= 0
    assert value["high"] <= 1
    single = {role: arm[:1] for role, arm in scores.items()}
    assert (
        "Newcombe"
        in figures_of_task("t", "x", single, seeds=[0])["comparison"]["baseline"]["method"]
    )


def test_seeds_that_agree_do_not_hide_how_few_the_questions_are():
    right, wrong = Scores((1.0,) * 6), Scores((0.0,) * 6)
    scores = {"student": [right, right], "baseline": [wrong, wrong]}
    found = figures_of_task("t", "x", scores, seeds=[0, 1])
    alone = wilson(6, 6)
    value = found["models"]["student"]["value"]
    assert (value["low"], value["high"]) == (pytest.approx(alone.low), 1.0)
    gain, pairs = found["comparison"]["baseline"], newcombe(0, 6, 0, 0)
    assert (gain["low"], gain["high"]) == (pytest.approx(pairs.low), 1.0)


def test_figures_that_are_no_shares_are_resampled():
    first, second = Scores((0.5, 2.5, 3.0), "f1"), Scores((1.5, 2.5, 1.0), "f1")
    found = figures_of_task("t", "x", {"teacher": [first], "student": [second]}, seeds=[0])
    assert not found["share"]
    assert found["comparison"]["teacher"]["mean"] == pytest.approx(-1 / 3)
    assert "bootstrap" in found["models"]["student"]["value"]["method"]
    whole = Scores((), "perplexity", "lower", total=7.0)
    found = figures_of_task("t", "x", {"teacher": [whole], "student": [whole]}, seeds=[0])
    assert found["models"]["student"]["value"]["mean"] == 7.0
    assert found["comparison"]["teacher"] is None


def test_writing_is_timed_and_its_memory_counted():
    prompt = torch.randint(200, (1, 12), generator=torch.Generator().manual_seed(0))
    found = writing_costs({"a": net(), "b": net()}, prompt, tokens=6, effort=SHORT)
    assert set(found) == {"a", "b"}
    one = found["a"]
    assert one.first_ms > 0
    assert (one.prompt_tokens, one.tokens, one.calls, one.threads) == (12, 6, 2, 1)
    kept = 2 * 16 * (12 + 6) * 4  # keys and values of one layer, at the least
    assert one.memory_bytes > kept
    assert one.memory_bytes == found["b"].memory_bytes
    with pytest.raises(DataError, match="on one prompt"):
        writing_costs({"a": net()}, prompt[:, :0])
    with pytest.raises(ModelError, match="reads 64 tokens"):
        writing_costs({"a": net()}, prompt, tokens=60, effort=SHORT)


def test_an_encoder_decoder_writes_what_the_library_writes():
    transformers = pytest.importorskip("transformers")
    config = transformers.T5Config(
        vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        decoder_start_token_id=0, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Observed(transformers.T5ForConditionalGeneration(config)).eval()
    prompt = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        said = writing_of(model, prompt)(5)
        theirs = model.model.generate(
            prompt, max_new_tokens=5, min_new_tokens=5, do_sample=False, suppress_tokens=None
        )
    assert said.shape == (1, 5)
    if 1 not in said:
        assert said[0].tolist() == theirs[0, 1:].tolist()
    found = writing_costs({"t5": model}, prompt, tokens=3, effort=SHORT)["t5"]
    assert found.memory_bytes > 0
    assert "encoder-decoder" in why_silent(model)


def test_memory_of_a_call_is_what_is_alive_at_once():
    assert peak_of(lambda: (torch.zeros(100).relu(), torch.zeros(10))) == 4 * 200
    with pytest.raises(ModelError, match="no tensor"):
        peak_of(lambda: 1)
