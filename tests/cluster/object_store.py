"""An object store on this machine that speaks S3."""

BUCKET = "wan"
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "of these tests",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


class ObjectStore:
    """A server with an empty bucket."""

    def __init__(self):
        from moto.server import ThreadedMotoServer

        self.server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self.server.start()
        host, port = self.server.get_host_and_port()
        self.environment = {**CREDENTIALS, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
        self.url = f"s3://{BUCKET}"

    def make_bucket(self):
        import fsspec

        fsspec.filesystem("s3").mkdir(BUCKET)

    def close(self):
        self.server.stop()
