"""The only owner of durable state: tracking, log, rejects, runs and due times, all in one connection."""
