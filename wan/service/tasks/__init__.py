"""The life of a task, from request to result."""

from .manager import TaskManager
from .request import RunRequest

__all__ = ["RunRequest", "TaskManager"]
