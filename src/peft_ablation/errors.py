"""The one exception for input that a person must mend."""


class InputError(Exception):
    """A config, file, row or service is not as it must be.

    The message is one line for the person at the terminal: what, where, what was found, what was
    expected, and what to do. Entry points print it without a traceback and exit with status 1.
    It must never hold a patient's text, image or identifier other than a de-identified path or
    `dicom_id` of the data set itself.
    """
