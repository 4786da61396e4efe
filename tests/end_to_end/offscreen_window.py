"""``python offscreen_window.py COMMANDS TEXT NAME SOCKET OPTION...`` runs a Qt console for a test.

The window is on Qt's offscreen platform. Its text is written into the file TEXT, and each line of
the file COMMANDS is executed in the window: ``!METHOD`` calls a method of its widget, ``!picture``
saves a picture of the window as TEXT.png, and any other line is a cell. The file TEXT.done has the
number of executed lines.
"""

import sys
from pathlib import Path

from qtpy import QtCore

from kconnd.jupyter.qtconsole_app import KconndQtConsoleApp

INTERVAL_MS = 50


def main() -> None:
    commands, text = map(Path, sys.argv[1:3])
    KconndQtConsoleApp.kernel, KconndQtConsoleApp.socket = sys.argv[3:5]
    app = KconndQtConsoleApp.instance()
    app.initialize(sys.argv[5:])
    done = 0

    def turn() -> None:
        nonlocal done
        part = text.with_suffix(".part")
        part.write_text(app.widget._control.toPlainText(), encoding="utf-8")
        part.rename(text)
        for line in commands.read_text(encoding="utf-8").splitlines()[done:]:
            done += 1
            if line == "!picture":
                app.window.grab().save(str(text.with_suffix(".png")))
            elif line.startswith("!"):
                getattr(app.widget, line[1:])()
            else:
                app.widget.execute(line)
            text.with_suffix(".done").write_text(str(done), encoding="utf-8")

    timer = QtCore.QTimer()
    timer.timeout.connect(turn)
    timer.start(INTERVAL_MS)
    app.start()


main()
