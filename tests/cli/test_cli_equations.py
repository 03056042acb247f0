import pytest

from tutelage.cli.equations import readable


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"\frac{1}{D} \sum_d (s_d - t_d)^2", "1/D Σ_d (s_d - t_d)²"),
        (r"\frac{a}{\|a\|_2}, \quad a_{hw} = |f_{chw}|^p", "a/‖a‖_2,   a_hw = |f_chw|^p"),
        (r"\frac{x - y}{\mu + \epsilon}", "(x - y)/(μ + ε)"),
        (r"\bar x, \hat{y}, \tilde  z", "x̄, ŷ, z̃"),
        (r"\sum_{(i, j) \in pairs} x", "Σ_{(i, j) ∈ pairs} x"),
        (r"\Big[ \mathrm{mean} \, x \Big]", "[ mean x ]"),
        (r"attention\_map(f)", "attention_map(f)"),
        (r"e^{-x / T}", "e^(-x / T)"),
        (r"\unknown{a}", "unknowna"),
        ("", ""),
        (r"x^", "x"),
        (r"a_{b", "a_b"),
    ],
)
def test_equations_become_lines_of_text(latex, text):
    assert readable(latex) == text
