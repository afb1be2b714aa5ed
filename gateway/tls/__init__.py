"""TLS to Redis and RabbitMQ: whom to trust, what to show, and what to do when it fails."""
