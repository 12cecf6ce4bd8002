import pytest


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """One folder for all examples of a property: hypothesis does not want a fresh one for each."""
    return tmp_path_factory.mktemp("media")
