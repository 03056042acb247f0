"""The report without a teacher, and as Markdown; answers kept beside it."""

import json
import re

import pytest
import torch
from evaluation_samples import answers, curve, measured, report, subjects

from tutelage.core.errors import DataError
from tutelage.evaluation import page, print_summary, validate_report
from tutelage.evaluation.answers import load_answers, save_answers
from tutelage.evaluation.examining import examine
from tutelage.evaluation.faces.markdown import markdown
from tutelage.evaluation.parts import Cost, Flips


def lone(**changes):
    return report(**{"teacher": None, "gates": {"ece": 0.9}, **changes})


class TestWithoutATeacher:
    def test_the_report_keeps_its_schema(self, tmp_path):
        figures = lone().write(tmp_path)
        validate_report(json.loads((tmp_path / "report.json").read_text()))
        assert figures["models"]["teacher"] is None
        comparison = figures["comparison"]
        for key in ("agreement", "accuracy_change", "control", "negative_flip_rate"):
            assert comparison[key] is None
        assert comparison["confusions"] == []
        for row in comparison["per_class"]:
            assert row["teacher"] is None
            assert row["delta"] is None
            assert not row["clear"]
            assert row["student"] is not None

    def test_the_baseline_is_compared_all_the_same(self):
        figures = lone().figures
        assert figures["comparison"]["gain"]["low"] > 0
        assert figures["comparison"]["mcnemar"]["p"] < 0.05
        told = figures["verdict"]
        assert told["lost"][0].startswith("What was lost is not known: there is no teacher")
        assert "its teacher" not in told["headline"]

    def test_every_face_shows_it(self, capsys):
        figures = lone(baseline=None, seeds=()).figures
        text = page(figures)
        assert "Its weakest class is" in text
        assert "How faithful the student is" not in text
        assert "### The models side by side" in markdown(figures)
        print_summary(figures)
        assert "student" in capsys.readouterr().out

    def test_a_student_of_nan_is_still_said_to_have_collapsed(self):
        good = answers(0.9)
        bad = type(good)(good.logits * float("nan"), good.targets, good.ids, good.classes)
        figures = lone(student=measured(bad)).figures
        validate_report(figures)
        assert figures["verdict"]["status"] == "no"
        assert page(figures)
        assert markdown(figures)


class TestMarkdown:
    def whole(self):
        return markdown(
            report(parts=examine(subjects(), {"cost": Cost(seconds=0.1, calls=3)})).figures
        )

    def test_the_summary_comes_before_the_tables_and_the_proof(self):
        text = self.whole()
        order = [
            "## A student 50× smaller",
            "| accuracy_drop |",
            "### What you gained",
            "### What was lost",
            "### May you ship it?",
            "### What else was found",
            "### The models side by side",
            "<summary>Class by class</summary>",
            "<summary>What an answer costs</summary>",
            "To make it again: `tutelage run recipes/sample.yaml`",
        ]
        places = [text.index(words) for words in order]
        assert places == sorted(places)

    def test_rows_of_every_table_have_as_many_cells(self):
        for block in re.split(r"\n\n", self.whole()):
            lines = [line for line in block.split("\n") if line.startswith("|")]
            cells = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
            assert len(cells) <= 1, block

    def test_gates_that_fail_are_seen_without_colour(self):
        text = markdown(report(gates={"accuracy_drop": 0.001, "p99_ms": 5}).figures)
        assert "✗ **failed**" in text
        assert "✓ passed" in text
        assert "✗ do not ship" in text

    def test_what_a_recipe_or_class_is_called_starts_no_tag(self):
        text = markdown(report().figures)
        assert "<script" not in text
        assert "<b>" not in text
        assert "&lt;b>bag" in text

    def test_a_part_that_could_not_be_asked_says_why(self):
        bare = subjects(models={"student": subjects().models["student"]})
        text = markdown(report(parts=examine(bare, {"flips": Flips()})).figures)
        assert re.search(r"### What could not be asked\n\n- .+: there is no teacher", text)


class TestPage:
    def test_curves_of_arms_named_by_seed_are_drawn(self):
        curves = {"student-3": curve(0.9), "baseline-3": curve(0.8), "teacher": curve(0.9)}
        text = page(report(curves=curves).figures)
        drawn = text[text.index("How it learned") :]
        assert "student alone" in drawn
        assert "lowered" in drawn

    def test_many_findings_in_order_are_folded_below_those_that_matter(self):
        def part(many):
            findings = [{"status": "fine", "text": f"{i} is fine."} for i in range(many)]
            findings.append({"status": "warning", "text": "Something is wrong."})
            whole = {"title": "x", "seconds": 0, "left_out": None, "figures": {}}
            return {"unknown": {**whole, "findings": findings}}

        few, many = (page(report(parts=part(number)).figures) for number in (2, 9))
        assert "more are in order" not in few
        assert "9 more are in order" in many
        assert many.index("Something is wrong") < many.index("9 more are in order")


class TestKeptAnswers:
    def test_they_come_back_as_they_were(self, tmp_path):
        models = {"student": answers(0.9), "teacher": answers(0.95, seed=1)}
        save_answers(tmp_path, models, "f" * 64)
        found = load_answers(tmp_path)
        assert found.fingerprint == "f" * 64
        for role, before in models.items():
            after = found.models[role]
            assert torch.equal(after.logits, before.logits)
            assert torch.equal(after.ids, before.ids)
            assert torch.equal(after.targets, before.targets)
            assert after.classes == before.classes
        assert [path.name for path in tmp_path.iterdir()] == ["answers.safetensors"]

    def test_without_a_file_there_are_none_and_a_broken_one_is_told(self, tmp_path):
        assert load_answers(tmp_path) is None
        (tmp_path / "answers.safetensors").write_bytes(b"broken")
        with pytest.raises(DataError, match="cannot be read"):
            load_answers(tmp_path)
