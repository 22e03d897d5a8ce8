"""Every exit code of every command and process, with its meaning.

The module is in ``config`` because a command (``streams/cli``) and the worker's fence (``streams/step2_consume``) use
it, and neither may import the other. No other module spells a number: a test compares.

0, 1 and 2 mean the same for all commands: done; done, and the result needs attention; something that the command needs
is wrong, mostly found before it began. Each 1 has a name of its own, so that a command's code reads as its
documentation does.
"""

DONE = 0
"""Everything that was asked for is done, and nothing needs attention."""

# 1: the command has run, and its result needs attention.

DIFFERS = 1
"""``topics plan``, ``topics asyncapi --check``, ``replay --diff``, ``deliver verify``: something differs."""

INCOMPLETE = 1
"""``ingest``, ``topics apply``, ``dead-letters redrive``, ``replay``, ``deliver --from topics`` and
``python -m benchmarks``: a part failed.

All else is done.
"""

NOT_FOUND = 1
"""``trace``, ``dead-letters show``, ``deliver resume``: no such resource, event, dead letter or waiting Bundle."""

LAG_EXCEEDED = 1
"""``status --max-lag``: a raw topic's lag is larger, or unknown."""

PROBLEM_FOUND = 1
"""``doctor``: at least one finding is a problem."""

NOT_ERASED = 1
"""``forget``: the patient is unknown, or records of the patient remain. Run the command again."""

REFUSED = 1
"""``infermedica``: the instance refused the request, or did not answer."""

STACK_FAILED = 1
"""``demo``, ``dev``: a process of the stack failed, or an expected resource did not arrive."""

DECLINED = 1
"""Any command that asks: the answer was no. Nothing was done."""

ORPHANED = 1
"""A mapping process of ``replay`` whose parent process ended."""

UNREAD = 1
"""Any command: the reader of its result, such as ``head``, ended before the result did."""

DEFECT = 1
"""Any command: an exception that nothing expected, Python's own code. A service logs ``crashed`` before it."""

# 2: something that the command needs is wrong. Mostly nothing was done.

UNUSABLE = 2
"""A wrong argument, setting, file or table, a missing privilege or topic, or a cluster that does not answer.

Also a result that standard output does not take: it is closed, or its disk is full.

``doctor`` continues with its next check, and ends with this code where another command would have ended at once.
``deliver``, ``enrich``, ``tables``, ``replay`` and ``export`` may have begun: what was committed or written is kept.
"""

UNMAPPED = 2
"""``map``: an event is unreadable, unsupported or refused. The other events are mapped."""

# Other codes.

UNCOMMITTED = 70
"""``worker``, ``enrich``, ``deliver``, ``tables``: the process ended without committing what was not sure to be stored.

The worker also ends so where it loses the brokers while it starts.
The supervisor starts it again, and it repeats the batch. The number is EX_SOFTWARE of sysexits.h.
"""

OTHER_WRITER = 75
"""``tables``: a process of another group keeps the same tables, or another one has changed them. Nothing was written.

Started again, the process begins where the other one is, and one of the two ends again: stop one of them permanently.
The number is EX_TEMPFAIL of sysexits.h.
"""

INTERRUPTED = 130
"""Interrupted by Ctrl-C (128 + SIGINT). What is done is kept.

``replay`` can be resumed, and ``deliver --from topics`` be run again.

``gateway``, ``worker``, ``enrich``, ``deliver``, ``tables``, ``dev`` and a live ``status`` end in order instead, with
0.
"""
