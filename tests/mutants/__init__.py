"""Faults planted in sql/, one for each rule of money, locks and privileges, and what notices them.

A test that cannot fail is a defect. `python -m tests.mutants` installs the SQL with one fault at
a time and runs the test that is named beside it, which must fail.
"""
