"""Stages that ask nobody: copies, evaluation examples, balance, looks."""

from collections import Counter

import numpy as np
import pytest
from synthesis_samples import DAY

from tutelage.core.errors import DataError, RecipeError
from tutelage.synthesis import Balance, Decontaminate, Deduplicate, Filter, Item
from tutelage.synthesis.minhash import MinHash, jaccard, shingles
from tutelage.synthesis.stage import Place

PLACE = Place("it", day=DAY)
LONG = "the quick brown fox jumps over the lazy dog while eleven old wizards boil green tea slowly"


def of(stage, items, place=PLACE):
    return stage.outcome(items, {}, place)


def words(seed, count=40):
    return " ".join(f"w{n}" for n in np.random.default_rng(seed).integers(0, 5000, count))


def test_exact_copies_differ_in_case_and_signs_at_most():
    items = [Item("Name a prime."), Item("name   a PRIME"), Item("Name a prime", "7"), Item("+")]
    made = of(Deduplicate(threshold=1), [*items, Item("+ "), Item("-")])
    assert [i.instruction for i in made.items] == ["Name a prime.", "Name a prime", "+", "-"]
    assert [d.why for d in made.dropped] == [f"of {items[0].id}", f"of {items[3].id}"]


def test_near_copies_are_those_of_an_exact_similarity_found_by_comparing_every_two():
    texts = []
    for seed in range(40):
        first = words(seed).split()
        texts.append(" ".join(first))
        for changes in (1, 2, 5):
            second = list(first)
            for place in range(changes):
                second[place * 7] = f"x{seed}"
            texts.append(" ".join(second))
    stage = Deduplicate(threshold=0.7, n=3)
    made = of(stage, [Item(text) for text in texts])
    kept = []
    for text in texts:  # every two compared, by the definition
        grams = {tuple(text.split()[i : i + 3]) for i in range(38)}
        if all(len(grams & g) / len(grams | g) < 0.7 for _, g in kept):
            kept.append((text, grams))
    assert [item.instruction for item in made.items] == [text for text, _ in kept]
    assert 40 < len(made.items) < 160
    assert made.report["near"] == 160 - len(made.items)


def test_signatures_agree_as_often_as_shingles_are_shared():
    a, b = shingles(words(1), 3), shingles(" ".join([*words(1).split()[:25], *words(2).split()]), 3)
    hashing = MinHash(bands=512, rows=4, seed=1)
    agree = (hashing.signature(sorted(a)) == hashing.signature(sorted(b))).mean()
    assert agree == pytest.approx(jaccard(a, b), abs=4 * (0.25 / 2048) ** 0.5)
    assert 0.2 < jaccard(a, b) < 0.6


def test_the_best_of_copies_may_stay_and_order_does_too():
    items = [Item(LONG, score=3.0), Item("Other.", score=1.0), Item(LONG + " indeed", score=9.0)]
    assert [i.score for i in of(Deduplicate(), items).items] == [3, 1]
    assert [i.score for i in of(Deduplicate(prefer="best"), items).items] == [1, 9]
    two = [Item("Name a prime.", answer="7"), Item("Name a prime.", answer="11")]
    assert len(of(Deduplicate(of="all"), two).items) == 2


def test_easydistill_balancer_balancing_must_not_duplicate_rows():
    scores = [1.0] * 2 + [5.0] * 9 + [10.0] * 30
    items = [Item(f"q{n}", score=score) for n, score in enumerate(scores)]
    made = of(Balance(most=8), items)
    counts = Counter(item.id for item in made.items)
    assert max(counts.values()) == 1
    assert Counter(item.score for item in made.items) == {1.0: 2, 5.0: 8, 10.0: 8}
    assert made.report["missing"] == [6, 0, 0]
    assert made.report["came"] == [2, 9, 30]
    assert len(made.items) + len(made.dropped) == len(items)
    assert of(Balance(most=8), items).items == made.items
    assert of(Balance(most=8), items, Place("it", seed=1)).items != made.items
    assert Counter(i.score for i in of(Balance(), items).items) == {1.0: 2, 5.0: 2, 10.0: 2}


