"""What the HTTP clients of several stages share."""
