"""Share what HTTP clients of several stages need, and the refusals of gateway and console."""
