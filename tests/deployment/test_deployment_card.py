"""The model card: every figure from the report, nothing invented, and nothing breaks its form."""

import re

import pytest
import torch
import yaml

from tutelage.core.errors import DataError
from tutelage.deployment import model_card
from tutelage.evaluation import DataFacts, Latency, Measured, Predictions, Report, SeedResult


def measured(shift, parameters):
    dice = torch.Generator().manual_seed(shift)
    targets = torch.arange(300) % 3
    logits = torch.randn(300, 3, generator=dice)
    logits[torch.arange(300), targets] += 3 - 0.5 * shift
    predictions = Predictions(logits, targets, torch.arange(300), ("cat", "dog | cow", "ant"))
    latency = Latency(0.5, 0.9, "onnxruntime", 1, 1, 300)
    return Measured(predictions, parameters, 4 * parameters, 10 * parameters, [latency], name="net")


@pytest.fixture
def figures():
    return Report(
        recipe={"name": "small: yes\n# not a head"},
        seed=3,
        teacher=measured(0, 9000),
        student=measured(1, 500),
        baseline=measured(2, 500),
        data=DataFacts("pets & more", 900, 100, 300, labelled=90, origin="by hand, CC0-1.0"),
        seeds=[SeedResult(3, 0.9, 0.8), SeedResult(4, 0.91, 0.8)],
        gates={"ece": 0.0},
        environment={"date": "2026-01-31", "versions": {"torch": "2.13.0"}},
        command="tutelage run pets.yaml",
    ).figures


def head_and_body(card):
    _, head, body = card.split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_head_is_yaml_with_the_reports_figures(figures):
    head, _ = head_and_body(model_card(figures, licence="apache-2.0"))
    assert head["license"] == "apache-2.0"
    assert head["library_name"] == "tutelage"
    assert "datasets" not in head  # these are names on the Hub, and ours is not
    (model,) = head["model-index"]
    (result,) = model["results"]
    found = {metric["type"]: metric["value"] for metric in result["metrics"]}
    student = figures["models"]["student"]
    assert found == {key: round(student[key], 6) for key in ("accuracy", "nll", "ece")}
    assert result["dataset"]["split"] == "test"


def test_the_table_has_all_models_with_intervals_and_one_width(figures):
    _, body = head_and_body(model_card(figures))
    table = [line for line in body.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table} == {5}
    (accuracy,) = (line for line in table if line.startswith("| Accuracy"))
    for role in ("teacher", "student", "baseline"):
        interval = figures["models"][role]["accuracy_interval"]
        assert f"{100 * interval['mean']:.1f} % ({100 * interval['low']:.1f} to" in accuracy


def test_failed_gates_and_weak_classes_are_told(figures):
    _, body = head_and_body(model_card(figures))
    assert "did not meet the conditions" in body
    assert "**failed**: ece" in body
    weakest = min(figures["comparison"]["per_class"], key=lambda row: row["student"])
    assert f"{100 * weakest['student']:.1f} % right of 100 examples" in body


def test_what_nobody_stated_is_not_invented(figures):
    _, body = head_and_body(model_card(figures))
    assert "- Student: not stated" in body
    assert "- Teacher: not stated" in body
    assert "- Data: by hand, CC0-1.0" in body
    head, body = head_and_body(
        model_card(figures, teacher_licence="MIT", intended_use="Counting pets.", files=["s.onnx"])
    )
    assert "license" not in head
    assert "- Teacher: MIT" in body
    assert "Counting pets." in body
    assert "`s.onnx`" in body


def test_names_cannot_break_the_cards_form(figures):
    head, body = head_and_body(model_card(figures))
    assert head["model-index"][0]["name"] == "small: yes # not a head"
    assert "\n# not a head" not in body
    assert "dog \\| cow" in body


def test_a_card_without_a_report_is_refused():
    with pytest.raises(DataError, match="the report has no student"):
        model_card({"schema": 1})
