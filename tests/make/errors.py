"""What every error for the user looks like."""

import re

import pytest

from refine.errors import RefineError


def refused(*words):
    """One line that says all of this."""
    pattern = "".join(f"(?=.*{re.escape(str(word))})" for word in words)
    return pytest.raises(RefineError, match=rf"\A{pattern}[^\n]+\Z")
