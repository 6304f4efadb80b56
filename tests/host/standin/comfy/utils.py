"""Progress reports of a node."""

PROGRESS_BAR_HOOK = None


def set_progress_bar_global_hook(function):
    """`function(value, total, preview, node_id=...)` is called on each report."""
    global PROGRESS_BAR_HOOK
    PROGRESS_BAR_HOOK = function


class ProgressBar:
    """One bar of one node. Each report is a point where a cancelled run stops."""

    def __init__(self, total, node_id=None):
        self.total = total
        self.current = 0
        self.node_id = node_id
        self.hook = PROGRESS_BAR_HOOK  # the host, too, binds it when the bar is made

    def update_absolute(self, value, total=None, preview=None):
        """Report `value` of `total`; preview = ("JPEG", PIL image, longest side or None)."""
        if total is not None:
            self.total = total
        self.current = min(value, self.total)
        if self.hook is not None:
            self.hook(self.current, self.total, preview, node_id=self.node_id)

    def update(self, value):
        self.update_absolute(self.current + value)
