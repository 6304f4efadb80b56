"""Room of the stage "service": the hosted apps' HTTP API, answered by this machine.

`statuses`, `records`, `problems`, `settings` and `executor` are what the other files share.
"""
