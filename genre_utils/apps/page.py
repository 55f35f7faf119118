"""The web page: drop posters, see their genres, the words on them, and where the network looked.

Needs Gradio (`pip install 'poster-genres[app]'`); the core never imports this module.
"""

import atexit
import base64
import io
import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import gradio as gr
import keras
import numpy as np
from PIL import Image
from starlette.middleware import Middleware

from genre_utils import plots
from genre_utils.apps import grad_cam
from genre_utils.images import PosterError, read_poster, resize_poster
from genre_utils.machine import trim_heap
from genre_utils.ocr import workers
from genre_utils.predictor import Prediction, Predictor, highest, top_table
from genre_utils.sources import draw_sample
from genre_utils.support import write_csv
from genre_utils.text import join_lines

FOLDER = Path(__file__).parent  # of the style sheet and the script
HERE = "127.0.0.1"
MAX_FILE = 20 * 1024**2  # bytes; a larger one is refused, and the others of its drop are not
MAX_UPLOAD = 100 * 1024**2  # bytes; with a larger file the server refuses the whole drop
MAX_POSTERS = 100  # a drop: the answer is one page
TOO_LARGE = f"the file is larger than {MAX_FILE >> 20} MB"
TOO_MANY = f"more than {MAX_POSTERS} posters came at once"
AT_ONCE = 4  # drops that are predicted at the same time; the others queue
EXPLAINED = 3  # genres a poster that have a Grad-CAM heat map
SHOWN_HEIGHT = 320  # pixels
KEPT = 3600  # seconds that uploads and tables stay on disk
# The slider shows answers again without predicting anew; the oldest visitors' are forgotten.
KEPT_VISITORS = 16

# A browser guesses no types, tells no other page of this one, and gives it no camera. The page may
# stand in another's frame: notebooks show it so.
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)

SHARED = (
    "A public link was asked for: whoever has it can use this page until you stop it, and posters "
    "dropped there travel through Gradio's servers. Without share nobody but you can open it."
)
INTRODUCTION = """# Which genres does this movie or series have?

Drop posters: the model predicts from the picture{words}. A score of 0.6 should be right about 6
times in 10; it is an opinion of a picture, not a fact about a film. A heat map shows where the
network looked for a genre. Uploads are deleted after about an hour, and when the server stops.
"""
WORDS = " and the words on it"
SHOWN = 3  # genres a poster, until the visitor asks for more or fewer
# Left open, which browsers close: so the answers to a drop only grow at their end, and Gradio sends
# what is new instead of all pictures again with every poster.
CARDS = '<div class="posters">'


def safe_headers(app: Callable) -> Callable:
    """Return a server (ASGI) that answers as `app` does, with `HEADERS` in every answer."""

    async def answer(scope: dict, receive: Callable, send: Callable) -> None:
        async def send_more(message: dict) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await app(scope, receive, send_more)

    return answer


class PosterResult(NamedTuple):
    """A prediction of a poster, which is named by its file alone, and the pictures that explain it.

    `pictures` are (caption, description, `data:` address): the poster, then one a top genre. A bad
    file has none.
    """

    found: Prediction
    pictures: Sequence[tuple[str, str, str]] = ()


class ExplainedPredictor:
    """Predicts posters for the page; explains the top genres by Grad-CAM on the picture."""

    def __init__(self, predictor: Predictor, network: keras.Model | None = None):
        self.predictor = predictor
        self.genres = predictor.genres
        self.cam = grad_cam.GradCam(predictor.model.network if network is None else network)

    def __call__(self, paths: Sequence[str]) -> Iterator[PosterResult]:
        """Yield what is known of each poster, in order and as it is done; a bad file's reason.

        The first poster goes alone, so that its answer need not wait for a batch; then come as
        many at once as words are read at once.
        """
        at_once = workers()
        groups = [paths[:1], *(paths[i : i + at_once] for i in range(1, len(paths), at_once))]
        for group in groups:
            # Uploads are deleted after a while; who reads one that is gone says so.
            large = {p for p in group if os.path.exists(p) and os.path.getsize(p) > MAX_FILE}
            small = [path for path in group if path not in large]
            answers = self.predictor.stream(small)
            for path in group:
                refused = Prediction(path, error=TOO_LARGE)
                found = refused if path in large else next(answers)
                found = found._replace(poster=Path(path).name)
                try:
                    pictures = () if found.error else self._pictures(path, found)
                except PosterError as error:  # an upload that was deleted meanwhile
                    found, pictures = Prediction(found.poster, error=error.reason), ()
                yield PosterResult(found, pictures)

    def _pictures(self, path: str, found: Prediction) -> list[tuple[str, str, str]]:
        rgb, best, name = read_poster(path), highest(found.scores, EXPLAINED), found.poster
        heat = self.cam.heat(resize_poster(rgb, self.predictor.model.image_size), best)
        height = min(SHOWN_HEIGHT, len(rgb))
        small = resize_poster(rgb, (height, max(1, round(rgb.shape[1] * height / len(rgb)))))
        pictures = [("poster", f"Poster {name}", _data_address(small))]
        for g, of_genre in zip(best, heat, strict=True):
            about = f"Where the network looked for {self.genres[g]} in {name}"
            pictures.append((self.genres[g], about, _data_address(plots.overlay(small, of_genre))))
        return pictures


