"""The cards of a package: what the Hub can read, licences, and limits with their figures."""

import re
import shutil

import pytest
import yaml

from package_samples import contents, finished_run
from tutelage.core.errors import RecipeError
from tutelage.deployment.licences import hub_licence
from tutelage.deployment.rmf import SUBCATEGORIES
from tutelage.recipe.packaging import package_run

# Subcategories of the framework's core, by category: NIST AI 100-1, tables 1 to 4.
CORE = {
    "GOVERN": (7, 3, 2, 3, 2, 2),
    "MAP": (6, 3, 5, 2, 2),
    "MEASURE": (3, 13, 3, 3),
    "MANAGE": (4, 4, 2, 3),
}


def head(card):
    return yaml.safe_load(card.split("---\n")[1])


@pytest.fixture(scope="module")
def stated(tmp_path_factory):
    place = tmp_path_factory.mktemp("cards") / "p"
    licences = {"student": "Apache-2.0", "teacher": "Ours | not yours", "data": "CC-BY-4.0"}
    package_run(finished_run(), place, licences=licences)
    return {path.name: path.read_text() for path in place.iterdir() if path.suffix == ".md"}


def test_licences_go_where_the_cards_had_none(stated):
    model, data = stated["MODEL_CARD.md"], stated["DATA_CARD.md"]
    assert head(model)["license"] == "apache-2.0"
    assert "- Student: Apache-2.0\n- Teacher: Ours \\| not yours\n- Data: CC-BY-4.0\n" in model
    assert head(data)["license"] == "cc-by-4.0"
    assert "- Licence: CC-BY-4.0" in data


def test_a_licence_that_nobody_stated_says_how_to_state_it():
    model, data = (contents()[name].decode() for name in ("MODEL_CARD.md", "DATA_CARD.md"))
    for role in ("student", "teacher", "data"):
        line = f"- {role.capitalize()}: not stated (`tutelage package --licence-{role} NAME`"
        assert line in model
    assert "- Licence: not stated (`tutelage package --licence-data NAME` states it)" in data
    assert "license" not in head(model) | head(data)


@pytest.mark.parametrize(
    ("card", "licence", "says"),
    [
        ("- Teacher: MIT\n", "GPL-3.0", "got 'GPL-3.0', and the card states 'MIT'"),
        ("nothing\n", "MIT", "the card has no line '- Teacher: not stated'"),
        ("- Teacher: not stated\n", "a\nb", "expected a name in one line"),
        ("- Teacher: not stated\n", " ", "expected a name in one line"),
    ],
)
def test_a_licence_against_the_card_is_one_line(card, licence, says, tmp_path):
    run = shutil.copytree(finished_run(), tmp_path / "run")
    (run / "MODEL_CARD.md").write_text(card)
    with pytest.raises(RecipeError, match=says):
        package_run(run, tmp_path / "p", licences={"teacher": licence})
    assert not (tmp_path / "p").exists()


def test_the_same_licence_twice_is_no_quarrel(tmp_path):
    run = shutil.copytree(finished_run(), tmp_path / "run")
    (run / "MODEL_CARD.md").write_text("---\nlicense: mit\n---\n- Student: MIT\n")
    package_run(run, tmp_path / "p", licences={"student": "MIT"})
    card = (tmp_path / "p" / "MODEL_CARD.md").read_text()
    assert card == (run / "MODEL_CARD.md").read_text()


def test_a_name_the_hub_does_not_know_is_another():
    assert hub_licence("My Own, v2") == {"license": "other", "license_name": "my-own-v2"}
    assert hub_licence("§§") == {"license": "other", "license_name": "unnamed"}


def test_the_hubs_own_reader_understands_both_cards(stated):
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    model = hub.ModelCard(stated["MODEL_CARD.md"]).data
    assert (model.license, model.pipeline_tag) == ("apache-2.0", "image-classification")
    found = {each.metric_type: each for each in model.eval_results}
    assert set(found) == {"accuracy", "nll", "ece"}
    assert {each.task_type for each in found.values()} == {"image-classification"}
    assert found["accuracy"].dataset_split == "test"
    assert 0 <= found["accuracy"].metric_value <= 1
    data = hub.DatasetCard(stated["DATA_CARD.md"]).data
    assert data.task_categories == ["image-classification"]
    assert data.size_categories == ["n<1K"]
    assert [each["num_examples"] for each in data.dataset_info["splits"]] == [400, 100, 100]


def test_every_number_of_the_mapping_is_one_of_the_framework(stated):
    assert sum(map(sum, CORE.values())) == SUBCATEGORIES == 72
    numbers = re.findall(r"^\| (\w+) (\d+)\.(\d+) \|", stated["nist_ai_rmf.md"], re.MULTILINE)
    assert len(numbers) == len(set(numbers)) > 30
    for function, category, number in numbers:
        assert 1 <= int(category) <= len(CORE[function])
        assert 1 <= int(number) <= CORE[function][int(category) - 1]


def test_energy_is_not_claimed_and_third_parties_are_where_the_framework_has_them(stated):
    lines = {line[2:14].split(" |")[0]: line for line in stated["nist_ai_rmf.md"].splitlines()}
    assert "**Not answered here.** Neither energy nor" in lines["MEASURE 2.12"]
    assert "sbom.json" in lines["MAP 4.1"]
    assert "**Not answered here.**" in lines["GOVERN 6.1"]


def test_limits_that_the_proof_found_are_told_with_their_figures():
    import json

    from tutelage.deployment import model_card

    report = json.loads(contents()["report.json"])
    findings = [
        {"status": "fine", "text": "All is well with 5 things."},
        {"status": "notice", "text": "It leans by 3.1 points."},
        {"status": "warning", "text": "Brightness costs | 10.5 points."},
    ]
    report["parts"] = {
        "corruption": {"left_out": None, "findings": findings},
        "fairness": {"left_out": "the data names no groups", "findings": []},
    }
    limits = model_card(report).split("## Limits")[1].split("\n## ")[0]
    warned, leaned = limits.index("costs \\| 10.5 points"), limits.index("leans by 3.1 points")
    assert warned < leaned
    assert "(report.json, parts.corruption)" in limits
    assert "All is well" not in limits
    assert "not looked at: fairness (the data names no groups)." in limits
