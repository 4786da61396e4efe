"""Files of lines NAME=VALUE."""

import pytest

from kconnd.core.launch.envfile import parse_env_file


def test_environment_files() -> None:
    text = '# comment\nA=1\nB=\'two words\' \n\nC=x=y # end\nD="q\\"q"\n'
    assert parse_env_file(text) == {"A": "1", "B": "two words", "C": "x=y", "D": 'q"q'}


@pytest.mark.parametrize("text", ["A", "1A=2", "A='open", "=x", "A-B=1"])
def test_bad_environment_files_name_the_line(text: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        parse_env_file("X=1\n" + text)
