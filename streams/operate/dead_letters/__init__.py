"""Dead letters: read them, group them, send their events through the mapping again, export them.

``cases`` joins the dead letters of one event to a case with a status, ``board`` reads them from the topics, ``redrive``
sends events again. docs/dead-letters.md is the operator's view.
"""
