"""A user's own posters, in the three layouts that the README names: trained on and predicted."""

import pandas as pd
import pytest
from conftest import run_notebook

from genre_utils.__main__ import main

pytestmark = pytest.mark.slow


def one_hot(rows: pd.DataFrame) -> pd.DataFrame:
    return rows["Genre"].str.get_dummies("|").assign(filename=rows["Id"] + ".jpg")


def list_column(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(Genre=[str(names.split("|")) for names in rows["Genre"]])


def split_column(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.rename(columns={"Id": "imdb_id", "Genre": "genres"})


@pytest.mark.parametrize("layout", [one_hot, list_column, split_column])
def test_own_posters_are_trained_on_and_predicted(layout, sample_folder, tmp_path, capsys):
    known = pd.read_csv(sample_folder / "train.csv", keep_default_na=False)
    names = known["Genre"].str.findall(r"'([^']+)'")
    rows = pd.DataFrame({"Id": known["Id"], "Genre": names.str.join("|")})
    rows = rows[rows["Genre"].ne("N/A")].head(60)
    data = tmp_path / "my posters"
    (data / "posters").mkdir(parents=True)
    for poster in rows["Id"]:
        picture = (sample_folder / "Images" / f"{poster}.jpg").read_bytes()
        (data / "posters" / f"{poster}.jpg").write_bytes(picture)
    layout(rows).to_csv(data / "labels.csv", index=False)
    model = tmp_path / "model"
    run_notebook(
        "train",
        tmp_path,
        DATA=str(data),
        MODEL="efficientnet_lite0",
        SECOND_MODEL="",
        IMG_SIZE=64,
        EPOCHS=1,
        READ_TEXT="no",
        OUTPUT_DIR=str(model),
    )
    assert (model / "MODEL_CARD.md").exists()
    file = tmp_path / "genres.csv"
    arguments = ["predict", str(data / "posters"), "--model", str(model), "--csv", str(file)]
    assert main(arguments) == 0
    table = pd.read_csv(file)
    assert len(table) == 3 * len(rows) and table["error"].isna().all()
    assert set(table["genre"]) <= set("|".join(rows["Genre"]).split("|"))
