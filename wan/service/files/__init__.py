"""Files of the service: taking them in, keeping them under names of our own, giving them out."""

from .keep import FileStore

__all__ = ["FileStore"]
