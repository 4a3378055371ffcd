"""The wire between parties: messages, seats, taps and recordings, replicas."""

from __future__ import annotations

from leakaudit.wire.messages import Alarm, Message
from leakaudit.wire.recording import MessageLog, Recorder, read_tensors, write_tensors
from leakaudit.wire.replica import Replica
from leakaudit.wire.seats import Seat, Secret
from leakaudit.wire.wire import NotFiniteError, Party, Traffic, Wire, WireError

__all__ = [
    "Alarm", "Message", "MessageLog", "NotFiniteError", "Party", "Recorder", "Replica", "Seat", "Secret", "Traffic", "Wire",
    "WireError", "read_tensors", "write_tensors",
]  # fmt: skip
