"""Log lines for machines: one JSON object a line, on stderr."""

import json
import sys
from datetime import UTC, datetime
from typing import Any


def log(event: str, **facts: Any) -> None:
    """Write one line: when, what, and its facts.

    Example:
        >>> import io
        >>> from contextlib import redirect_stderr
        >>> with redirect_stderr(io.StringIO()) as written:
        ...     log("swapped", version="0123456789ab")
        >>> sorted(json.loads(written.getvalue()))
        ['event', 'time', 'version']
    """
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = json.dumps({"time": moment, "event": event, **facts}, ensure_ascii=False, default=str)
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):  # nobody reads on: serving goes on
        return
