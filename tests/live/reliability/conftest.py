"""Shorter patience, for tests in which something never comes."""

import pytest

from async_comfy._live import inquiry, submission
from async_comfy.protocol import recovery

SHORT = {
    "SILENCE_S": 0.5,
    "CANARY_S": 0.2,
    "IDLE_S": 0.1,
    "END_MARK_S": 0.1,
    "SETTLE_S": 0.6,
    "WITHDRAWN_S": 0.1,
}


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is waited for in vain is waited for twenty times shorter."""
    for name, seconds in SHORT.items():
        monkeypatch.setattr(recovery, name, seconds)
    monkeypatch.setattr(recovery, "LOOKS_S", (0.02, 0.05, 0.1))
    monkeypatch.setattr(inquiry, "TICK_S", 0.05)
    monkeypatch.setattr(submission, "AMBIGUOUS_S", 0.5)
    monkeypatch.setattr(submission, "PROOF_S", 1.0)
