"""The garbage collector, told to leave alone what exists."""

import gc

from async_comfy import tune_gc


def test_what_exists_is_left_alone_and_the_rest_is_looked_at_seldom() -> None:
    before = gc.get_threshold()
    try:
        tune_gc(young=12_345)
        assert gc.get_freeze_count() > 1000
        assert gc.get_threshold()[0] == 12_345
        assert gc.isenabled()
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
