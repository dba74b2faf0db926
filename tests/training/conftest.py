"""What the tests of training share: a tiny cohort, and a model trained on it, once a file."""

import pytest
import small_training as small


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return small.cohort(tmp_path_factory.mktemp("cohort"))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return small.trained(data, tmp_path_factory.mktemp("trained") / "run")