def status(results: Sequence[PosterResult], total: int) -> str:
    """Write how many of `total` posters are answered as HTML, with a bar until all are."""
    bad = sum(bool(one.found.error) for one in results)
    told = f"{len(results) - bad} predicted" + (f", {bad} not predicted" if bad else "")
    if len(results) == total:
        return f'<p role="status">Posters: {told}.</p>'
    return (
        f'<p role="status">Posters: {told}, {total - len(results)} to come.</p>'
        f'<progress aria-label="Posters answered" max="{total}" value="{len(results)}"></progress>'
    )


def cards(results: Sequence[PosterResult], genres: Sequence[str], top: int) -> str:
    """Write what is known of some posters as HTML; names and words in it are only text."""
    return CARDS + "".join(_card(one, genres, top) for one in results)


def _card(one: PosterResult, genres: Sequence[str], top: int) -> str:
    found, title = one.found, f"<h2>{escape(one.found.poster)}</h2>"
    if found.error:
        return (
            f'<article role="alert">{title}<p>Not predicted: {escape(found.error)}.</p></article>'
        )
    figures = "".join(
        f'<figure><img src="{address}" alt="{escape(about)}"><figcaption>{escape(caption)}'
        "</figcaption></figure>"
        for caption, about, address in one.pictures[: top + 1]
    )
    text = join_lines(found.lines)
    effects = [f"{effect:+.2f}" if text else "" for effect in found.text_effect]
    rows = "".join(_row(genres[g], found.scores[g], effects[g]) for g in highest(found.scores, top))
    by_words = '<th class="number" title="what the words added to the score">by words</th>'
    head = f"<tr><th>genre</th><th>score</th><th></th>{by_words}</tr>"
    words = f"Words read: {escape(text)}" if text else "No words were read."
    return (
        f'<article>{title}<div class="pictures">{figures}</div>'
        f'<table aria-label="Scores of {escape(found.poster)}"><thead>{head}</thead>'
        f"<tbody>{rows}</tbody></table><p>{words}</p></article>"
    )


def _row(genre: str, score: float, by_words: str) -> str:
    return (
        f'<tr><th scope="row">{escape(genre)}</th>'
        f'<td><meter min="0" max="1" value="{score:.3f}" aria-label="{escape(genre)}"></meter></td>'
        f'<td class="number">{score:.2f}</td><td class="number">{by_words}</td></tr>'
    )


