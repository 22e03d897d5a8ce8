"""Resources for the tests of the validator: valid samples, and mutants of them."""
