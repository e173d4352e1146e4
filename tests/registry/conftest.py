"""What these tests share with the tests of the other upper layers."""

from registry_fixtures import chat_folder as chat_folder
from registry_fixtures import sqlite_registry as sqlite_registry
from registry_fixtures import suite as suite
from registry_fixtures import suite_file as suite_file
from registry_fixtures import tracking as tracking
from registry_fixtures import write_edits as write_edits
from servers import server as server
