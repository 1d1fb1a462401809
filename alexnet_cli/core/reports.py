"""How the core speaks while it works: it calls a `Reporter`, which does nothing unless a caller gives its own (stdlib only)."""


class Reporter:
    """Receives what a running verb has to say; every method does nothing here."""

    def note(self, text: str) -> None:
        """Take one line of plain information."""

    def warn(self, text: str) -> None:
        """Take one line that the user should not miss."""

    def fail(self, message: str, hint: str) -> None:
        """Take the last words of a process that cannot end in the usual way."""

    def start(self, task: str, total: int | None, unit: str, *, done: int = 0) -> None:
        """Begin a bar of `total` units, None where nobody knows; `done` were done in an earlier process. One bar at a time."""

    def advance(self, amount: int = 1, **figures: float) -> None:
        """Move the bar on; figures (loss, rates, shares, bytes) are shown beside it."""

    def finish(self) -> None:
        """End the bar."""