def build_page(predictor: Predictor, folder: Path, network: keras.Model | None = None) -> gr.Blocks:
    """Lay out the page; everything that it writes and serves is below `folder`. See `launch`."""
    os.environ["GRADIO_TEMP_DIR"] = str(folder)  # Gradio's own is shared by all its pages
    predict = ExplainedPredictor(predictor, network)
    drawn = draw_sample(folder / "examples", posters=6, seed=1) / "Images"

    def show(results: list[PosterResult], top: int):
        if not results:
            return "", "", gr.DownloadButton(visible=False)
        file = Path(tempfile.mkdtemp(dir=folder)) / "genres.csv"
        write_csv(file, top_table([one.found for one in results], predict.genres, top))
        return (
            status(results, len(results)),
            cards(results, predict.genres, top),
            gr.DownloadButton(value=str(file), visible=True),
        )

    def answer(paths: list[str] | None, top: float):
        paths, top = paths or [], round(top)  # the field beside the slider takes 2.5
        kept, results, html = paths[:MAX_POSTERS], [], CARDS
        without_table = gr.DownloadButton(visible=False)
        if kept:  # the bar is there before the first answer
            yield results, status(results, len(kept)), "", without_table
        try:
            for one in predict(kept):
                results.append(one)
                html += _card(one, predict.genres, top)
                if len(results) < len(kept):
                    yield list(results), status(results, len(kept)), html, without_table
            for path in paths[MAX_POSTERS:]:
                results.append(PosterResult(Prediction(Path(path).name, error=TOO_MANY)))
            yield results, *show(results, top)
        finally:  # of a visitor who has left, too
            trim_heap()

    def show_again(results: list[PosterResult], top: float):
        # What the server has forgotten still stands in the browser.
        return show(results, round(top)) if results else (gr.skip(), gr.skip(), gr.skip())

    with gr.Blocks(
        title="Poster Genres", analytics_enabled=False, delete_cache=(KEPT // 4, KEPT)
    ) as page:
        has_words = predictor.model.words and (predictor.reader or predictor.cache)
        gr.Markdown(INTRODUCTION.format(words=WORDS if has_words else ""))
        known = gr.State([])
        with gr.Row():
            files = gr.File(
                label=f"Posters ({MAX_POSTERS} at most, of {MAX_FILE >> 20} MB)",
                file_count="multiple",  # of any type: Gradio refuses all for one of another
            )
            with gr.Column():
                how_many = "How many genres to show a poster"
                few, most = min(SHOWN, len(predict.genres)), len(predict.genres)
                top = gr.Slider(1, most, value=few, step=1, label=how_many)
                examples = gr.Dataset(
                    label="Or try a drawn example",
                    elem_id="examples",
                    components=[gr.Image(label="drawn poster", render=False)],
                    samples=[[str(path)] for path in sorted(drawn.iterdir())],
                )
        told = gr.HTML(label="Progress", elem_id="progress")
        shown = gr.HTML(label="Genres", elem_id="genres")
        download = gr.DownloadButton("Download the table as CSV", visible=False)
        # Gradio fails on an empty field beside the slider.
        filled = f"(of, top) => [of, top || {few}]"
        asked = {
            "outputs": [known, told, shown, download],
            "js": filled,
            "concurrency_id": "predict",
            "concurrency_limit": AT_ONCE,
            "show_progress": "minimal",
        }
        gr.on(
            [files.upload, files.clear, files.delete],
            answer,
            [files, top],
            **asked,
            trigger_mode="always_last",  # a poster that is removed meanwhile counts afterwards
            api_name="predict",
        )
        examples.click(answer, [examples, top], **asked, api_visibility="private")
        top.change(
            show_again,
            [known, top],
            [told, shown, download],
            js=filled,
            trigger_mode="always_last",
            api_visibility="private",
        )
    return page


def launch(
    predictor: Predictor,
    port: int | None = None,
    share: bool = False,
    host: str = HERE,
    wait: bool = False,
    network: keras.Model | None = None,
) -> gr.Blocks:
    """Open the page and say where; with `wait`, in the main thread, until Ctrl-C ends it.

    `port` is by default the first free one from 7860. The page can be opened on this machine only,
    unless `host` names another address of it or `share` asks for a public link. `network` is the
    Keras network that Grad-CAM explains; give it where the predictor's runs in ONNX Runtime. Raises
    `OSError` when the port is taken.
    """
    temporary = tempfile.TemporaryDirectory(prefix="poster-genres-page-")
    atexit.register(temporary.cleanup)
    folder = Path(temporary.name).resolve()
    page = build_page(predictor, folder, network)
    style, script = ((FOLDER / f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    if share:
        print(SHARED)
    page.launch(
        server_name=host,
        server_port=port,
        share=share,
        prevent_thread_lock=True,
        max_file_size=MAX_UPLOAD,
        state_session_capacity=KEPT_VISITORS,
        app_kwargs={"middleware": [Middleware(safe_headers)]},
        run_history=False,
        footer_links=[],
        quiet=True,
        css=style,
        js=script,
        theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
    )
    print(f"The page is open at {page.share_url or page.local_url}", flush=True)
    if wait:
        # A service that ends it and a closed terminal do as Ctrl-C does, lest the visitors' posters
        # stay on the disk. What nohup ignores stays ignored.
        for name in {"SIGTERM", "SIGHUP"} & {*dir(signal)}:
            if signal.getsignal(number := getattr(signal, name)) == signal.SIG_DFL:
                signal.signal(number, signal.default_int_handler)
        print("Ctrl-C closes it.", flush=True)
        page.block_thread()
    return page


def _data_address(rgb: np.ndarray) -> str:
    """Put a picture into an address, so that no file of it is ever written or served."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
