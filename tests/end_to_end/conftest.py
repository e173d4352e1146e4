"""A server for the whole path."""

import pytest
from servers import free_port as unused_port
from servers import start_server


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> str:
    server = start_server(tmp_path_factory.mktemp("server"))
    yield server.uri
    server.kill()


@pytest.fixture
def free_port() -> int:
    return unused_port()
