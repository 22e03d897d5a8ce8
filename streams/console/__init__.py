"""The console: pages on which people see what the pipeline does (docs/console.md).

Pages are rendered on the server. `live` reads offsets and groups, `event_index` reads what the topics tell about each
event, `views` make the pages, `access` decides who may see and do what.
"""
