"""What goes on, for those who run the service: workers, queue, counters and times."""
