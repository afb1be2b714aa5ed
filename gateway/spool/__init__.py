"""The spool: where messages wait on this machine's disk while RabbitMQ cannot take them."""
