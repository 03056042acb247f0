"""The command line in this process."""

import io
from contextlib import redirect_stderr, redirect_stdout

from tutelage.cli import main as command_line


def typed(monkeypatch, *words):
    """What ``tutelage WORDS`` comes to: exit status, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr("sys.argv", ["tutelage", *map(str, words)])
    with redirect_stdout(out), redirect_stderr(err):
        try:
            command_line.main()
        except SystemExit as end:
            return end.code, out.getvalue(), err.getvalue()
    raise AssertionError("the command line did not end with an exit status")
