"""RabbitMQ behind the ports: the outbox on one connection, the heartbeats on another."""

from gateway.rabbitmq.heartbeats import RabbitHeartbeats
from gateway.rabbitmq.outbox import RabbitOutbox
from gateway.rabbitmq.topology import Topology

__all__ = ["RabbitHeartbeats", "RabbitOutbox", "Topology"]
