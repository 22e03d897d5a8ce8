"""The tables without identities: rows for analysts who may not see patients (docs/without-identities.md).

The invariant: **a value is in these tables only by a rule that its column names**, and no rule but those for numbers,
yes or no, and known words lets a value through as it is. A column without a rule is left out, so that a new column,
or a view of the user's, shows nothing by mistake.
"""
