"""Pictures of clients as PNG files, in the folder that ``KCONND_PICTURES`` names."""

import os
import re
from pathlib import Path

import matplotlib as mpl
from PIL import Image, ImageDraw, ImageFont

MAX_LINES = 16  # of a terminal, from its end
WIDTH_PX, LINE_PX, FONT_PX = 860, 18, 14
FONT = "fonts/ttf/DejaVuSansMono.ttf"
SIGNATURE = b"\x89PNG"
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|[^\n\x20-\x7e\xa0-\uffff]")


def picture_path(name: str) -> Path | None:
    """Return where to keep a picture; None if no pictures are wanted."""
    folder = os.environ.get("KCONND_PICTURES")
    return Path(folder) / f"{name}.png" if folder else None


def keep_picture(name: str, content: bytes) -> None:
    """Check that a client has made a picture, and keep it if pictures are wanted."""
    assert content.startswith(SIGNATURE)
    if path := picture_path(name):
        path.write_bytes(content)


def draw_terminal(name: str, shown: str) -> None:
    """Draw the last lines that a terminal has shown, if pictures are wanted."""
    path = picture_path(name)
    if path is None:
        return
    lines = _CONTROLS.sub("", shown).splitlines()[-MAX_LINES:]
    image = Image.new("RGB", (WIDTH_PX, LINE_PX * (len(lines) + 1)), "white")
    font = ImageFont.truetype(str(Path(mpl.get_data_path(), FONT)), FONT_PX)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((LINE_PX // 2, LINE_PX // 2 + number * LINE_PX), line, "black", font)
    image.save(path, optimize=True)
