"""A server for the whole path."""

import pytest
from registry_fixtures import chat_folder as chat_folder
from registry_fixtures import suite as suite
from registry_fixtures import suite_file as suite_file
from registry_fixtures import template_database
from servers import free_port as unused_port
from servers import start_server


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> str:
    server = start_server(tmp_path_factory.mktemp("server"), database=template_database())
    yield server.uri
    server.kill()


@pytest.fixture
def free_port() -> int:
    return unused_port()
