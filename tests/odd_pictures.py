"""A folder of pictures as nobody would want them: cut, lying, huge, foreign, oddly named."""

from __future__ import annotations

import base64
import io
import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

KINDS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP"}

# Nothing at hand writes arithmetic coding: 16 × 16 pixels, by `jpegtran -arithmetic`.
ARITHMETIC_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZG"
    "NywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09P"
    "T09PT09PT09PT09PT09PT09PT09PT09PT0//yQARCAAQABADASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIR"
    "AxEAPwD/AGYIHC0hfM8XlGYZY0LRoKoFhtZCkyrsQ4D/2Q=="
)

# What each file must come to: a prediction, a reason, or one of the two.
PREDICTED, NAMED, EITHER = "predicted", "named", "either"


def make_odd_pictures(folder: Path) -> dict[str, str]:
    """Fill a new folder; gives what each of its entries, by its path in it, must come to."""
    folder.mkdir()
    made: dict[str, str] = {}
    for expected, files in (
        (EITHER, {**_cut(), **_flipped(), **_spoilt()}),
        (NAMED, {**_lying(), **_foreign(), **_bombs()}),
        (
            PREDICTED,
            {**_shapes(), **_modes(), **_turned(), **_ways_to_save(), **_names(), **_texts()},
        ),
    ):
        for name, content in files.items():
            (folder / name).write_bytes(content)
            made[name] = expected
    return made | _no_files(folder)


def sources() -> list[bytes]:
    """One good file of each format, small enough to be damaged a thousand times."""
    shade = picture().resize((24, 36))
    files = [save(shade, kind) for kind in KINDS.values()]
    files += [save(shade, "JPEG", progressive=True), save(shade.convert("CMYK"), "JPEG")]
    files += [save(shade.convert("P"), "PNG"), save(with_alpha(shade), "WEBP", lossless=True)]
    files += [save(shade.quantize(9), "GIF", save_all=True, append_images=[shade.quantize(5)])]
    files += [save(shade, "JPEG", exif=orientation(6)), ARITHMETIC_JPEG]
    return files


def save(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(width: int = 60, height: int = 90) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width]
    grain = np.random.default_rng(0).integers(0, 40, (height, width))
    return Image.fromarray(np.stack([2 * y + grain, 3 * x, 200 - x + grain], -1).astype(np.uint8))


def with_alpha(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


def orientation(number: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = number
    return exif


def png(header: tuple, *chunks: tuple[bytes, bytes]) -> bytes:
    """Write a PNG by hand: (width, height, bits, colour type), then chunks of name and content."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", *header, 0, 0, 0)), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    )


def repair_png(content: bytes) -> bytes:
    """Make a damaged PNG's checksums right again, so that the damage reaches the decoder."""
    repaired, place = bytearray(content), 8
    while place + 12 <= len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4])
        repaired[end : end + 4] = zlib.crc32(content[place + 4 : end]).to_bytes(4)
        place = end + 4
    return bytes(repaired[: len(content)])


