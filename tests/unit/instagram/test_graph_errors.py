import pytest

from automations.instagram.graph_errors import ERROR_CLASSES, ErrorClass, classify_error

# As the facts list them; a subcode that is not listed must not change the class.
ROWS: dict[str, list[tuple[int, int | None]]] = {
    "TOKEN_DEAD": [(190, None), (190, 463), (102, None)],
    "RATE": [(4, None), (17, None), (32, None), (613, None), (613, 1893001), (80002, None)],
    "OUTSIDE_WINDOW": [(10, 2534022), (10, 2018278)],
    "CONFIGURATION": [(3, None), (10, None), (10, 99), (200, None), (200, 2018028), (200, 2534041)],
    "PERMANENT": [(100, one) for one in (None, 33, 2534013, 2534014, 2534029)] + [(551, None)],
    "ALREADY_REPLIED": [(100, 2534025)],
    "CONFLICT": [(10, 2018300), (100, 2534037)],
    "RESTRICTED": [(10, 1893063)],
    "NO_CONSENT": [(230, None)],
    "UNKNOWN": [(1, None), (2, None), (1, 1357046), (2, 1545133), (20, 1772107)],
}
STATUSES = {
    "PERMANENT": [400, 403, 404],
    "TOKEN_DEAD": [401],
    "RATE": [429],
    "CONFIGURATION": [302],
    "UNKNOWN": [200, 408, 500, 502, 504],
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row(name: str) -> None:
    for code, subcode in ROWS[name]:
        assert classify_error(code, subcode, status=400) is ErrorClass[name], (code, subcode)


def test_every_row_of_the_table_is_tested() -> None:
    assert ERROR_CLASSES.keys() <= {row for rows in ROWS.values() for row in rows}


@pytest.mark.parametrize("name", STATUSES)
@pytest.mark.parametrize("code", [None, 999_999])
def test_a_code_that_is_not_known_goes_by_the_status(code: int | None, name: str) -> None:
    for status in STATUSES[name]:
        assert classify_error(code, None, status=status) is ErrorClass[name], status


def test_a_transient_error_may_have_been_delivered() -> None:
    assert classify_error(999, None, status=400, is_transient=True) is ErrorClass.UNKNOWN


def test_the_code_is_believed_before_the_status() -> None:
    assert classify_error(190, None, status=500, is_transient=True) is ErrorClass.TOKEN_DEAD
