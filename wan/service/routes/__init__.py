"""The HTTP side: each room's handlers, wrapped so that refusals become problem documents."""

from .apps import app_routes
from .base import Door
from .files import file_routes
from .grids import GridRoutes
from .sessions import session_routes
from .tasks import TaskRoutes
from .watch import watch_routes

__all__ = [
    "Door",
    "GridRoutes",
    "TaskRoutes",
    "app_routes",
    "file_routes",
    "session_routes",
    "watch_routes",
]
