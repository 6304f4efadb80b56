"""A real Ray cluster of several nodes on this machine, and `serve` over it."""

import os
import sys
from contextlib import suppress

os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")

from serve_process import KEY, ROOT, ServeProcess  # noqa: F401

# A node that died is noticed after about two seconds, for tests that wait for it.
QUICK = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 3,
}
SMALL_NODE = {
    "num_cpus": 1,
    "num_gpus": 0,
    "object_store_memory": 80 * 2**20,
}


class Nodes:
    """Nodes of one CPU each; the head has none, so that it runs no worker."""

    def __init__(self, count):
        self.count, self.old = count, []
        self.start()

    def start(self, port=0):
        """Begin a cluster."""
        from ray.cluster_utils import Cluster

        head = {**SMALL_NODE, "num_cpus": 0, "include_dashboard": False, "_system_config": QUICK}
        head |= {"gcs_server_port": port} if port else {}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = []
        for _ in range(self.count):
            self.add()

    @property
    def address(self):
        return self.cluster.address

    def add(self):
        self.nodes.append(self.cluster.add_node(**SMALL_NODE))

    def kill_node(self, node):
        """At once, with everything on it."""
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)

    def kill_head(self):
        """The head's processes; nodes are left alone, as by a power cut of one machine."""
        self.cluster.head_node.kill_all_processes(
            check_alive=False, allow_graceful=False, wait=True
        )

    def restart(self):
        """A new head at the old one's address, with new nodes."""
        port = int(self.address.rpartition(":")[2])
        self.old.append(self.cluster)
        self.start(port)

    def workers(self):
        """(node, psutil process) of each worker of a service."""
        import psutil

        found = []
        for node in self.nodes:
            raylet = node.all_processes["raylet"][0].process
            for child in psutil.Process(raylet.pid).children(recursive=True):
                with suppress(psutil.Error):
                    if "WorkerActor" in " ".join(child.cmdline()):
                        found.append((node, child))
        return found

    def close(self):
        for cluster in (*self.old, self.cluster):
            cluster.shutdown()


class RayServe(ServeProcess):
    """`serve --executor ray` over a data folder."""

    def __init__(self, data, address, *more):
        self.more = ("--executor", "ray", "--address", address, *more)
        super().__init__(data)


def serve_command(data, *more):
    """The command line, with the tiny models."""
    command = [sys.executable, "-m", "wan", "serve", "--models", "tiny", "--port", "0"]
    return [*command, "--data", str(data), *more]
