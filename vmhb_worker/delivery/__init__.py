"""At-least-once delivery of notifications: on disk before they are sent."""
