"""The page's answers, asked for as its own front end does, without a browser."""

import base64
import io
import os
import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from genre_utils import models
from genre_utils.ocr import Line
from genre_utils.predictor import Prediction, Predictor
from genre_utils.sources.sample import draw_poster

gr = pytest.importorskip("gradio", reason="the page needs Gradio: pip install -e '.[app]'")
client = pytest.importorskip("gradio_client")
httpx = pytest.importorskip("httpx")
AT_ONCE = 4


@pytest.fixture(scope="module")
def page(trained, predictor):
    from genre_utils.apps import page as page_module

    # As the command opens it: scores by ONNX Runtime, Grad-CAM by Keras.
    page = page_module.launch(Predictor.load(trained), network=predictor.model.network)
    yield page
    page.close()


def visit(page):
    """Come to a page; gives what asks it for the top genres of some files: HTML and the table."""
    # On a busy machine, an answer of the server may take more than httpx' five seconds.
    asking = client.Client(page.local_url, verbose=False, httpx_kwargs={"timeout": 120})

    def predict(*files, top: int = 3) -> tuple[str, pd.DataFrame]:
        handed = [client.handle_file(str(file)) for file in files]
        told, shown, download = asking.predict(handed, top, api_name="/predict")
        file = download["value"] if isinstance(download, dict) else download
        return told + shown, pd.read_csv(file)

    return predict


@pytest.fixture(scope="module")
def predict(page):
    return visit(page)


@pytest.fixture
def another_page(page, predictor, monkeypatch):
    """A second page, which remembers one visitor."""
    from genre_utils.apps import page as page_module

    monkeypatch.setenv("GRADIO_TEMP_DIR", os.environ.get("GRADIO_TEMP_DIR", ""))
    monkeypatch.setattr(page_module, "KEPT_VISITORS", 1)
    another = page_module.launch(predictor)
    yield another
    another.close()


def upload(page, name: str, content: bytes) -> str:
    """Upload a file; gives where the page keeps it."""
    answer = httpx.post(f"{page.local_url}gradio_api/upload", files={"files": (name, content)})
    (path,) = answer.json()
    return path


@pytest.fixture
def poster(tmp_path):
    file = tmp_path / "-night.jpg"
    draw_poster(["Horror"], np.random.default_rng(0)).save(file)
    return file


