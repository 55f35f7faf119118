"""The figures in the README and the benchmarks come from files that commands wrote."""

import json
import re
import sys
import tomllib
from pathlib import Path

from conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))


def check_generated(file: Path, sections: dict[str, str], script: str) -> None:
    """Compare what stands between a file's markers with what the script writes there."""
    text = file.read_text("utf-8")
    for name, content in sections.items():
        between = text.split(f"<!-- {name} -->\n")[1].split(f"<!-- end of {name} -->")[0]
        assert between == content + "\n", f"run: python benchmarks/{script}.py"


def test_the_readme_s_figures_and_numbers_of_lines_are_the_generated_ones():
    import readme

    check_generated(ROOT / "README.md", readme.sections(), "readme")
    assert len(readme.SHORT_PATH) == 5


def test_the_tables_of_benchmarks_are_the_generated_ones():
    import report

    check_generated(ROOT / "benchmarks" / "README.md", report.sections(), "report")


def test_the_notebooks_say_what_their_benchmark_measured():
    import report

    import notebooks

    for name, (what, _) in notebooks.RUNS.items():
        file = report.RESULTS / f"notebooks-{name}.json"
        (row,) = json.loads(file.read_text("utf-8"))["rows"]
        text = (ROOT / "notebooks" / f"{name}.py").read_text("utf-8")
        assert f"# | {what} | {row['figure']} |" in text, f"run: {row['command']}"


def test_every_row_of_the_benchmarks_has_a_figure_and_a_command_that_is_there():
    import report

    for file in report.RESULTS.glob("*.json"):
        for row in json.loads(file.read_text("utf-8")).get("rows", []):
            (script,) = re.findall(r"python (benchmarks/\w+\.py)", row["command"])
            assert (ROOT / script).is_file() and re.search(r"\d", row["figure"]), row


def test_what_the_documents_name_is_there():
    for document in ("README.md", "SECURITY.md", "benchmarks/README.md"):
        text = (ROOT / document).read_text("utf-8")
        for name in re.findall(r"`(?:python |tests/)?([\w/]+\.py)\b[^`]*`", text):
            folders = ("", "tests", "benchmarks", "tools/release")
            places = (ROOT / folder / name for folder in folders)
            assert any(place.is_file() for place in places), f"{document} names {name}"


def test_the_readme_names_the_versions_of_python_that_pip_installs_on():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    first, beyond = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups()
    readme = (ROOT / "README.md").read_text("utf-8")
    assert f"Python 3.{first} to 3.{int(beyond) - 1} " in readme
