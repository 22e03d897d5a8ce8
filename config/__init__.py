"""What an operator sets: settings from the environment, vendors and tenants, code tables. Imports nothing of ours."""