def test_a_poster_and_a_bad_file_are_answered_as_predict_does(predict, predictor, poster, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_text("no picture")
    shown, table = predict(poster, bad)
    expected = predictor.predict(poster)
    assert table["genre"].tolist()[:3] == expected["genre"].tolist()
    assert table["score"].to_numpy()[:3] == pytest.approx(expected["score"], abs=1e-5)
    assert table["poster"].tolist() == ["'-night.jpg"] * 3 + ["bad.jpg"], "no formula in the CSV"
    assert "Not predicted: not a picture in a known format" in shown
    # The poster itself, and where the network looked for each of its three genres.
    addresses = re.findall(r'src="([^"]{30})', shown)
    assert len(addresses) == 4 and all(a.startswith("data:image/jpeg") for a in addresses)


@pytest.mark.parametrize(("top", "genres"), [(5, 5), (2.4, 2)])
def test_the_slider_and_its_field_say_how_many_genres(predict, poster, top, genres):
    shown, table = predict(poster, top=top)
    assert shown.count("<meter") == len(table) == genres


def test_the_page_reports_nothing_to_the_makers_of_gradio(page):
    assert not page.analytics_enabled


def test_fifty_at_once_queue_and_are_all_answered(predict, poster, monkeypatch):
    from genre_utils.apps import page as page_module

    at_work, most, whole = [], [0], page_module.ExplainedPredictor.__call__

    def counted(self, paths):
        at_work.append(paths)
        most[0] = max(most[0], len(at_work))
        yield from whole(self, paths)
        at_work.pop()

    monkeypatch.setattr(page_module.ExplainedPredictor, "__call__", counted)
    with ThreadPoolExecutor(50) as visitors:
        answers = list(visitors.map(lambda _: predict(poster), range(50)))
    for shown, table in answers:
        assert shown == answers[0][0] and table.equals(answers[0][1])
    assert 1 < most[0] <= AT_ONCE


def test_names_and_words_are_text_and_no_markup():
    from genre_utils.apps import page as page_module

    scores, corners = np.array([0.9, 0.1]), ((0, 0), (1, 0), (1, 1), (0, 1))
    lines = [Line("<script>x</script>", 0.9, corners)]
    good = Prediction("<b>.jpg", scores, lines, scores, None)
    bad = Prediction("<u>.jpg", None, [], None, "<s>")
    results = [page_module.PosterResult(good, [("A", "<i>", "data:,")])]
    results.append(page_module.PosterResult(bad))
    html = page_module.cards(results, ["<A>", "B"], 2)
    assert "&lt;script&gt;x&lt;/script&gt;" in html and "Not predicted: &lt;s&gt;" in html
    assert not re.search("<(b|i|u|s|A|script)>", html)


def test_a_card_has_a_map_a_genre_and_what_the_words_read_did():
    from genre_utils.apps import page as page_module

    scores, effect = np.array([0.2, 0.9, 0.5]), np.array([0.0, 0.25, -0.1])
    pictures = [(name, name, "data:,") for name in ("poster", "B", "C", "A")]
    line = Line("words", 0.9, ((0, 0), (1, 0), (1, 1), (0, 1)))
    row = r'"row">(\w)<.*?value="(.*?)".*?number">(.*?)<.*?number">(.*?)<'
    for lines, effects in (([line], ["+0.25", "-0.10"]), ([], ["", ""])):
        found = Prediction("a.jpg", scores, lines, effect if lines else np.zeros(3))
        html = page_module.cards([page_module.PosterResult(found, pictures)], "ABC", 2)
        rows = [("B", "0.900", "0.90", effects[0]), ("C", "0.500", "0.50", effects[1])]
        assert re.findall(row, html) == rows
        assert re.findall("<figcaption>(.*?)<", html) == ["poster", "B", "C"]
        told = "Words read: words" if lines else "No words were read."
        assert html.endswith(f"<p>{told}</p></article>")


@pytest.mark.parametrize(("size", "shown"), [((40, 60), (40, 60)), ((1, 900), (1, 320))])
def test_a_poster_is_shown_no_larger_than_it_is(predictor, tmp_path, size, shown):
    from genre_utils.apps.page import ExplainedPredictor

    Image.new("RGB", size).save(tmp_path / "a.png")
    (result,) = ExplainedPredictor(predictor)([str(tmp_path / "a.png")])
    for _, _, address in result.pictures:
        picture = base64.b64decode(address.partition(",")[2])
        assert Image.open(io.BytesIO(picture)).size == shown


def test_the_drawn_examples_last_as_long_as_the_page(page):
    (examples,) = (block for block in page.blocks.values() if isinstance(block, gr.Dataset))
    assert all(Path(picture["path"]).is_file() for (picture,) in examples.samples)


def test_each_heat_map_stands_with_its_genre(predictor, poster, monkeypatch):
    from genre_utils.apps import page as page_module

    explained = page_module.ExplainedPredictor(predictor)
    explained.cam = SimpleNamespace(heat=lambda pixels, genres: genres)
    grey = {g: np.full((8, 8, 3), 10 * g, np.uint8) for g in range(len(predictor.genres))}
    monkeypatch.setattr(page_module.plots, "overlay", lambda small, of_genre: grey[of_genre])
    (result,) = explained([str(poster)])
    assert len(result.pictures) == 4
    for genre, about, address in result.pictures[1:]:
        picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
        assert round(picture.getpixel((0, 0))[0] / 10) == predictor.genres.index(genre)
        assert genre in about


def test_a_page_without_posters_shows_nothing(page):
    answer = next(block.fn for block in page.fns.values() if block.name == "answer")
    ((results, told, shown, download),) = answer(None, 3)
    assert results == [] and told == shown == "" and not download.visible


def test_no_file_outside_its_own_folder_is_read_or_served(page, predict, poster, tmp_path):
    predict(poster)  # the page does answer
    for path in (poster, "/etc/passwd", tmp_path / ".." / poster.name):
        answer = httpx.get(f"{page.local_url}gradio_api/file={path}")
        assert answer.status_code in (403, 404), path
    named = {"path": str(poster), "meta": {"_type": "gradio.FileData"}}
    asked = httpx.post(f"{page.local_url}gradio_api/call/predict", json={"data": [[named], 3]})
    told = httpx.get(
        f"{page.local_url}gradio_api/call/predict/{asked.json()['event_id']}", timeout=60
    )
    assert "event: error" in told.text and "meter" not in told.text


def test_what_is_uploaded_is_handed_back_as_a_file_and_never_shown(page):
    path = upload(page, "evil.html", b"<script>alert(1)</script>")
    headers = httpx.get(f"{page.local_url}gradio_api/file={path}").headers
    assert "html" not in headers["content-type"]
    assert headers["content-disposition"].startswith("attachment")


def test_a_file_over_the_server_s_limit_is_refused(page):
    from genre_utils.apps.page import MAX_UPLOAD

    large = {"files": ("large.jpg", b"\0" * (MAX_UPLOAD + 1))}
    answer = httpx.post(f"{page.local_url}gradio_api/upload", files=large)
    assert answer.status_code == 413


def test_bad_files_among_many_are_refused_alone(predict, poster, tmp_path):
    from genre_utils.apps.page import MAX_FILE

    contents = {"a.html": b"<script>alert(1)</script>", "empty.jpg": b"", "notes": b"no picture"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    with open(tmp_path / "large.jpg", "wb") as file:
        file.truncate(MAX_FILE + 1)
    bad = [*(tmp_path / name for name in contents), tmp_path / "large.jpg"]
    shown, table = predict(bad[0], poster, *bad[1:], top=1)
    assert "1 predicted, 4 not predicted" in shown
    assert table["error"].isna().tolist() == [False, True, False, False, False]
    assert table["error"].iloc[-1] == "the file is larger than 20 MB"
    assert "<script>" not in shown


def test_an_upload_that_was_deleted_is_named_and_the_others_are_answered(
    trained, predictor, poster, tmp_path
):
    from genre_utils.apps.page import ExplainedPredictor

    explained = ExplainedPredictor(predictor)
    found = [result.found for result in explained([str(tmp_path / "gone.jpg"), str(poster)])]
    assert [one.poster for one in found] == ["gone.jpg", poster.name]
    assert [one.error for one in found] == ["there is no such file", None]


def test_an_upload_that_is_deleted_after_its_prediction_is_named_too(
    trained, predictor, poster, tmp_path, monkeypatch
):
    from genre_utils.apps.page import ExplainedPredictor

    explained = ExplainedPredictor(predictor)
    uploads = [tmp_path / name for name in ("0.jpg", "1.jpg")]
    for upload in uploads:
        upload.write_bytes(poster.read_bytes())
    stream = predictor.stream

    def stream_and_delete(paths):
        for found in stream(paths):
            if Path(found.poster) == uploads[0]:
                uploads[0].unlink()
            yield found

    monkeypatch.setattr(predictor, "stream", stream_and_delete)
    found = [result.found for result in explained([*map(str, uploads)])]
    assert [one.error for one in found] == ["there is no such file", None]
    assert found[0].scores is None


def test_answers_are_shown_as_they_are_done_with_a_bar(page, predictor, poster, monkeypatch):
    asked = []
    stream = type(predictor).stream

    def watched(self, paths):
        asked.append(len(paths))
        return stream(self, paths)

    monkeypatch.setattr(type(predictor), "stream", watched)
    asking = client.Client(page.local_url, verbose=False)
    job = asking.submit([client.handle_file(str(poster))] * 5, 1, api_name="/predict")
    job.result()
    assert asked[0] == 1, "the first answer waits for no other"
    steps = [(told, shown.count("<article")) for told, shown, _ in job.outputs()]
    assert [count for _, count in steps[:6]] == [0, 1, 2, 3, 4, 5]
    for told, count in steps[:5]:
        assert f'max="5" value="{count}"' in told and f"{5 - count} to come" in told
    assert "<progress" not in steps[5][0] and "5 predicted" in steps[5][0]


def test_what_was_shown_only_grows_so_that_pictures_travel_once(page, poster):
    asking = client.Client(page.local_url, verbose=False)
    job = asking.submit([client.handle_file(str(poster))] * 3, 1, api_name="/predict")
    job.result()
    shown = [html for _, html, _ in job.outputs()]
    assert all(after.startswith(before) for before, after in zip(shown, shown[1:], strict=False))


def test_of_too_many_posters_the_first_are_judged(predict, poster, monkeypatch):
    from genre_utils.apps import page as page_module

    monkeypatch.setattr(page_module, "MAX_POSTERS", 2)
    shown, table = predict(poster, poster, poster, top=1)
    assert table["error"].isna().tolist() == [True, True, False]
    assert "2 predicted, 1 not predicted" in shown and "posters came at once" in shown


def test_a_page_does_not_serve_what_was_uploaded_to_another(page, another_page):
    path = upload(page, "poster.jpg", b"private")
    assert httpx.get(f"{page.local_url}gradio_api/file={path}").status_code == 200
    upload(another_page, "poster.jpg", b"private")  # lies at the same place below its own folder
    assert httpx.get(f"{another_page.local_url}gradio_api/file={path}").status_code == 403


def test_the_oldest_visitors_posters_are_forgotten(another_page, poster):
    for _ in range(2):
        visit(another_page)(poster)
    assert len(another_page.state_holder.session_data) == 1


def test_memory_is_given_back_after_each_drop(predict, poster, monkeypatch):
    from genre_utils.apps import page as page_module

    trimmed = []
    monkeypatch.setattr(page_module, "trim_heap", lambda: trimmed.append(1))
    predict(poster)
    assert trimmed == [1]


def test_the_slider_leaves_answers_that_the_server_has_forgotten(page):
    (again,) = (block.fn for block in page.fns.values() if block.name == "show_again")
    assert list(again([], 5)) == [gr.skip()] * 3


def test_uploads_and_tables_do_not_outlive_the_page(another_page, poster):
    """The same sweep, by age, runs while it is open."""
    visit(another_page)(poster)
    folder = Path(another_page.app.uploaded_file_dir)
    left = {"-night.jpg", "genres.csv"}
    assert left <= {file.name for file in folder.rglob("*")}
    another_page.close()
    assert not left & {file.name for file in folder.rglob("*")}


def test_it_opens_on_this_machine_only_and_says_when_the_port_is_taken(
    page, predictor, monkeypatch
):
    from genre_utils.apps import page as page_module

    # Gradio has one folder for all pages of a process: that of the newest, which is none here.
    monkeypatch.setenv("GRADIO_TEMP_DIR", os.environ["GRADIO_TEMP_DIR"])
    assert page.local_url.startswith("http://127.0.0.1:") and page.share_url is None
    with pytest.raises(OSError, match=str(page.server_port)):
        page_module.launch(predictor, port=page.server_port)


def test_every_answer_tells_the_browser_to_guess_and_tell_nothing(page):
    for path in ("", "config", "gradio_api/file=/etc/passwd"):
        headers = httpx.get(f"{page.local_url}{path}").headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "no-referrer", path
        assert "camera=()" in headers["permissions-policy"], path


@pytest.mark.parametrize(
    ("cache", "said"), [(None, "picture."), ({"sum": []}, "picture and the w")]
)
def test_a_page_fits_two_genres_and_says_whether_words_count(tmp_path, monkeypatch, cache, said):
    from genre_utils.apps import page as page_module

    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    network = models.build_model("seed_cnn", 80, ("Drama", "War"))
    model = SimpleNamespace(network=network, words=object())
    few = SimpleNamespace(model=model, genres=("Drama", "War"), reader=None, cache=cache)
    blocks = page_module.build_page(few, tmp_path).blocks.values()
    (slider,) = (block for block in blocks if isinstance(block, gr.Slider))
    assert slider.value == slider.maximum == 2
    (examples,) = (block for block in blocks if isinstance(block, gr.Dataset))
    assert len(examples.samples) == 6
    (told,) = (block.value for block in blocks if isinstance(block, gr.Markdown))
    assert f"predicts from the {said}" in told


@pytest.mark.parametrize("share", [True, False])
def test_a_public_link_is_made_only_when_asked_for_and_said(monkeypatch, capsys, share):
    from genre_utils.apps import page as page_module

    given = {}
    link = "https://public.link" if share else None
    opened = SimpleNamespace(launch=given.update, share_url=link, local_url="http://here")
    monkeypatch.setattr(page_module, "build_page", lambda *_: opened)
    page_module.launch(None, share=share)
    printed = capsys.readouterr().out
    assert f"The page is open at {link or 'http://here'}" in printed
    assert (page_module.SHARED in printed) == given["share"] == share
    assert given["server_name"] == "127.0.0.1"


def test_a_signal_that_is_ignored_stays_so(tmp_path, monkeypatch, capsys):
    from genre_utils.apps import page as page_module

    handlers = {}
    nohup = {signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_IGN}
    opened = SimpleNamespace(launch=lambda **_: None, share_url="", local_url="here")
    opened.block_thread = lambda: print("it waits")
    monkeypatch.setattr(page_module, "build_page", lambda *_: opened)
    monkeypatch.setattr(signal, "getsignal", nohup.get)
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    page_module.launch(None, wait=True)
    assert handlers == {signal.SIGTERM: signal.default_int_handler}
    assert capsys.readouterr().out.endswith("Ctrl-C closes it.\nit waits\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_page_that_is_ended_leaves_no_poster_on_the_disk(tmp_path, poster, name):
    (tmp_path / "temporary").mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "genre_utils", "app", "--port", str(port)]
    place = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    with subprocess.Popen(command, env=place, stdout=subprocess.PIPE, text=True) as running:
        try:
            address = next(line.split()[-1] for line in running.stdout if "page is open" in line)
            with open(poster, "rb") as file:
                httpx.post(f"{address}gradio_api/upload", files={"files": file})
            assert list((tmp_path / "temporary").rglob(f"*{poster.stem.lstrip('-')}*"))
            assert "Ctrl-C" in next(running.stdout)
            running.send_signal(getattr(signal, name))
            running.wait(timeout=120)
        finally:
            running.kill()
    assert not list((tmp_path / "temporary").glob("poster-genres-page-*"))
