"""What HTTP clients of several stages share (tokens, ``Retry-After``), and the refusals of gateway and console."""
