"""The operator's commands without their command line, which is in ``streams/cli``: one package per subject."""
