"""Tables for papers."""

from modeledit_jax.report.latex import escaped, latex_table


def test_a_table_has_its_columns_rules_and_cells():
    text = latex_table(["method", "a %", "b"], [["ppo-shift", "1.0", "−2"]])
    assert text.splitlines() == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"method & a \% & b \\",
        r"\midrule",
        r"ppo-shift & 1.0 & $-$2 \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert latex_table(["a", "b"], [], texts=2).startswith(r"\begin{tabular}{ll}")


def test_signs_that_latex_reads_as_commands_are_written_out():
    assert escaped("50 % of a_b & {c} #1 $") == r"50 \% of a\_b \& \{c\} \#1 \$"
    assert escaped(r"\x ~ ^") == r"\textbackslash{}x \textasciitilde{} \textasciicircum{}"
