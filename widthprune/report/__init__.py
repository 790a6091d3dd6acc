"""Results as they are stored, read, computed with and drawn; published and measured ones in one table format.

In: results files, and the paper's tables. Out: tables, differences with their errors, figures, displays of verdicts.
Measures nothing, and needs no torch. May import the core and `models`.
"""
