import pickle

import pytest

from megabyte_mm.errors import ArgumentValueError, FieldError, PathNotFoundError, check_positive, errors_inside


@pytest.mark.parametrize(
    ("reason", "text"),
    [("12 is too small", "data.window 12 is too small"), (": none is given", "data.window: none is given")],
)
def test_a_field_error_reads_as_the_dotted_field_and_the_reason(reason, text):
    error = FieldError("window", reason).inside("data")
    assert (error.field, error.reason, str(error)) == ("data.window", reason, text)


def test_a_field_error_keeps_its_class_and_field_through_pickle_and_nesting():
    error = pickle.loads(pickle.dumps(ArgumentValueError("count", "is 0").inside("options")))
    assert type(error) is ArgumentValueError
    assert (error.field, str(error)) == ("options.count", "options.count is 0")


def test_an_error_inside_a_section_names_it_and_a_missing_path_is_still_a_missing_file():
    with pytest.raises(FileNotFoundError) as caught, errors_inside("data"):
        raise PathNotFoundError("path", "photos/: no such file or folder")
    error = pickle.loads(pickle.dumps(caught.value))
    assert (type(error), str(error)) == (PathNotFoundError, "data.path photos/: no such file or folder")


def test_counts_below_one_are_errors_of_their_argument():
    check_positive(workers=1, window=None)
    with pytest.raises(ArgumentValueError, match="batch_size is 0; it must be at least 1"):
        check_positive(workers=1, batch_size=0)
