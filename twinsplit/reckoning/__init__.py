"""Dead reckoning: predictors that two sides run on the same numbers, so that only surprises need a message."""

from twinsplit.reckoning.backlog import BacklogState, predicted_backlog_s
from twinsplit.reckoning.progress import ProgressModel, task_boundaries_s

__all__ = ["BacklogState", "ProgressModel", "predicted_backlog_s", "task_boundaries_s"]
