"""Every row of the table of Meta's errors, and what stands in no row."""

import pytest

from automations.instagram.graph_errors import ERROR_CLASSES, ErrorClass, classify_error

# As the facts list them; a subcode that is not listed must not change the class.
ROWS = [
    (190, None, "TOKEN_DEAD"),
    (190, 463, "TOKEN_DEAD"),
    (102, None, "TOKEN_DEAD"),
    (4, None, "RATE"),
    (17, None, "RATE"),
    (32, None, "RATE"),
    (613, None, "RATE"),
    (613, 1893001, "RATE"),
    (80002, None, "RATE"),
    (10, 2534022, "OUTSIDE_WINDOW"),
    (10, 2018278, "OUTSIDE_WINDOW"),
    (10, None, "CONFIGURATION"),
    (10, 99, "CONFIGURATION"),
    (200, None, "CONFIGURATION"),
    (3, None, "CONFIGURATION"),
    (200, 2018028, "CONFIGURATION"),
    (200, 2534041, "CONFIGURATION"),
    (100, 2534014, "PERMANENT"),
    (100, 33, "PERMANENT"),
    (551, None, "PERMANENT"),
    (100, 2534029, "PERMANENT"),
    (100, 2534013, "PERMANENT"),
    (100, None, "PERMANENT"),
    (100, 2534025, "ALREADY_REPLIED"),
    (10, 2018300, "CONFLICT"),
    (100, 2534037, "CONFLICT"),
    (10, 1893063, "RESTRICTED"),
    (230, None, "NO_CONSENT"),
    (1, None, "UNKNOWN"),
    (2, None, "UNKNOWN"),
    (1, 1357046, "UNKNOWN"),
    (2, 1545133, "UNKNOWN"),
    (20, 1772107, "UNKNOWN"),
]


@pytest.mark.parametrize(("code", "subcode", "expected"), ROWS)
def test_a_row(code: int, subcode: int | None, expected: str) -> None:
    assert classify_error(code, subcode, status=400) is ErrorClass[expected]


def test_every_row_of_the_table_is_tested() -> None:
    assert ERROR_CLASSES.keys() <= {(code, subcode) for code, subcode, _ in ROWS}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, "PERMANENT"),
        (403, "PERMANENT"),
        (404, "PERMANENT"),
        (401, "TOKEN_DEAD"),
        (408, "UNKNOWN"),
        (429, "RATE"),
        (302, "CONFIGURATION"),
        (500, "UNKNOWN"),
        (502, "UNKNOWN"),
        (504, "UNKNOWN"),
        (200, "UNKNOWN"),
    ],
)
@pytest.mark.parametrize("code", [None, 999_999])
def test_a_code_that_is_not_known_goes_by_the_status(
    code: int | None, status: int, expected: str
) -> None:
    assert classify_error(code, None, status=status) is ErrorClass[expected]


def test_a_transient_error_may_have_been_delivered() -> None:
    assert classify_error(999, None, status=400, is_transient=True) is ErrorClass.UNKNOWN


def test_the_code_is_believed_before_the_status() -> None:
    assert classify_error(190, None, status=500, is_transient=True) is ErrorClass.TOKEN_DEAD
