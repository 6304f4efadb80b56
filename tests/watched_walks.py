"""The VAE at work, watched: whichever forward computes."""


def watch_walks(undo, room, name, look):
    """Have `look(walk, (chunk,))` called before each chunk that goes through the VAE.

    Args:
        undo: a monkeypatch.
        room: the module that opens the walks.
        name: "open_decoder" or "open_encoder".
    """
    opened = getattr(room, name)

    class Watched:
        def __init__(self, *args, **options):
            self._walk = opened(*args, **options)
            self.restart = self._walk.restart

        def __call__(self, chunk):
            look(self, (chunk,))
            return self._walk(chunk)

    undo.setattr(room, name, Watched)
