"""The README's figures come from files that commands wrote."""

import sys

from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))


def test_the_table_of_figures_is_the_generated_one():
    import readme

    text = (ROOT / "README.md").read_text("utf-8")
    between = text.split(readme.MARKERS[0] + "\n")[1].split(readme.MARKERS[1])[0]
    assert between == readme.table(), "run: python benchmarks/readme.py"


def test_the_tables_of_benchmarks_are_the_generated_ones():
    import report

    text = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    for name, content in report.sections().items():
        between = text.split(f"<!-- {name} -->\n")[1].split(f"<!-- end of {name} -->")[0]
        assert between == content + "\n", "run: python benchmarks/report.py"
