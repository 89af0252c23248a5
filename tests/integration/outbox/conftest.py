"""What the tests of the outbox share."""

from typing import Any

import pytest
from pymongo.database import Database

from tests.support.outbox_fakes import Rig


@pytest.fixture
def rig(db: Database[dict[str, Any]]) -> Rig:
    return Rig(db)
