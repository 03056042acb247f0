"""The part ``lost``: damage is found where it was done; what is shown can be looked at."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from evaluation_samples import stripes, subjects
from PIL import Image

from tutelage.core.errors import DataError, RecipeError
from tutelage.core.seeds import generator
from tutelage.data import Groups, TensorSet
from tutelage.evaluation import Predictions
from tutelage.evaluation.examining import examine
from tutelage.evaluation.faces.blocks import Exhibit, Gallery, as_html, as_markdown
from tutelage.evaluation.kept.changes import by_slice, confusions, moved
from tutelage.evaluation.kept.thumbnails import png, row_in_words
from tutelage.evaluation.parts import Lost

CLASSES = ("a", "b", "c", "d", "e", "f")


def answers(said, truth, seed, sure=3.0):
    logits = sure * torch.nn.functional.one_hot(said, len(CLASSES)).float()
    logits = logits + 0.3 * torch.randn(logits.shape, generator=generator(seed, "noise"))
    return Predictions(logits, truth, torch.arange(len(truth)) + 50, CLASSES)


def mistaken(truth, share, seed):
    dice = generator(seed, "mistakes")
    wrong = torch.rand(len(truth), generator=dice) < share
    return torch.where(wrong, (truth + torch.randint(1, 6, truth.shape, generator=dice)) % 6, truth)


def trial(*, seed=0, total=1200, damage=None, groups=None, inputs=None):
    """Teacher and student wrong in a tenth of the cases; ``damage`` is done to the student."""
    truth = torch.arange(total) % 6
    images = torch.rand(total, 1, 5, 5, generator=generator(0, "images"))
    test = TensorSet(
        images if inputs is None else inputs, truth, classes=CLASSES, ids=torch.arange(total) + 50
    )
    student = mistaken(truth, 0.1, 2 * seed + 1)
    student = student if damage is None else damage(student, truth)
    whole = subjects()
    models = {role: whole.models[role] for role in ("teacher", "student", "baseline")}
    found = replace(whole, models=models, test=test, groups=groups or {}, seeds={}, seed=seed)
    for role, said in {
        "teacher": mistaken(truth, 0.1, 2 * seed),
        "student": student,
        "baseline": mistaken(truth, 0.1, 2 * seed + 5000),
    }.items():
        found.know(role, "test", answers(said, truth, seed))
    return found


def told(subjects, **options):
    found = examine(subjects, {"lost": Lost(**options)})["lost"]
    assert found["left_out"] is None
    return found


def texts(found, status):
    return [one["text"] for one in found["findings"] if one["status"] == status]


class TestDamage:
    def test_in_one_class_is_found_there_and_nowhere_else(self):
        found = told(
            trial(
                damage=lambda said, y: torch.where((y == 2) & (torch.arange(1200) % 4 < 2), 3, said)
            )
        )
        (warning,) = texts(found, "warning")
        assert "in the class c" in warning
        assert any("mistakes c for d" in text for text in texts(found, "notice"))
        assert found["figures"]["worst_class"]["name"] == "c"

    def test_in_one_group_is_found_there(self):
        ids, number = torch.arange(1200) + 50, torch.arange(1200) // 6 % 5
        groups = {"camera": Groups("camera", tuple("vwxyz"), ids, number)}
        found = told(
            trial(
                groups=groups,
                damage=lambda said, y: torch.where(
                    (number == 3) & (torch.arange(1200) % 2 == 0), (y + 1) % 6, said
                ),
            )
        )
        (warning,) = texts(found, "warning")
        assert "in the group (camera) y" in warning

    def test_none_is_found_in_clean_twins(self):
        ids, number = torch.arange(1200) + 50, torch.arange(1200) // 6 % 5
        groups = {"camera": Groups("camera", tuple("vwxyz"), ids, number)}
        alarms = sum(
            bool(texts(told(trial(seed=seed, groups=groups)), "warning")) for seed in range(20)
        )
        assert alarms <= 2

    def test_everywhere_alike_singles_out_no_class(self):
        found = told(
            trial(
                damage=lambda said, y: torch.where(
                    torch.arange(1200) // 6 % 3 == 0, (y + 1) % 6, said
                )
            )
        )
        assert texts(found, "warning") == []
        assert any("points lost in all" in text for text in texts(found, "notice"))

    def test_a_better_student_is_told_what_it_gained(self):
        found = told(trial(damage=lambda said, y: y))
        assert found["figures"]["lost"] == 0
        assert any("gained in all" in text for text in texts(found, "fine"))
        assert as_html(Lost().blocks(found["figures"]))


class TestFigures:
    def test_counts_ids_and_order_equal_a_plain_loop(self):
        usual = trial()
        figures = told(usual)["figures"]
        teacher, student = usual.answers("teacher"), usual.answers("student")
        p, q = (one.logits.double().softmax(-1).numpy() for one in (teacher, student))
        y = student.targets.tolist()
        lost = [i for i in range(1200) if p[i].argmax() == y[i] != q[i].argmax()]
        gained = [i for i in range(1200) if p[i].argmax() != y[i] == q[i].argmax()]
        assert (figures["lost"], figures["gained"]) == (len(lost), len(gained))
        lost.sort(key=lambda i: q[i, y[i]] - p[i, y[i]])
        assert figures["lost_ids"] == [i + 50 for i in lost]
        assert set(figures["gained_ids"]) == {i + 50 for i in gained}
        assert figures["lost_sure"] == sum(p[i, y[i]] >= 0.9 for i in lost)
        assert figures["drop"]["mean"] == pytest.approx((len(lost) - len(gained)) / 1200)
        worst = figures["worst"][0]
        assert worst["id"] == lost[0] + 50
        assert worst["teacher_true"] == pytest.approx(p[lost[0], y[lost[0]]])
        assert worst["student_true"] == pytest.approx(q[lost[0], y[lost[0]]])
        wrong = usual.answers("baseline").logits.argmax(-1) != usual.answers("baseline").targets
        assert figures["with_baseline"]["lost_too"] == sum(bool(wrong[i]) for i in lost)

    def test_slices_add_up_and_the_interval_is_that_of_the_difference(self):
        dice = generator(0, "slices")
        first, second = (torch.rand(300, generator=dice) < 0.8 for _ in range(2))
        numbers = torch.randint(-1, 3, (300,), generator=dice)
        rows = by_slice(first, second, numbers, ("x", "y", "z", "none"), level=0.95)
        assert [row["name"] for row in rows] == ["x", "y", "z"]
        assert sum(row["examples"] for row in rows) == int((numbers >= 0).sum())
        for place, row in enumerate(rows):
            inside, rest = numbers == place, (numbers >= 0) & (numbers != place)
            drop = [
                (first[rows].double().mean() - second[rows].double().mean()).item()
                for rows in (inside, rest)
            ]
            assert row["drop"]["mean"] == pytest.approx(drop[0])
            assert row["more"]["mean"] == pytest.approx(drop[0] - drop[1])
            assert row["more"]["low"] < row["more"]["mean"] < row["more"]["high"]
        (alone,) = by_slice(first, second, torch.zeros(300).long(), ("x",), level=0.95)
        assert alone["more"] is None
        assert not alone["clear"]

    def test_the_interval_of_more_holds_the_truth_as_often_as_it_says(self):
        inside = torch.arange(400) < 100
        misses = 0
        for seed in range(200):
            dice = generator(seed, "cover")
            first = torch.rand(400, generator=dice) < 0.9
            second = torch.rand(400, generator=dice) < torch.where(inside, 0.7, 0.85)
            row = by_slice(first, second, (~inside).long(), ("in", "out"), level=0.9)[0]
            misses += not row["more"]["low"] <= 0.15 <= row["more"]["high"]  # two slices: 0.95
        assert misses <= 20

    def test_confusions_count_what_is_more_often_confused(self):
        truth = torch.arange(1200) % 6
        first = answers(mistaken(truth, 0.1, 1), truth, 0)
        said = torch.where(
            (truth == 0) & (torch.arange(1200) % 12 == 0), 5, first.logits.argmax(-1)
        )
        rows = confusions(first, answers(said, truth, 0), level=0.95, most=12)
        assert (rows[0]["true"], rows[0]["answered"], rows[0]["clear"]) == ("a", "f", True)
        assert rows[0]["after"] - rows[0]["before"] > 80
        assert confusions(first, first, level=0.95, most=12) == []

    def test_moved_is_the_other_way_round_when_models_change_places(self):
        truth = torch.arange(60) % 6
        pair = [answers(mistaken(truth, 0.3, seed), truth, seed) for seed in (1, 2)]
        there, back = moved(*pair), moved(*pair[::-1])
        assert torch.equal(there.lost, back.gained)
        assert torch.allclose(there.mass, -back.mass)


class TestPictures:
    @pytest.mark.parametrize("shape", [(1, 7, 5), (3, 7, 5), (2, 7, 5), (3, 100, 50), (1, 1, 1)])
    def test_a_png_is_what_another_library_reads(self, shape):
        image = torch.rand(shape, generator=generator(0, "image"))
        read = np.asarray(Image.open(io.BytesIO(base64.b64decode(png(image)))))
        if max(shape[1:]) > 64:
            assert read.shape == (64, 32, 3)
            return
        shown = image if shape[0] in (1, 3) else image.mean(0, keepdim=True)
        expected = (shown * 255).round().byte().permute(1, 2, 0).squeeze(-1).numpy()
        assert read.shape == expected.shape
        assert (read == expected).all()

    @pytest.mark.parametrize("image", [torch.zeros(3, 3), torch.zeros(1, 2, 2, dtype=torch.uint8)])
    def test_what_is_no_image_is_refused(self, image):
        with pytest.raises(DataError, match="can be shown"):
            png(image)

    def test_a_gallery_has_words_for_those_who_cannot_see_it(self):
        block = Gallery((Exhibit(png(torch.zeros(1, 2, 2)), 'bag & "boot" <id 3>'),), "The worst")
        page = as_html([block])
        assert 'alt="bag &amp; &quot;boot&quot; &lt;id 3&gt;"' in page
        assert 'src="data:image/png;base64,' in page
        assert as_markdown([block]) == '**The worst**\n\n- bag & "boot" <id 3>'

    def test_at_most_as_many_as_asked_for_and_small(self):
        figures = told(trial())["figures"]
        assert len(figures["worst"]) == 24
        assert len(figures["best"]) == 8
        page = as_html(Lost().blocks(figures))
        assert page.count("<img") == 32
        assert page.count("alt=") == 32
        assert len(page) < 60_000
        few = told(trial(), shown=2, gains=0)["figures"]
        assert (len(few["worst"]), few["best"]) == (2, [])

    def test_rows_of_tables_show_what_stands_out(self):
        rows = torch.zeros(1200, 5)
        rows[:, 2] = torch.arange(1200) * 1.0
        figures = told(trial(inputs=rows))["figures"]
        assert figures["worst"][0]["words"].startswith("feature 2 = ")
        assert "Stands out by" in as_html(Lost().blocks(figures))

    def test_features_are_told_by_name_and_constant_ones_do_not_stand_out(self):
        row = torch.tensor([5.0, 1.0, -4.0])
        found = row_in_words(row, torch.zeros(3), torch.tensor([0.0, 1.0, 1.0]), ("x", "y", "z"))
        assert found == "z = −4 (−4.0 sd), y = 1 (+1.0 sd), x = 5 (+0.0 sd)"


class TestEdges:
    def test_a_broken_student_is_said(self):
        usual = trial()
        right = usual.answers("student")
        usual.know("student", "test", replace(right, logits=right.logits * torch.nan))
        assert "NaN" in examine(usual, {"lost": Lost()})["lost"]["left_out"]

    def test_an_absent_class_is_no_row(self):
        usual = subjects(test=stripes(90, 3).take(torch.arange(0, 90, 3)))
        assert [row["name"] for row in told(usual)["figures"]["classes"]] == ["stripe 0"]

    @pytest.mark.parametrize("options", [{"shown": 25}, {"gains": -1}, {"sure": 1.0}])
    def test_options_out_of_range_are_refused(self, options):
        with pytest.raises(RecipeError, match=next(iter(options))):
            Lost(**options)
