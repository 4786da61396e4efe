"""Commands of a Qt console go to the daemon, and a new process gets a new prompt."""

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("qtconsole.qtconsoleapp", reason="needs a Qt binding", exc_type=ImportError)

from kconnd.jupyter.kernel_follower import Change
from kconnd.jupyter.qtconsole_app import FollowedWidget


class Widget(FollowedWidget):
    """A widget without a window, which records what happens to it."""

    confirm_restart = False
    _starting = _executing = _prompt_requested = False

    def __init__(self) -> None:
        self.sent: list[tuple[object, ...]] = []
        self.html: list[str] = []
        self.prompts: list[int] = []
        follower = SimpleNamespace(kernel="lab", is_busy=False)
        link: Any = SimpleNamespace(follower=follower, send=lambda *words: self.sent.append(words))
        self.link = link

    def _append_html(self, html: str, *, before_prompt: bool) -> None:
        assert before_prompt
        self.html.append(html)

    def _update_prompt(self, number: int) -> None:
        self.prompts.append(number)


def test_interrupt_and_restart_are_requests_to_the_daemon() -> None:
    widget = Widget()
    widget._interrupt()
    widget._restart()
    assert widget.sent == [("interrupt", {"wait": True}), ("restart", {"wait": False})]


def test_a_new_process_begins_at_the_first_prompt() -> None:
    widget = Widget()
    widget._show_change(Change("lab is stopped"))
    assert widget.prompts == []
    widget._show_change(Change("lab was <restarted>", is_new_process=True))
    assert widget.prompts == [1]
    assert widget.html[-1] == "<br>lab was &lt;restarted&gt;<br>"
