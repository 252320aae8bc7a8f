"""What people and machines see of a run while it goes on. An observer may fail quietly; the durable record may not."""
