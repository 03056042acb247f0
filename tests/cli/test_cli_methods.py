import json

import pytest

from tutelage.cli import methods
from tutelage.core.catalogue import Card
from tutelage.core.errors import RecipeError
from tutelage.core.registry import kinds, names
from typed import typed


def test_json_lists_everything_that_is_registered(monkeypatch):
    code, out, err = typed(monkeypatch, "methods", "--json")
    rows = json.loads(out)
    assert (code, err) == (0, "")
    assert {(row["kind"], row["name"]) for row in rows} == {
        (kind, name) for kind in kinds() for name in names(kind)
    }
    assert {"objective", "adapter", "model", "data", "augment", "optimizer", "schedule"} <= {
        row["kind"] for row in rows
    }
    for row in rows:
        assert {"kind", "name", "paper", "arxiv", "year", "needs", "options"} <= set(row)
        assert isinstance(row["needs"], list)
        assert isinstance(row["options"], dict)


def test_json_of_one_name_is_a_list_of_one(monkeypatch):
    _, out, _ = typed(monkeypatch, "methods", "dkd", "--json")
    (row,) = json.loads(out)
    assert (row["arxiv"], row["year"]) == ("2203.08679", 2022)
    assert row["options"]["beta"] == {
        "type": "float",
        "default": 8.0,
        "about": "Weight of the other classes' term.",
    }
    assert (row["knowledge"], row["suggested_weight"]) == ("response", 1.0)
    assert row["suggested_for"].startswith("beside 1 of cross entropy")
    assert row["needs"] == ["targets", "teacher"]


def test_a_table_for_each_kind_names_everything(monkeypatch):
    code, out, _ = typed(monkeypatch, "methods")
    assert code == 0
    for kind in kinds():
        assert f"\n{kind} " in f"\n{out}"
        for name in names(kind):
            assert name in out


def test_one_kind_can_be_listed(monkeypatch):
    _, out, _ = typed(monkeypatch, "methods", "schedule")
    assert "one_cycle" in out
    assert "kd" not in out


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in kinds() for name in names(kind)]
)
def test_every_name_is_shown_whole_and_without_marks(monkeypatch, kind, name):
    code, out, _ = typed(monkeypatch, "methods", f"{kind}/{name}")
    assert code == 0
    assert out.startswith(f"{name}  (")
    assert f"({kind})" in out
    for mark in (".. math::", "``", ":math:", "\\frac", "\\sum", "Args:", "\x00"):
        assert mark not in out


def test_an_objective_is_shown_with_equation_options_paper_and_weight(monkeypatch):
    _, out, _ = typed(monkeypatch, "methods", "kd")
    text = " ".join(out.split())
    assert "T² KL(pᵀ ‖ qᵀ), mean over units" in text
    assert "Suggested weight: 0.9 at T = 4" in text
    assert "temperature │ float │ 4.0" in text
    assert "paper: Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network" in text
    assert "in a recipe: objective: [{kd: {weight: 0.9}}]" in text
    _, out, _ = typed(monkeypatch, "methods", "match")
    assert "{match: {weight: 100, pairs: ...}}" in out


def test_a_wrong_name_is_one_line_with_the_nearest(monkeypatch):
    code, out, err = typed(monkeypatch, "methods", "kdd")
    assert (code, out) == (2, "")
    assert err == ("tutelage: there is no method called 'kdd'. Did you mean 'kd' or 'kdsvd'?\n")
    assert typed(monkeypatch, "methods", "kdd", "--json")[0] == 2


def test_a_name_that_two_kinds_have_is_told_apart_by_the_kind():
    def card(kind):
        return Card(kind, "twin", "", None, None, None, None, (), {}, "")

    with pytest.raises(RecipeError, match="names 2 things: write adapter/twin or model/twin"):
        methods.find("twin", [card("adapter"), card("model")])
    assert methods.find("model/twin", [card("adapter"), card("model")]).kind == "model"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run"], "Missing argument"),
        (["runn", "x"], "No such command 'runn'"),
        (["run", "x", "--sett", "1"], "No such option"),
        (["run", "x", "--set"], "requires an argument"),
        (["check", "a", "b"], "extra argument"),
        (["methods", "kd", "dkd"], "extra argument"),
    ],
)
def test_a_wrong_word_on_the_command_line_is_one_line(monkeypatch, words, says):
    code, out, err = typed(monkeypatch, *words)
    assert (code, out) == (2, "")
    assert says in err
    assert err.count("\n") == 1
    assert err.startswith("tutelage: ")


def test_no_words_at_all_are_a_question_for_help(monkeypatch):
    code, out, err = typed(monkeypatch)
    assert (code, err) == (0, "")
    assert "Usage: " in out
    assert typed(monkeypatch, "--version")[1].startswith("tutelage 0.")


def test_of_several_processes_the_first_one_speaks(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert typed(monkeypatch, "methods", "kdd") == (2, "", "")
    monkeypatch.setenv("RANK", "0")
    assert typed(monkeypatch, "methods", "kdd")[2].count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(name):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(methods, "plain", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        typed(monkeypatch, "methods", "--json")
