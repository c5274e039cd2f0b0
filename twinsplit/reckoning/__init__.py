"""Dead reckoning: predictors that two sides run on the same numbers, so that only surprises need a message."""

from twinsplit.reckoning.backlog import MEAN_HORIZON_S as BACKLOG_MEAN_HORIZON_S
from twinsplit.reckoning.backlog import BacklogState, predicted_backlog_s
from twinsplit.reckoning.progress import LEAST_MIRRORED_SHARE, ProgressModel, believed_epoch, task_boundaries_s
from twinsplit.reckoning.queue import expected_queue_length
from twinsplit.reckoning.rates import DecayingRate

__all__ = [
    "BACKLOG_MEAN_HORIZON_S",
    "LEAST_MIRRORED_SHARE",
    "BacklogState",
    "DecayingRate",
    "ProgressModel",
    "believed_epoch",
    "expected_queue_length",
    "predicted_backlog_s",
    "task_boundaries_s",
]
