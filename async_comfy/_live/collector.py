"""Python's garbage collector, for processes that keep tens of thousands of prompts in flight."""

import gc

YOUNG = 50_000  # new containers until the youngest are looked at; Python's own choice is 700
PASSES = (20, 100)  # of the youngest to one of the middle, of the middle to one of all


def tune_gc(*, young: int = YOUNG) -> None:
    """Makes the garbage collector look less often, and never again at what exists now. Opt-in.

    For a process that keeps tens of thousands of prompts in flight: each waiting task, future and handle is
    something that the collector follows, again and again, and while it looks at all of them no event is
    delivered: for hundreds of milliseconds (`make bench-full` prints how long). Call it once, when everything
    is imported and before the prompts are sent. What is freed by reference counts, nearly all of it, is freed
    as ever; garbage in cycles waits longer and takes more memory meanwhile.

    Args:
        young: how many new containers make it look at the youngest.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, *PASSES)
