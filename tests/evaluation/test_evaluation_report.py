"""The report: its schema, what its sentences say in each case, and a page that needs nothing."""

import json
import math
import re
from html.parser import HTMLParser
from io import StringIO

import pytest
import torch
from evaluation_samples import answers, curve, measured, report
from rich.console import Console

from tutelage.core.errors import DataError, RecipeError
from tutelage.evaluation import (
    GATES,
    DataFacts,
    Predictions,
    SeedResult,
    accuracy,
    check_gates,
    page,
    print_summary,
    validate_report,
)
from tutelage.evaluation.wording import percent


def words(figures):
    verdict = figures["verdict"]
    return " ".join([verdict["headline"], *verdict["gained"], *verdict["lost"], *verdict["ship"]])


class Seen(HTMLParser):
    """Tags, their attributes and ids of a page; complains about tags that do not match."""

    void = frozenset({"meta", "br", "path", "use", "rect", "circle", "line", "image", "hr"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.open, self.links = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "src", "xlink:href", "srcset", "data", "action"):
                self.links.append(value)
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.void:
            assert self.open.pop() == tag


class TestFile:
    def test_the_file_is_json_of_the_schema_without_nan(self, tmp_path):
        report().write(tmp_path)
        text = (tmp_path / "report.json").read_text()
        found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
        validate_report(found)
        assert found["schema"] == 1
        student = found["models"]["student"]
        assert student["latency_ms"] == {
            "p50": 0.5, "p99": 1.0, "backend": "onnxruntime", "threads": 1, "batch": 1, "calls": 300
        }  # fmt: skip
        assert student["latency_more"][0]["backend"] == "torch"
        predictions = report().student.predictions
        assert student["accuracy"] == accuracy(predictions.logits, predictions.targets)
        written = sorted(path.name for path in tmp_path.iterdir())
        assert written == ["report.html", "report.json", "report.md"]

    def test_a_failed_write_leaves_the_older_file_and_no_other(self, tmp_path, monkeypatch):
        report().write(tmp_path)
        before = (tmp_path / "report.json").read_text()
        monkeypatch.setattr("os.fsync", lambda number: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            report(seed=7).write(tmp_path)
        assert (tmp_path / "report.json").read_text() == before
        assert len(list(tmp_path.iterdir())) == 3

    def test_a_student_of_nan_gives_nulls_and_says_so(self):
        good = answers(0.9)
        broken = Predictions(good.logits * math.nan, good.targets, good.ids, good.classes)
        figures = report(student=measured(broken)).figures
        validate_report(figures)
        json.dumps(figures, allow_nan=False)
        assert figures["models"]["student"]["nll"] is None
        assert figures["comparison"]["agreement"] is None
        assert figures["verdict"]["status"] == "no"
        assert "800 of 800 examples are NaN or infinite" in words(figures)

    def test_an_infinite_figure_becomes_null_with_a_note(self):
        good = answers(0.9)
        sure = good.logits.clone()
        sure[0] = -torch.inf
        sure[0, (good.targets[0] + 1) % 4] = 0.0
        student = measured(Predictions(sure, good.targets, good.ids, good.classes))
        figures = report(student=student).figures
        validate_report(figures)
        assert figures["models"]["student"]["nll"] is None
        assert figures["models"]["student"]["accuracy"] is not None
        assert "models.student.nll is inf: it is left empty." in figures["notes"]

    def test_agreement_stands_beside_that_of_a_student_that_never_met_the_teacher(self):
        whole = report()
        figures = whole.figures
        control = figures["comparison"]["control"]["agreement"]
        teacher, alone = whole.teacher.predictions.logits, whole.baseline.predictions.logits
        assert control == (teacher.argmax(1) == alone.argmax(1)).double().mean().item()
        assert f"agrees with it on {percent(control)}" in page(figures)
        assert report(baseline=None).figures["comparison"]["control"] is None

    def test_long_curves_are_thinned_but_keep_their_ends(self):
        rows = [{"step": i, "epoch": i / 9, "ce": 1.0} for i in range(5000)]
        figures = report(curves={"student": rows + curve(0.9)[-1:]}).figures
        kept = figures["curves"]["student"]
        assert len(kept) <= 202
        steps = [row["step"] for row in kept]
        assert steps == sorted(steps)
        assert steps[0] == 0
        assert 4999 in steps
        assert any("validation_accuracy" in row for row in kept)

    @pytest.mark.parametrize(
        ("path", "value", "message"),
        [
            (["schema"], 2, "report.schema is 2"),
            (["models", "student", "macs"], 1.5, "report.models.student.macs is 1.5"),
            (["models", "teacher", "accuracy"], 93.5, "teacher.accuracy is 93.5: a share"),
            (["models", "teacher", "latency_ms", "p99"], "1", "latency_ms.p99 is '1': a number"),
            (["comparison", "per_class", 0, "clear"], 1, r"per_class\[0\].clear is 1: true or"),
            (["comparison", "gain"], [], "report.comparison.gain is list: an object"),
            (["notes"], [3], r"report.notes\[0\] is 3: text"),
            (["environment", "load"], math.nan, "report.environment.load is nan"),
        ],
    )
    def test_data_that_breaks_the_schema_is_refused_with_its_path(self, path, value, message):
        figures = json.loads(json.dumps(report().figures))
        place = figures
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        with pytest.raises(DataError, match=message):
            validate_report(figures)

    def test_every_promised_key_is_demanded(self):
        figures = report().figures
        for part in ("models", "comparison", "gates", "environment", "notes", "recipe", "seed"):
            rest = {key: value for key, value in figures.items() if key != part}
            with pytest.raises(DataError, match=f"has no '{part}'"):
                validate_report(rest)

    def test_predictions_on_other_examples_are_refused(self):
        good = answers(0.9)
        other = Predictions(good.logits, good.targets, good.ids + 1, good.classes)
        with pytest.raises(DataError, match="not the same in the same order"):
            _ = report(baseline=measured(other)).figures


class TestComparison:
    def test_flips_and_accuracies_add_up(self):
        figures = report().figures
        comparison, models = figures["comparison"], figures["models"]
        change = models["student"]["accuracy"] - models["teacher"]["accuracy"]
        flips = comparison["positive_flip_rate"] - comparison["negative_flip_rate"]
        assert change == pytest.approx(flips)
        assert change == pytest.approx(comparison["accuracy_change"]["mean"])

    def test_a_damaged_class_is_found_and_no_other_is_named(self):
        teacher = answers(0.95, seed=5, total=2000)
        damaged = teacher.logits.clone()
        hurt = (teacher.targets == 1) & (torch.arange(2000) % 3 == 0)
        damaged[hurt] = damaged[hurt].roll(2, -1)
        student = Predictions(damaged, teacher.targets, teacher.ids, teacher.classes)
        found = report(teacher=measured(teacher), student=measured(student), baseline=None).figures
        clear = [row["class"] for row in found["comparison"]["per_class"] if row["clear"]]
        assert clear == ["coat"]
        assert found["comparison"]["confusions"][0]["true"] == "coat"
        assert found["comparison"]["confusions"][0]["answered"] == "boot"
        lost = " ".join(found["verdict"]["lost"])
        assert "in this class: coat (−" in lost

    def test_clean_twins_raise_no_alarm_over_many_runs(self):
        alarms = 0
        for seed in range(40):
            first, second = (answers(0.9, seed=2 * seed + i, total=600) for i in (0, 1))
            figures = report(teacher=measured(first), student=measured(second), baseline=None)
            alarms += any(row["clear"] for row in figures.figures["comparison"]["per_class"])
        assert alarms <= 5  # at most 5 % of runs are expected to raise one

    def test_an_absent_class_is_empty_not_zero(self):
        whole = answers(0.9)
        kept = whole.targets != 3
        some = Predictions(whole.logits[kept], whole.targets[kept], whole.ids[kept], whole.classes)
        figures = report(
            teacher=measured(some), student=measured(some), baseline=None, gates={}
        ).figures
        validate_report(figures)
        absent = figures["comparison"]["per_class"][3]
        assert absent["examples"] == 0
        assert absent["student"] is None
        assert absent["delta"] is None


class TestVerdict:
    def test_a_gain_beyond_doubt_is_said_with_its_interval_and_seeds(self):
        figures = report().figures
        assert figures["comparison"]["gain"]["method"].startswith("Student's t on paired")
        assert "Distillation helped: +10.7 points" in words(figures)
        assert "over 3 seeds" in words(figures)
        assert "the teacher gained it 10.7 points" in figures["verdict"]["headline"]

    def test_a_gain_whose_interval_includes_0_is_not_claimed(self):
        seeds = [SeedResult(0, 0.90, 0.89), SeedResult(1, 0.91, 0.92), SeedResult(2, 0.90, 0.89)]
        figures = report(seeds=seeds).figures
        assert "Distillation was not shown to help" in words(figures)
        assert "includes 0" in words(figures)
        assert "Distillation helped" not in words(figures)

    def test_a_loss_by_distillation_is_called_so(self):
        seeds = [SeedResult(i, 0.80 + 0.001 * i, 0.90) for i in range(3)]
        assert "Distillation hurt: −9.9 points" in words(report(seeds=seeds).figures)

    def test_one_seed_gives_an_interval_over_examples_and_a_warning(self):
        figures = report(seeds=[SeedResult(0, 0.9, 0.8)]).figures
        assert figures["comparison"]["gain"]["method"] == "paired bootstrap over examples"
        assert "not the luck of training" in words(figures)

    @pytest.mark.parametrize("count", [1, 2])
    def test_fewer_than_three_seeds_claim_nothing_of_the_teacher(self, count):
        seeds = [SeedResult(i, 0.9 + 0.001 * i, 0.8) for i in range(count)]
        said = words(report(seeds=seeds).figures)
        assert "Distillation helped" not in said
        assert "gained it" not in said
        assert "This student is ahead" in said
        assert "takes 3 seeds or more" in said

    def test_a_seed_without_a_figure_is_left_out_of_the_gain_and_shown_empty(self):
        seeds = [SeedResult(0, 0.9, 0.8), SeedResult(1, None, 0.8), SeedResult(2, 0.92, 0.8)]
        figures = report(seeds=seeds).figures
        validate_report(figures)
        assert figures["comparison"]["gain"]["seeds"] == 2
        assert "not measured" in page(figures)

    def test_without_a_baseline_nothing_is_claimed_of_the_teacher(self):
        figures = report(baseline=None, seeds=[]).figures
        validate_report(figures)
        assert figures["models"]["baseline"] is None
        assert "Whether the teacher helped is not known" in words(figures)

    def test_a_collapsed_student_is_named_first_and_never_ships(self):
        good = answers(0.9)
        same = torch.tensor([0.0, 5.0, 0.0, 0.0]).repeat(len(good), 1)
        student = measured(Predictions(same, good.targets, good.ids, good.classes))
        figures = report(student=student, gates={"ece": 1.0}).figures
        assert figures["verdict"]["headline"].startswith("The student collapsed: it answers 'coat'")
        assert figures["verdict"]["status"] == "no"
        assert figures["verdict"]["ship"][0].startswith("No: a collapsed model")
        assert "Distillation helped" not in words(figures)
        assert "fewer parameters" not in words(figures)

    def test_gates_decide_and_a_failing_one_is_quoted(self):
        assert report().figures["verdict"]["status"] == "yes"
        figures = report(gates={"ece": 1.0, "accuracy_drop": 0.01}).figures
        assert figures["verdict"]["status"] == "no"
        assert [gate["passed"] for gate in figures["gates"]] == [True, False]
        assert "the gate accuracy_drop asks for at most 1 point." in words(figures)
        assert report(gates={}).figures["verdict"]["status"] == "open"

    def test_it_says_what_chose_and_how_often_the_test_split_was_read(self):
        figures = report().figures
        assert "Epoch and learning rate were chosen on 500 validation examples" in words(figures)
        assert "test split of 800 examples was opened once" in words(figures)
        assert "5,000 examples, 300 of them with labels" in words(figures)
        again = DataFacts("sample", 5000, 500, 800, test_opened=2)
        assert "too good by an unknown amount" in words(report(data=again).figures)

    def test_a_student_that_is_neither_smaller_nor_faster_is_not_praised(self):
        figures = report(student=measured(answers(0.9, seed=2), 50_000, 6.0)).figures
        assert "Not smaller" in words(figures)
        assert "Not faster" in words(figures)


class TestGates:
    def test_every_gate_can_be_judged_and_both_ways(self):
        known = {name: gate for name, gate in GATES.items() if not name.startswith("perplexity")}
        ends = {name: (-1, 1) if gate.of_shares else (1e-12, 1e12) for name, gate in known.items()}
        wide = {name: ends[name][gate.at_most] for name, gate in known.items()}
        assert all(gate["passed"] for gate in report(gates=wide).figures["gates"])
        narrow = {name: ends[name][not gate.at_most] for name, gate in known.items()}
        assert not any(gate["passed"] for gate in report(gates=narrow).figures["gates"])

    def test_what_was_not_measured_was_not_met(self):
        figures = report(baseline=None, seeds=[], gates={"gain": -1.0}).figures
        assert figures["gates"][0]["value"] is None
        assert figures["verdict"]["status"] == "no"

    @pytest.mark.parametrize(
        ("gates", "message"),
        [
            ({"acuracy": 1}, "no gate 'acuracy'. Did you mean 'accuracy"),
            ({"ece": "low"}, "'ece' has the threshold 'low': give a number"),
            ({"ece": True}, "'ece' has the threshold True"),
            ({"ece": math.nan}, "threshold nan: give a finite number"),
            ({"p99_ms": math.inf}, "threshold inf: give a finite number"),
            (
                {"accuracy_drop": 2},
                r"^gate 'accuracy_drop' is a share: 2 points are 0\.02, got 2\.$",
            ),
            ({"accuracy": 90}, r"'accuracy' is a share: 90 points are 0\.9, got 90\."),
            ({"gain": -1.5}, r"'gain' is a share: -1\.5 points are -0\.015"),
            ({"p99_ms": 0}, "'p99_ms' needs a threshold above 0, got 0"),
            ({"speedup": -2}, "'speedup' needs a threshold above 0, got -2"),
        ],
    )
    def test_a_wrong_gate_is_refused_in_one_line(self, gates, message):
        with pytest.raises(RecipeError, match=message):
            check_gates(gates)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    report().write(folder)
    return (folder / "report.html").read_text()


class TestPage:
    def test_it_loads_nothing_and_runs_nothing(self, text):
        seen = Seen(text)
        assert not seen.open
        assert all(link.startswith("#") for link in seen.links)
        assert not {"script", "link", "iframe", "object", "embed", "img"} & set(seen.tags)
        assert not re.search(r"@import|url\((?!#)", text)
        assert "http" not in text

    def test_what_a_stranger_wrote_is_text_not_markup(self, text):
        assert "<script" not in text
        assert "&lt;script&gt;alert(1)" in text
        assert "<b>bag" not in text
        assert "<net>" not in text

    def test_it_holds_all_pictures_with_a_description_and_unique_ids(self, text):
        seen = Seen(text)
        assert seen.tags.count("svg") == 5
        assert text.count('role="img" aria-label="') == 5
        assert len(seen.ids) == len(set(seen.ids))
        referred = {link[1:] for link in seen.links} | set(re.findall(r"url\(#([^)]*)\)", text))
        assert referred <= set(seen.ids)

    def test_pictures_follow_the_themes_colours(self, text):
        drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
        assert "var(--student)" in drawn
        assert not re.findall(r"#[0-9a-f]{6}\b", drawn)
        assert "prefers-color-scheme: dark" in text

    def test_all_sentences_and_figures_are_on_it(self, text):
        figures = report().figures
        for part in ("gained", "lost", "ship"):
            assert figures["verdict"][part]
        plain = re.sub(r"<[^>]*>", " ", text).replace("&nbsp;", " ")
        for phrase in ("Distillation helped: +10.7 points", "ONNX Runtime, 1 thread, batch 1",
                       "PyTorch, 1 thread", "50.0 k", "tutelage run recipes/sample.yaml",
                       "2026-01-31", "torch 2.13.0", "McNemar"):  # fmt: skip
            assert phrase in plain

    def test_a_report_with_hardly_anything_in_it_is_a_page_too(self, tmp_path):
        good = answers(0.9)
        broken = Predictions(good.logits * math.nan, good.targets, good.ids, good.classes)
        bare = report(
            teacher=measured(broken), student=measured(broken), baseline=None, seeds=[],
            gates={}, environment={}, curves={}, command="", recipe="name",
        )  # fmt: skip
        bare.write(tmp_path)
        seen = Seen((tmp_path / "report.html").read_text())
        assert not seen.open
        assert seen.tags.count("svg") == 0


def test_the_terminal_shows_the_table_and_plain_sentences():
    out = StringIO()
    print_summary(report().figures, Console(file=out, width=120))
    text = out.getvalue()
    for phrase in ("teacher", "student alone", "Parameters", "Latency, ONNX Runtime",
                   "Distillation helped", "all 2 gates passed"):  # fmt: skip
        assert phrase in text
    assert "<" not in text.replace("<net>", "")
