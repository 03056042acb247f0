"""How a request is turned down: a status and one line."""


class Refused(Exception):
    """A request that gets no prediction.

    Attributes:
        status: Of HTTP, 4xx or 503.
        line: What was wrong, and what to do: one line.

    Example:
        >>> Refused(415, "send application/json").status
        415
    """

    def __init__(self, status: int, line: str):
        super().__init__(line)
        self.status, self.line = status, " ".join(line.split())[:400]
