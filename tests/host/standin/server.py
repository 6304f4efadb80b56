"""The server is not running: `PromptServer` can be imported but has no instance."""


class PromptServer:
    """Deliberately without `instance`: packs must ask with `getattr(..., "instance", None)`."""
