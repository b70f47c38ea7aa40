"""Stands in for pip where the packages are installed already: `python -m pip install ...` succeeds at once."""
