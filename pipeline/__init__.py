"""The pipeline of a send: ordered ASGI stages that enrich a request context and end in one publishing handler.

Nothing here knows Redis, RabbitMQ, SQLite or the environment: what is needed from outside stands in ``pipeline.ports``.
"""
