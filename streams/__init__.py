"""The Kafka shell around the mappers: the journey of one event, in the order of the file names.

``step1_receive`` (webhook or file → ``raw.<vendor>``), ``step2_consume`` (Faust agents; ``batch``: what each does with
a batch, by the next three), ``step3_restore`` (state), ``step4_normalize`` (records in, records out), ``step5_deliver``
(one barrier). ``cli`` starts them.
"""
