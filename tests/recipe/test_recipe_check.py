import pytest
from recipe_samples import changed, content, large, quiet_run, small, write

from tutelage.recipe.check import check
from typed import typed


def test_shares_of_the_gradient_add_up_to_1_and_estimates_are_positive(archive):
    for recipe in (small(archive), large(archive)):
        found = check(recipe)
        assert sum(share.share for share in found.shares) == pytest.approx(1)
        assert all(share.gradient > 0 for share in found.shares)
        assert all(seconds > 0 for seconds in found.seconds.values())
        assert set(found.seconds) == {"teacher", "baseline", "student"}
        assert found.memory > 10_000_000


def test_the_shares_are_those_of_the_weights(archive):
    light, heavy = (
        check(changed(small(archive), "objective/1/kd/weight", weight)).shares
        for weight in (0.5, 5)
    )
    assert heavy[1].gradient == pytest.approx(10 * light[1].gradient, rel=1e-4)
    assert heavy[0].gradient == pytest.approx(light[0].gradient, rel=1e-6)
    assert heavy[1].share > light[1].share


def test_a_term_that_is_hardly_heard_is_told(archive):
    warnings = check(changed(small(archive), "objective/1/kd/weight", 1e-5)).warnings
    assert any("kd has 0.0% of the gradient" in line for line in warnings)
    warnings = check(changed(small(archive), "objective/1/kd/weight", 1e4)).warnings
    assert any("kd has 100.0% of the gradient" in line for line in warnings)
    warnings = check(small(archive)).warnings
    assert not any("of the gradient at step 0" in line for line in warnings)


def test_a_check_writes_nothing(archive, tmp_path, monkeypatch):
    path = write(tmp_path / "r.yaml", large(archive))
    before = content(tmp_path)
    code, out, err = typed(monkeypatch, "check", path)
    assert (code, err) == (0, "")
    assert "vgg(widths=[8, 16], per_stage=1)" in out.replace("\n", "")
    assert "estimated time here and now: teacher" in out
    assert content(tmp_path) == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["r.yaml"]


def test_a_teacher_that_an_earlier_run_kept_is_used(archive, tmp_path):
    before = check(small(archive))
    assert before.teacher is None
    assert any("not trained yet" in line for line in before.warnings)
    result = quiet_run(small(archive), tmp_path / "out")
    after = check(small(archive))
    assert after.teacher > 0.4
    assert "teacher" not in after.seconds
    assert not any("not trained yet" in line for line in after.warnings)
    assert result.passed


def test_tuning_is_in_the_estimate(archive):
    plain = check(small(archive)).seconds["student"]
    rates = {"student": {"train.learning_rate": [0.01, 0.02, 0.03, 0.05] * 5}}
    assert check({**small(archive), "tune": rates}).seconds["student"] > 3 * plain


def test_a_recipe_for_several_processes_can_be_checked_in_one(archive):
    found = check(changed(small(archive), "train/parallel", "ddp"))
    assert any("torchrun" in line for line in found.warnings)
