"""What a deployment is at: how much has come in, how much of it waits, and how fast it moves."""