def _cut() -> dict[str, bytes]:
    files = {suffix: save(picture(), kind) for suffix, kind in KINDS.items()}
    files["progressive.jpg"] = save(picture(), "JPEG", progressive=True)
    return {
        f"cut at {tenth}0 percent.{suffix}": content[: len(content) * tenth // 10]
        for suffix, content in files.items()
        for tenth in range(1, 10)
    }


def _flipped() -> dict[str, bytes]:
    files = {}
    for suffix, kind in KINDS.items():
        content = np.frombuffer(save(picture(), kind), np.uint8)
        for seed in range(8):
            rng = np.random.default_rng(seed)
            spoilt = content.copy()
            spoilt[rng.integers(0, len(content), 1 + 3 * seed)] ^= 1 << seed
            files[f"flipped {seed}.{suffix}"] = spoilt.tobytes()
    return files


def _spoilt() -> dict[str, bytes]:
    good, jpeg = save(picture(), "PNG"), save(picture(), "JPEG")
    two = save(picture(), "GIF")
    return {
        "checksum.png": good[:-20] + bytes([good[-20] ^ 1]) + good[-19:],
        "no end.png": good[:-12],
        "two headers.png": good[:33] + good[8:],
        "no colours.png": png((4, 4, 8, 3), (b"IDAT", zlib.compress(bytes(20)))),
        "few colours.png": png(
            (4, 4, 8, 3), (b"PLTE", bytes(3)), (b"IDAT", zlib.compress(bytes(range(20))))
        ),
        "text bomb.png": good[:33]
        + png((1, 1, 8, 0), (b"zTXt", b"a\0\0" + zlib.compress(bytes(70_000_000))))[33:-12]
        + good[33:],
        "profile.png": good[:33] + png((1, 1, 8, 0), (b"iCCP", b"p\0\0junk"))[33:-12] + good[33:],
        "bad exif.jpg": save(picture(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"),
        "no tables.jpg": jpeg.replace(b"\xff\xdb", b"\xff\xef"),
        "twelve bits.jpg": jpeg.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),
        "no such frame.gif": two[:-1] + b"\x2c\xff\xff\xff\xff\xff\xff\xff\xff\0;",
        "grey.bmp": save(picture().convert("1"), "BMP")[:70],
    }


def _lying() -> dict[str, bytes]:
    files = {f"empty.{suffix}": b"" for suffix in (*KINDS, "jpeg")}
    files |= {f"text.{suffix}": b"not a picture at all\n" * 9 for suffix in KINDS}
    files |= {f"zeros.{suffix}": bytes(1000) for suffix in KINDS}
    files |= {f"start only.{suffix}": save(picture(), kind)[:4] for suffix, kind in KINDS.items()}
    files["no width.png"] = png((0, 9, 8, 2), (b"IDAT", zlib.compress(b"")))
    files["no height.png"] = png((9, 0, 8, 2), (b"IDAT", zlib.compress(b"")))
    files["no pixels.png"] = png((9, 9, 8, 2))
    files["three bits.png"] = png((9, 9, 3, 2), (b"IDAT", zlib.compress(bytes(400))))
    return files


def _foreign() -> dict[str, bytes]:
    kinds = ["TIFF", "ICO", "JPEG2000", "AVIF", "PPM", "PCX", "TGA", "SGI", "DDS", "EPS", "PDF"]
    kinds += ["ICNS", "BLP", "SPIDER", "MSP", "XBM"]
    modes = {"BLP": "P", "SPIDER": "F", "MSP": "1", "XBM": "1"}
    Image.init()
    files = {
        f"{kind}.{kind.lower()}": save(picture().convert(modes.get(kind, "RGB")), kind)
        for kind in kinds
        if kind in Image.SAVE
    }
    files["tiff.jpg"] = save(picture(), "TIFF")
    files["drawing.svg"] = b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"
    files["drawing.jpg"] = b"<?xml version='1.0'?><!DOCTYPE svg [<!ENTITY a 'aa'>]><svg>&a;</svg>"
    files["phone.heic"] = struct.pack(">I4s4sI8s", 24, b"ftyp", b"heic", 0, b"mif1heic") + bytes(99)
    files["phone.jpg"] = files["phone.heic"]
    files["layers.psd"] = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 9, 9, 8, 3) + bytes(300)
    files["quick.qoi"] = b"qoif" + struct.pack(">IIBB", 9, 9, 3, 0) + b"\xfe\1\2\3" * 81 + bytes(8)
    files["program.jpg"] = b"\x7fELF" + bytes(200)
    files["page.jpg"] = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n"
    files["archive.png"] = b"PK\x03\x04" + bytes(200)
    return files


def _bombs() -> dict[str, bytes]:
    side = 60_000
    jpeg, gif, bmp = (bytearray(save(picture(), kind)) for kind in ("JPEG", "GIF", "BMP"))
    frame = jpeg.index(b"\xff\xc0") + 5
    jpeg[frame : frame + 4] = struct.pack(">HH", side, side)
    gif[6:10] = struct.pack("<HH", side, side)
    bmp[18:26] = struct.pack("<ii", side, side)
    canvas = (side - 1).to_bytes(3, "little") * 2
    webp = b"VP8X" + struct.pack("<IB3x", 10, 2) + canvas
    webp += b"ANIM" + struct.pack("<I6x", 6) + save(picture(), "WEBP")[12:]
    packed = zlib.compress(bytes(26_000_000))
    files = {
        "bomb.jpg": bytes(jpeg),
        "bomb.gif": bytes(gif),
        "bomb.bmp": bytes(bmp),
        "bomb.webp": b"RIFF" + struct.pack("<I", len(webp) + 4) + b"WEBP" + webp,
        "bomb.png": png((side, side, 8, 2), (b"IDAT", packed)),
        "a little too large.png": png((5001, 5001, 8, 0), (b"IDAT", packed)),
    }
    files["hundred passes.jpg"] = many_passes(3000, 100)
    files["hidden passes.jpg"] = hidden_passes(3000, 100)
    return files


def many_passes(side: int, passes: int) -> bytes:
    """Write a progressive JPEG whose last pass over `side` × `side` pixels comes many times."""
    content = save(Image.new("L", (side, side)), "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * passes + b"\xff\xd9"


def hidden_passes(side: int, passes: int) -> bytes:
    """Write such a JPEG whose passes hide behind what decoders step over and a reader might not.

    Before a restart marker stands a byte pair that is no segment, with what looks like its length.
    """
    content = save(Image.new("L", (side, side)), "JPEG", progressive=True, restart_marker_rows=40)
    last = content.rindex(b"\xff\xda")
    restart = next(i for i in range(last, len(content)) if content[i : i + 2] == b"\xff\xd0")
    scan = content[last:restart] + b"\xff\x02\xfe\xfe" + content[restart:-2]
    return content[:last] + scan * passes + b"\xff\xd9"


def _texts() -> dict[str, bytes]:
    """Posters full of words: large letters from edge to edge, and 500 words in tiny print."""
    sides = {"wall of text": ((900, 1350), 44, 9), "tiny print": ((1000, 1500), 17, 20)}
    files = {}
    for name, (size, height, words) in sides.items():
        image = Image.new("RGB", size, "white")
        lines = ["midnight " * words] * 25
        font = ImageFont.load_default(height)
        ImageDraw.Draw(image).multiline_text((5, 5), "\n".join(lines), "black", font)
        files[f"{name}.png"] = save(image, "PNG")
    return files


def _shapes() -> dict[str, bytes]:
    files = {}
    for suffix, kind in KINDS.items():
        for size in ((1, 1), (1, 20_000), (20_000, 1), (3, 2)):
            size = tuple(min(side, 16_383) for side in size) if kind == "WEBP" else size
            files[f"{size[0]} by {size[1]}.{suffix}"] = save(Image.new("RGB", size, "red"), kind)
    return files


def _modes() -> dict[str, bytes]:
    image, modes = picture(), {}
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        deep = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
        converted = deep.convert(mode) if mode.startswith("I") else image.convert(mode)
        modes[f"mode {mode.replace(';', ' ')}.png"] = save(converted, "PNG")
    for mode in ("L", "CMYK", "YCbCr", "1"):
        modes[f"mode {mode}.jpg"] = save(image.convert(mode), "JPEG")
    for mode in ("1", "L", "P", "RGBA"):
        modes[f"mode {mode}.bmp"] = save(image.convert(mode), "BMP")
    palette = image.quantize(4)
    for bits in (1, 2, 4):
        name = f"palette of {bits} bits.png"
        modes[name] = save(image.quantize(2**bits), "PNG", bits=bits)
    modes["clear colour.png"] = save(palette, "PNG", transparency=1)
    modes["clear colours.png"] = save(palette, "PNG", transparency=b"\0\x80\xff")
    modes["clear colour.gif"] = save(palette, "GIF", transparency=0)
    modes["clear grey.png"] = save(image.convert("L"), "PNG", transparency=9)
    modes["clear rgb.png"] = save(image, "PNG", transparency=(1, 2, 3))
    # Adobe's programs store ink upside down and say so in a marker of 16 bytes.
    ink = modes["mode CMYK.jpg"]
    marker = ink.index(b"\xff\xee\x00\x0eAdobe")
    modes["ink without a marker.jpg"] = ink[:marker] + ink[marker + 16 :]
    colours = np.asarray(picture(5, 7)).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in colours)
    modes["sixteen bits.png"] = png((5, 7, 16, 2), (b"IDAT", zlib.compress(rows)))
    return modes


def _turned() -> dict[str, bytes]:
    return {
        f"turned {number}.{suffix}": save(picture(), KINDS[suffix], exif=orientation(number))
        for suffix in ("jpg", "png", "webp")
        for number in (*range(1, 9), 0, 99)
    }


def _ways_to_save() -> dict[str, bytes]:
    image = picture()
    frames = [image.rotate(angle) for angle in (90, 180)]
    animated = {"save_all": True, "append_images": frames, "duration": 90}
    files = {
        "progressive.jpg": save(image, "JPEG", progressive=True),
        "arithmetic.jpg": ARITHMETIC_JPEG,
        "all colours.jpg": save(image, "JPEG", subsampling=0, quality=100),
        "restarts.jpg": save(image, "JPEG", restart_marker_blocks=1),
        "worst.jpg": save(image, "JPEG", quality=1),
        "trailing.jpg": save(image, "JPEG") + b"\xff\xda\0\2" * 200_000,
        "profile.jpg": save(image, "JPEG", icc_profile=bytes(200_000)),
        "film.gif": save(image, "GIF", **animated),
        "film.webp": save(image, "WEBP", **animated),
        "film.png": save(image, "PNG", **animated),
        "film.jpg": save(image, "MPO", save_all=True, append_images=frames),
        "comment.gif": save(image, "GIF", comment=b"x" * 60_000),
        "lossless.webp": save(with_alpha(image), "WEBP", lossless=True),
        "alpha.webp": save(with_alpha(image), "WEBP"),
        "large.jpg": save(Image.new("RGB", (7000, 7000), "navy"), "JPEG"),
    }
    wrong = zip(KINDS.values(), [*list(KINDS)[1:], "jpg"], strict=True)
    files |= {f"it is a {kind}.{suffix}": save(image, kind) for kind, suffix in wrong}
    return files


def _names() -> dict[str, bytes]:
    content = save(picture(), "JPEG")
    names = [
        "a poster.jpg",
        " leading space.jpg",
        "emoji 🎬💀.jpg",
        "new\nline.jpg",
        "tab\tand\rreturn.jpg",
        "screen\x1b[2Jcleared.jpg",
        "-leading dash.jpg",
        "--top.jpg",
        ".hidden.jpg",
        "=HYPERLINK(1).jpg",
        "+1.jpg",
        "@sum.jpg",
        "quote\"and'.jpg",
        "comma,semicolon;.jpg",
        "percent%s{0}.jpg",
        "$(touch evil).jpg",
        "七人の侍.jpg",
        "\u202egpj.exe.jpg",
        "UPPER.JPG",
        "no suffix",
        "x" * 246 + ".jpg",
    ]
    return dict.fromkeys(names, content)


def _no_files(folder: Path) -> dict[str, str]:
    (folder / "folder.jpg").mkdir()
    (folder / "folder.jpg" / "inside.png").write_bytes(save(picture(), "PNG"))
    (folder / "folder.png").mkdir()
    (folder / "plain folder").mkdir()
    made = {"folder.jpg": NAMED, "folder.png": NAMED}
    made[os.path.join("folder.jpg", "inside.png")] = PREDICTED
    os.mkfifo(folder / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as bound:
        # By its short name: an address of a socket has at most 107 bytes.
        here = os.open(folder, os.O_RDONLY)
        bound.bind(f"/proc/self/fd/{here}/socket.jpg")
        os.close(here)
    links = {
        "dangling.jpg": "nowhere.jpg",
        "loop.jpg": "loop.jpg",
        "up": "..",
        "zeros.jpg.png": "/dev/zero",
        "link.jpg": "a poster.jpg",
    }
    for name, target in links.items():
        (folder / name).symlink_to(target)
    made |= dict.fromkeys(["pipe.jpg", "socket.jpg", *links], NAMED)
    return made | {"link.jpg": PREDICTED}
