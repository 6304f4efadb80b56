"""The parameters of both apps: one table that feeds nodes, command line and service."""

from .animate import ANIMATE_APP
from .i2v import I2V_APP
from .table import App, Param
from .validate import validate

APPS: dict[str, App] = {app.name: app for app in (I2V_APP, ANIMATE_APP)}
"""By the name that follows the publisher in the hosted app's id."""

__all__ = ["ANIMATE_APP", "APPS", "I2V_APP", "App", "Param", "validate"]
