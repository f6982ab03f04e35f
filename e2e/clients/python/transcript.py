"""What a script saw, in order: the same against the database itself and through a sidecar, or somebody can tell them apart."""

import os
import time

WAY = os.environ["TOUCHSTONE_WAY"]


def say(*words):
    print(*words, flush=True)


class refused:
    """Expects a statement to fail, and says how the driver reports that: its own class, the SQLSTATE, the text."""

    def __init__(self, *classes):
        self.classes = classes or (Exception,)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        assert kind is not None, "nothing was refused"
        if not issubclass(kind, self.classes):
            return False
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        text = error.args[0] if error.args else ""
        if isinstance(text, dict):
            state, text = text["C"], text["M"]
        if isinstance(text, int):
            text = f"{text} {error.args[1]}"
        say("refused:", kind.__name__, state, str(text).splitlines()[0] if text else "")
        return True


class quickly:
    """What is inside ends at once: the deadline is generous to a busy machine, and short beside the 30 s it would take."""

    def __enter__(self):
        self.began = time.monotonic()

    def __exit__(self, *_):
        took = time.monotonic() - self.began
        assert took < 5, f"it took {took:.1f} s"