def test_balance_drops_what_has_no_score_with_its_reason():
    made = of(Balance(edges=[2.0, 6.0]), [Item("a"), Item("b", score=7.0), Item("c", score=6.0)])
    assert [i.instruction for i in made.items] == ["c"]
    assert [d.reason for d in made.dropped] == ["no score in any bin"] * 2
    assert of(Balance(), []).items == []


def test_items_that_hold_rows_of_words_of_an_evaluation_file_are_dropped_and_counted(tmp_path):
    file = tmp_path / "eval.jsonl"
    file.write_text(
        '{"question": "' + LONG + '", "choices": ["yes", "no"]}\n'
        '{"question": "What is the capital of France?"}\n'
        '{"question": "one two three four five six seven eight nine"}\n'
    )
    thirteen = " ".join(LONG.upper().split()[2:15])
    items = [
        Item("clean"),
        Item("Tell me:", answer=f"So, {thirteen}!"),
        Item("Tell me:", answer=" ".join(LONG.split()[:12])),
        Item("what is the capital of france"),
        Item("Say what is the capital of France?"),
        Item("x one two three four five six seven eight nine x"),
        Item("pair", facts={"rejected": thirteen}),
    ]
    made = of(Decontaminate([str(tmp_path)]), items)
    assert [items.index(item) for item in made.items] == [0, 2, 4]
    assert "line 1 of" in made.dropped[0].why
    (report,) = made.report["files"]
    assert (report["examples"], report["examples that were held"]) == (3, 3)
    assert (report["items that hold some"], report["too short for rows of words"]) == (4, 1)
    eight = of(Decontaminate([str(file)], n=8), items)
    assert [items.index(item) for item in eight.items] == [0, 4]


def test_text_files_are_taken_by_paragraphs_and_missing_ones_told(tmp_path):
    (tmp_path / "eval.txt").write_text(f"First.\n\n{LONG}\n")
    made = of(Decontaminate([str(tmp_path / "eval.txt")]), [Item(LONG)])
    assert "line 3 of" in made.dropped[0].why
    with pytest.raises(DataError, match="does not exist"):
        of(Decontaminate([str(tmp_path / "evil.txt")]), [])


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (Item("q", answer="Fine."), None),
        (Item("q", answer="+"), None),
        (Item("q"), "no answer"),
        (Item("q " * 30, answer="yes"), "a long question"),
        (Item("q", answer=words(3, 61)), "a long answer"),
        (Item("q", answer="so it goes on and " * 8), "repetition"),
        (Item("q", answer="重复的话" * 8), "repetition"),
        (Item("q", answer="a" * 25), "repetition"),
        (Item("q", answer="-" * 25), None),
        (Item("q", answer="I’m sorry, but I can’t do that."), "a refusal"),
        (Item("q", answer=words(4, 60) + " as an AI"), None),
    ],
)
def test_filter_drops_with_a_reason(item, reason):
    made = of(Filter(longest=60 if reason == "a long answer" else 70, question=20), [item])
    assert [d.reason for d in made.dropped] == ([reason] if reason else [])
    assert len(made.items) + len(made.dropped) == 1


def test_filter_takes_other_phrases_and_lengths():
    items = [Item("q", answer="Leider kann ich das nicht."), Item("r"), Item("s", answer="a b")]
    made = of(Filter(refusals=["leider kann ich"], unanswered=True, shortest=3), items)
    assert [d.reason for d in made.dropped] == ["a refusal", "a short answer"]
    assert [item.instruction for item in made.items] == ["r"]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Deduplicate(threshold=0), "threshold is 0"),
        (lambda: Deduplicate(n=0), "n is 0"),
        (lambda: Decontaminate([]), "empty list"),
        (lambda: Decontaminate(["x"], n=5), "expected 8 to 13"),
        (lambda: Balance(most=0), "most is 0"),
        (lambda: Balance(edges=[3.0, 2.0]), "two or more that go up"),
        (lambda: Filter(shortest=5, longest=4), "longest is 4"),
        (lambda: Filter(repeated=2), "repeated is 2"),
    ],
)
def test_options_out_of_range_are_refused(make, told):
    with pytest.raises(RecipeError, match=told):
        make()
